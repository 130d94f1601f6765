"""Each AWS platform's resource, against loopback metadata services that are well, ill or absent."""

from __future__ import annotations

import base64
import datetime
import ipaddress
import json
import ssl
import time

import pytest
from opentelemetry.semconv._incubating.attributes import (
    aws_attributes,
    cloud_attributes,
    container_attributes,
    faas_attributes,
    host_attributes,
    k8s_attributes,
    service_attributes,
)

from spanwell.enrich.aws import AwsResourceDetector
from spanwell.enrich.metadata import Budget, fetch
from support import metadata_server as servers

HANG_GATE = 2.0
OWN = "7be92808767a667f35c8505cbf40d14e931ef6db5b0210329cf193b15ba9d605"
UID = "86d8d7b5-4a6d-4b1c-9a3f-2a8e3f1c0b11"
EC2 = {"/sys/class/dmi/id/sys_vendor": "Amazon EC2\n"}
ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount/"

STANDARD_NAMES = {
    value
    for module in (
        aws_attributes,
        cloud_attributes,
        container_attributes,
        faas_attributes,
        host_attributes,
        k8s_attributes,
        service_attributes,
    )
    for value in vars(module).values()
    if isinstance(value, str)
}


def no_network(method, url, headers, seconds, cafile):
    raise AssertionError(f"asked {url}")


def no_link(path):
    raise FileNotFoundError(path)


def detector(environ, files=None, **more):
    more.setdefault("readlink", no_link)
    return AwsResourceDetector(environ, read=lambda path: (files or {}).get(path, ""), **more)


def attributes(made):
    found = dict(made.detect().attributes)
    assert set(found) <= STANDARD_NAMES
    return found


def test_off_aws_there_is_nothing():
    assert attributes(detector({"AWS_REGION": "eu-west-1"}, fetch=no_network)) == {}


def test_lambda_needs_no_network():
    environ = {
        "AWS_LAMBDA_FUNCTION_NAME": "resize",
        "AWS_LAMBDA_FUNCTION_VERSION": "7",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "512",
        "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/resize",
        "AWS_LAMBDA_LOG_STREAM_NAME": "2026/01/01/[7]abc",
        "AWS_REGION": "eu-west-1",
    }
    found = attributes(detector(environ, fetch=no_network))
    assert found == {
        "cloud.provider": "aws",
        "cloud.platform": "aws_lambda",
        "cloud.region": "eu-west-1",
        "faas.name": "resize",
        "faas.version": "7",
        "faas.instance": "2026/01/01/[7]abc",
        "faas.max_memory": 512 * 1024 * 1024,
        "aws.log.group.names": ("/aws/lambda/resize",),
        "aws.log.stream.names": ("2026/01/01/[7]abc",),
    }


def test_lambda_account_from_the_extensions_link():
    environ = {"AWS_LAMBDA_FUNCTION_NAME": "f", "AWS_REGION": "cn-north-1", "AWS_LAMBDA_LOG_GROUP_NAME": "g"}
    found = attributes(detector(environ, readlink=lambda path: "011122223333"))
    assert found["cloud.account.id"] == "011122223333"
    assert found["aws.log.group.arns"] == ("arn:aws-cn:logs:cn-north-1:011122223333:log-group:g",)
    assert "cloud.account.id" not in attributes(detector(environ, readlink=lambda path: "../etc/passwd"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("launch_type", "container_id", "container_name"),
    [
        ("EC2", servers.DOCKER_ID, "ecs-shop-24-web-cca48e8dcadd97805600"),
        ("FARGATE", servers.FARGATE_ID, "web"),
    ],
)
def test_ecs(launch_type, container_id, container_name):
    with servers.http(servers.ecs(launch_type)) as url:
        found = attributes(detector({"ECS_CONTAINER_METADATA_URI_V4": f"{url}/v4/abc"}))
    logs = "arn:aws:logs:us-west-2:111122223333:log-group:/ecs/shop"
    container_arn = "arn:aws:ecs:us-west-2:111122223333:container/0206b271-b33f-47ab-86c6-a0ba208a70a9"
    assert found == {
        "cloud.provider": "aws",
        "cloud.platform": "aws_ecs",
        "cloud.region": "us-west-2",
        "cloud.account.id": "111122223333",
        "cloud.availability_zone": "us-west-2d",
        "cloud.resource_id": container_arn,
        "aws.ecs.container.arn": container_arn,
        "aws.ecs.cluster.arn": "arn:aws:ecs:us-west-2:111122223333:cluster/default",
        "aws.ecs.task.arn": f"arn:aws:ecs:us-west-2:111122223333:task/default/{servers.TASK_ID}",
        "aws.ecs.task.id": servers.TASK_ID,
        "aws.ecs.task.family": "shop",
        "aws.ecs.task.revision": "24",
        "aws.ecs.launchtype": launch_type.lower(),
        "container.id": container_id,
        "container.name": container_name,
        "container.image.name": "111122223333.dkr.ecr.us-west-2.amazonaws.com/shop/web",
        "container.image.tags": ("1.4.2",),
        "container.image.id": servers.container(launch_type)["ImageID"],
        "aws.log.group.names": ("/ecs/shop",),
        "aws.log.group.arns": (logs,),
        "aws.log.stream.names": (f"ecs/web/{servers.TASK_ID}",),
        "aws.log.stream.arns": (f"{logs}:log-stream:ecs/web/{servers.TASK_ID}",),
    }


def test_ecs_without_the_task_document_takes_the_containers_labels():
    def half_there(method, url, headers, seconds, cafile):
        if url.endswith("/task"):
            raise OSError("status 500")
        return json.dumps(servers.container("FARGATE")).encode()

    environ = {"ECS_CONTAINER_METADATA_URI_V4": "http://169.254.170.2/v4/a", "AWS_EXECUTION_ENV": "AWS_ECS_FARGATE"}
    made = detector(environ, fetch=half_there)
    found = attributes(made)
    assert found["aws.ecs.cluster.arn"] == "arn:aws:ecs:us-west-2:111122223333:cluster/default"
    assert found["aws.ecs.task.id"] == servers.TASK_ID
    assert found["aws.ecs.task.family"] == "shop"
    assert found["aws.ecs.launchtype"] == "fargate"
    assert "cloud.availability_zone" not in found
    assert made.problems == ("http://169.254.170.2/v4/a/task: OSError: status 500",)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("web", {"container.image.name": "web"}),
        ("localhost:5000/web", {"container.image.name": "localhost:5000/web"}),
        ("a/web:1", {"container.image.name": "a/web", "container.image.tags": ("1",)}),
        (
            "a/web@sha256:00",
            {"container.image.name": "a/web", "container.image.repo_digests": ("a/web@sha256:00",)},
        ),
    ],
)
def test_image_names(image, expected):
    def only_the_image(method, url, headers, seconds, cafile):
        return json.dumps({"Image": image}).encode()

    found = attributes(detector({"ECS_CONTAINER_METADATA_URI_V4": "http://1.1.1.1"}, fetch=only_the_image))
    assert {key: value for key, value in found.items() if key.startswith("container.")} == expected


@pytest.mark.slow
def test_ec2_asks_for_a_token_first():
    calls = []
    with servers.http(servers.imds(calls)) as url:
        found = attributes(
            detector(
                {"AWS_EC2_METADATA_SERVICE_ENDPOINT": url, "AWS_REGION": "us-east-1"},
                {**EC2, "/proc/sys/kernel/hostname": "ip-10-0-0-1\n"},
            )
        )
    assert calls == [("PUT", "/latest/api/token"), ("GET", "/latest/dynamic/instance-identity/document")]
    assert found == {
        "cloud.provider": "aws",
        "cloud.platform": "aws_ec2",
        "cloud.region": "eu-west-1",
        "cloud.account.id": "111122223333",
        "cloud.availability_zone": "eu-west-1b",
        "cloud.resource_id": "arn:aws:ec2:eu-west-1:111122223333:instance/i-0123456789abcdef0",
        "host.id": "i-0123456789abcdef0",
        "host.type": "m5.large",
        "host.image.id": "ami-0abcdef1234567890",
        "host.name": "ip-10-0-0-1",
    }


@pytest.mark.parametrize(
    ("environ", "budget"), [({"AWS_EC2_METADATA_DISABLED": "TRUE"}, 0.3), ({"AWS_REGION": "eu-west-1"}, 0.0)]
)
def test_ec2_without_the_network_is_told_by_dmi(environ, budget):
    dmi = {
        **EC2,
        "/sys/class/dmi/id/board_asset_tag": "i-0123456789abcdef0\n",
        "/sys/class/dmi/id/product_name": "m5.large\n",
    }
    found = attributes(detector(environ, dmi, budget=budget, fetch=no_network))
    assert (found["host.id"], found["host.type"]) == ("i-0123456789abcdef0", "m5.large")


@pytest.mark.slow
def test_beanstalk_never_names_the_service():
    conf = '{"environment_name": "shop-prod", "version_label": "v7", "deployment_id": 32, "service.name": "x"}'
    files = {**EC2, "/var/elasticbeanstalk/xray/environment.conf": conf}
    with servers.http(servers.imds()) as url:
        found = attributes(detector({"AWS_EC2_METADATA_SERVICE_ENDPOINT": url}, files))
    assert found["cloud.platform"] == "aws_elastic_beanstalk"
    assert found["service.namespace"] == "shop-prod"
    assert found["service.version"] == "v7"
    assert found["service.instance.id"] == "32"
    assert found["cloud.account.id"] == "111122223333"
    assert "service.name" not in found


def token(claims):
    body = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"e30.{body}.sig"


CLAIMS = {
    "iss": "https://oidc.eks.us-west-2.amazonaws.com/id/EXAMPLE",
    "kubernetes.io": {
        "namespace": "shop",
        "pod": {"name": "web-7d9f8c6b5d-x2x4z", "uid": UID},
        "node": {"name": "ip-10-0-1-2.us-west-2.compute.internal"},
    },
}


def test_eks_from_files_alone():
    files = {
        **EC2,
        f"{ACCOUNT}token": token(CLAIMS),
        f"{ACCOUNT}namespace": "shop",
        "/proc/self/cgroup": f"0::/kubepods.slice/cri-containerd-{OWN}.scope\n",
        "/proc/self/mountinfo": f"1 2 259:1 /pods/{UID}/containers/web/0d /dev/termination-log rw - x x x",
    }
    found = attributes(detector({"KUBERNETES_SERVICE_HOST": "10.100.0.1"}, files, budget=0))
    assert found == {
        "cloud.provider": "aws",
        "cloud.platform": "aws_eks",
        "cloud.region": "us-west-2",
        "container.id": OWN,
        "k8s.namespace.name": "shop",
        "k8s.pod.name": "web-7d9f8c6b5d-x2x4z",
        "k8s.pod.uid": UID,
        "k8s.node.name": "ip-10-0-1-2.us-west-2.compute.internal",
        "k8s.container.name": "web",
    }


@pytest.mark.parametrize(
    ("host", "pod"), [("web-7d9f8c6b5d-x2x4z", "web-7d9f8c6b5d-x2x4z"), ("ip-10-0-1-2.ec2.internal", None)]
)
def test_eks_without_a_token_takes_the_host_name_unless_it_is_the_nodes(host, pod):
    environ = {"KUBERNETES_SERVICE_HOST": "10.100.0.1", "HOSTNAME": host}
    assert attributes(detector(environ, EC2, budget=0)).get("k8s.pod.name") == pod


def certificate(folder):
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "kubernetes")])
    now = datetime.datetime.now(datetime.timezone.utc)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (folder / "ca.crt").write_bytes(made.public_bytes(pem))
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "key.pem").write_bytes(private)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "ca.crt", folder / "key.pem")
    return context


@pytest.mark.slow
@pytest.mark.parametrize("trusted", [True, False])
def test_eks_cluster_name_from_the_api_server(tmp_path, trusted):
    asked = []

    def api(method, path, headers):
        asked.append((path, headers["Authorization"]))
        return 200, b'{"data": {"cluster.name": "prod", "logs.region": "us-west-2"}}'

    def with_our_ca(method, url, headers, seconds, cafile):
        return fetch(method, url, headers, seconds, str(tmp_path / "ca.crt") if trusted else "")

    with servers.http(api, certificate(tmp_path)) as url:
        environ = {
            "KUBERNETES_SERVICE_HOST": "127.0.0.1",
            "KUBERNETES_SERVICE_PORT": url.rpartition(":")[2],
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        made = detector(environ, {**EC2, f"{ACCOUNT}token": token(CLAIMS)}, fetch=with_our_ca, budget=2)
        found = attributes(made)
    if trusted:
        assert found["k8s.cluster.name"] == "prod"
        path = "/api/v1/namespaces/amazon-cloudwatch/configmaps/cluster-info"
        assert asked == [(path, f"Bearer {token(CLAIMS)}")]
    else:
        assert asked == []
        assert "CERTIFICATE_VERIFY_FAILED" in made.problems[0]
    assert token(CLAIMS) not in "".join(made.problems)


@pytest.mark.slow
@pytest.mark.parametrize("behave", [servers.hang, servers.drip, servers.drip_body, servers.half, servers.noise])
def test_an_ill_metadata_service_costs_the_budget_at_most(behave):
    with servers.raw(behave) as url:
        for environ, files in (
            ({"ECS_CONTAINER_METADATA_URI_V4": url, "AWS_REGION": "eu-west-1"}, {}),
            ({"AWS_EC2_METADATA_SERVICE_ENDPOINT": url, "AWS_REGION": "eu-west-1"}, EC2),
        ):
            before = time.monotonic()
            made = detector(environ, files, budget=0.2)
            found = attributes(made)
            assert time.monotonic() - before < HANG_GATE
            assert found["cloud.region"] == "eu-west-1"
            assert len(found) == 3
            assert made.problems


@pytest.mark.slow
@pytest.mark.parametrize(
    "answer",
    [
        pytest.param((500, b"{}"), id="500"),
        pytest.param((403, b"{}"), id="403"),
        pytest.param((302, b"{}"), id="redirect"),
        pytest.param((200, b"<html>"), id="html"),
        pytest.param((200, b"[1]"), id="list"),
        pytest.param((200, b"[" * 100000), id="deep"),
        pytest.param((200, b"\xff\xfe"), id="bytes"),
        pytest.param((200, b'{"TaskARN": "' + b"x" * 300000 + b'"}'), id="huge"),
    ],
)
def test_a_useless_answer_leaves_what_is_known_locally(answer):
    with servers.http(lambda *request: answer) as url:
        made = detector({"ECS_CONTAINER_METADATA_URI_V4": url, "AWS_EXECUTION_ENV": "AWS_ECS_EC2"}, budget=1)
        found = attributes(made)
    assert found == {"cloud.provider": "aws", "cloud.platform": "aws_ecs", "aws.ecs.launchtype": "ec2"}
    assert len(made.problems) == 2


def test_all_requests_share_one_budget():
    now = [100.0]
    left = []

    def slow(method, url, headers, seconds, cafile):
        left.append(round(seconds, 3))
        now[0] += 0.2
        return b"{}"

    budget = Budget(0.3, slow, lambda: now[0])
    assert [budget.text(f"http://1.1.1.1/{page}") for page in range(3)] == ["{}", "{}", ""]
    assert left == [0.3, 0.1]
    assert budget.problems == ["http://1.1.1.1/2: no time left"]


@pytest.mark.parametrize("url", ["", "/v4/x", "ftp://127.0.0.1/", "http://", "http://127.0.0.1:x/", "http://[::1/"])
def test_a_bad_address_is_an_error_that_detection_survives(url):
    with pytest.raises((OSError, ValueError)):
        fetch("GET", url, {}, 0.2)
    if url:
        found = attributes(detector({"ECS_CONTAINER_METADATA_URI_V4": url}))
        assert found == {"cloud.provider": "aws", "cloud.platform": "aws_ecs"}


def test_a_host_name_is_never_resolved():
    with pytest.raises(OSError, match=r"Name or service not known|nodename|non-numeric|not known"):
        fetch("GET", "http://metadata.example/", {}, 5)


@pytest.mark.slow
def test_proxies_are_not_used(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with servers.http(lambda *request: (200, b"direct")) as url:
        assert fetch("GET", url, {}, 2) == b"direct"


@pytest.mark.slow
def test_a_token_with_a_line_break_is_not_sent_back():
    calls = []

    def answer(method, path, headers):
        calls.append(path)
        return 200, b"token\r\nX-Other: 1"

    with servers.http(answer) as url:
        attributes(detector({"AWS_EC2_METADATA_SERVICE_ENDPOINT": url}, EC2))
    assert calls == ["/latest/api/token"]
