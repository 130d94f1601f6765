"""Which container is this? Pure parsers of /proc/self/cgroup and /proc/self/mountinfo; doubt gives no id."""

from __future__ import annotations

import re

# docker, ecs, kubepods: the bare id. systemd driver: `docker-<id>.scope`, `cri-containerd-<id>.scope`,
# `crio-<id>.scope`, `libpod-<id>`. Fargate: 32 hex digits of the task, a dash, digits.
_ID = re.compile(r"(?:[a-z]+(?:-[a-z]+)*-)?([0-9a-f]{64})(?:\.scope)?|([0-9a-f]{32}-[0-9]{1,20})")
_DOCKER_FILE = re.compile(r"/containers/([0-9a-f]{64})/(?:hostname|hosts|resolv\.conf)")
_STORAGE_FILE = re.compile(r"/overlay-containers/([0-9a-f]{64})/userdata/(.+)")
_POD_FILE = re.compile(r"/pods/([0-9a-f-]{36})/(?:containers/([a-z0-9.-]{1,253})/|etc-hosts$)")


def container_id(cgroup: str, mountinfo: str) -> str:
    """The runtime's id of this container (64 hex digits, or Fargate's 32 and a number), or "" when unsure.

    `cgroup` and `mountinfo` are the texts of the files of these names under /proc/self. With a cgroup
    namespace of its own (cgroup v2) the first says nothing and the second may know; pass "" where it may not
    be trusted.
    """
    return _only(_cgroup_ids(cgroup)) or _mounted_id(mountinfo)


def pod_mounts(mountinfo: str) -> tuple[str, str]:
    """(pod uid, container name) from the files that the kubelet mounts into a container; "" when absent."""
    uids: set[str] = set()
    names: set[str] = set()
    for root, target in _mounts(mountinfo):
        found = _POD_FILE.search(root) if target in ("/dev/termination-log", "/etc/hosts") else None
        if found:
            uids.add(found[1])
            names.add(found[2] or "")
    return _only(uids), _only(names - {""})


def _cgroup_ids(cgroup: str) -> set[str]:
    ids = set()
    for line in cgroup.splitlines():
        fields = line.split(":", 2)
        if len(fields) == 3 and fields[0].isdigit():
            ids.add(_path_id(fields[2]))
    return ids - {""}


def _path_id(path: str) -> str:
    # The innermost id is ours: a container within a container has both, and systemd may nest slices below it.
    for part in reversed(path.strip().split("/")):
        # containerd under the systemd driver writes `<slice>:cri-containerd:<id>`.
        found = _ID.fullmatch(part.rpartition(":")[2])
        if found:
            return found[1] or found[2]
    return ""


def _mounted_id(mountinfo: str) -> str:
    mounts = list(_mounts(mountinfo))
    in_pod = "/kubelet/" in mountinfo or any(_POD_FILE.search(root) for root, _ in mounts)
    own, shared = set(), set()
    for root, target in mounts:
        stored = _STORAGE_FILE.search(root)
        if stored and (stored[2].startswith("run/secrets") or (target == "/run/.containerenv" and not in_pod)):
            own.add(stored[1])
        elif not in_pod and target in ("/etc/hostname", "/etc/hosts", "/etc/resolv.conf"):
            docker = _DOCKER_FILE.search(root)
            if docker or stored:
                shared.add((docker or stored)[1])  # type: ignore[index]
    # In a pod these files belong to the sandbox ("pause") container, so they name the wrong one.
    return _only(own) if own else _only(shared)


def _mounts(mountinfo: str) -> list[tuple[str, str]]:
    """(root within its file system, mount point) of each well-formed line."""
    lines = (line.split(" ") for line in mountinfo.splitlines())
    return [(fields[3], fields[4]) for fields in lines if len(fields) > 5]


def _only(found: set[str]) -> str:
    return next(iter(found)) if len(found) == 1 else ""
