"""Which pod of which EKS cluster is this: the service account's files, the kubelet's mounts, one API call."""

from __future__ import annotations

import base64

from spanwell.enrich.container import pod_mounts
from spanwell.enrich.metadata import json_object

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from spanwell.enrich.aws import Attributes
    from spanwell.enrich.metadata import Budget

_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount/"
# Written by the Container Insights set-up; the only place in a cluster that tells its EKS name.
_CLUSTER_INFO = "/api/v1/namespaces/amazon-cloudwatch/configmaps/cluster-info"


def has_token(read: Callable[[str], str]) -> bool:
    """Whether this pod may talk to the API server."""
    return bool(read(_ACCOUNT + "token").strip())


def pod(environ: Mapping[str, str], read: Callable[[str], str], mountinfo: str) -> Attributes:
    """Pod, node, namespace and container, from files alone.

    The claims of the service account's token name the pod exactly; the host name is the pod's name only in a
    pod with a network of its own. The token is read for its claims, never verified and never logged.
    """
    claims = _claims(read(_ACCOUNT + "token")) or _claims(read(environ.get("AWS_WEB_IDENTITY_TOKEN_FILE") or "-"))
    about = claims.get("kubernetes.io")
    about = about if isinstance(about, dict) else {}
    uid, container = pod_mounts(mountinfo)
    found: Attributes = {}
    _put(found, "cloud.region", _issuer_region(claims.get("iss")))
    _put(found, "k8s.namespace.name", read(_ACCOUNT + "namespace").strip() or about.get("namespace"))
    _put(found, "k8s.pod.name", _name(about.get("pod")) or _host_name(environ, read))
    _put(found, "k8s.pod.uid", _name(about.get("pod"), "uid") or uid)
    _put(found, "k8s.node.name", _name(about.get("node")))
    _put(found, "k8s.container.name", container)
    return found


def cluster(environ: Mapping[str, str], read: Callable[[str], str], budget: Budget) -> Attributes:
    """The cluster's name, when its API server lets this pod read it."""
    token = read(_ACCOUNT + "token").strip()
    host, port = environ.get("KUBERNETES_SERVICE_HOST", ""), environ.get("KUBERNETES_SERVICE_PORT", "443")
    if not token or not token.isascii() or not token.isprintable():
        return {}
    host = f"[{host}]" if ":" in host else host
    answer = budget.document(
        f"https://{host}:{port}{_CLUSTER_INFO}",
        headers={"Authorization": f"Bearer {token}"},
        cafile=_ACCOUNT + "ca.crt",
    )
    data = answer.get("data")
    found: Attributes = {}
    if isinstance(data, dict):
        _put(found, "k8s.cluster.name", data.get("cluster.name"))
    return found


def _put(found: Attributes, key: str, value: object) -> None:
    if isinstance(value, str) and value:
        found[key] = value[:4096]


def _name(about: object, key: str = "name") -> object:
    return about.get(key) if isinstance(about, dict) else None


def _claims(token: str) -> dict[str, object]:
    parts = token.strip().split(".")
    if len(parts) != 3:
        return {}
    try:
        return json_object(base64.urlsafe_b64decode(parts[1] + "===").decode("utf-8"))
    except ValueError:
        return {}


def _issuer_region(issuer: object) -> str:
    """`us-west-2` of https://oidc.eks.us-west-2.amazonaws.com/id/… or https://oidc-eks.us-west-2.api.aws/…"""
    host = issuer.partition("://")[2].partition("/")[0].split(".") if isinstance(issuer, str) else []
    if host[:2] == ["oidc", "eks"] and len(host) > 3:
        return host[2]
    return host[1] if host[:1] == ["oidc-eks"] and len(host) > 2 else ""


def _host_name(environ: Mapping[str, str], read: Callable[[str], str]) -> str:
    name = environ.get("HOSTNAME", "") or read("/proc/sys/kernel/hostname").strip()
    # A pod on the host's network has the node's name, which EC2 gives a domain.
    return "" if name.endswith(".internal") else name
