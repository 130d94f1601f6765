"""Container ids from the real shapes of /proc/self/cgroup and /proc/self/mountinfo."""

from __future__ import annotations

import pytest

from spanwell.enrich.container import container_id, pod_mounts

OWN = "7be92808767a667f35c8505cbf40d14e931ef6db5b0210329cf193b15ba9d605"
OTHER = "33a052e35e2a3c9f0ac5bd4a1d4a1e1b1f3a5cb1b2a9e1fcd24d9b7b4d5c6e7f"
FARGATE = "cd189a933e5849daa93386466019ab50-2495160603"
TASK = "158d1c8083dd49d6b527399fd6414f5c"
UID = "86d8d7b5-4a6d-4b1c-9a3f-2a8e3f1c0b11"
V2 = "0::/\n"

DOCKER_V1 = f"""\
13:name=systemd:/docker/{OWN}
12:pids:/docker/{OWN}
11:hugetlb:/docker/{OWN}
1:cpuset:/docker/{OWN}
0::/docker/{OWN}
"""
ECS_EC2_V1 = f"""\
9:perf_event:/ecs/{TASK}/{OWN}
8:memory:/ecs/{TASK}/{OWN}
1:blkio:/ecs/{TASK}/{OWN}
"""
ECS_EC2_OLD_V1 = f"9:memory:/ecs/shop/web/{OWN}\n"
FARGATE_V1 = f"""\
11:hugetlb:/ecs/{TASK}/{FARGATE}
10:pids:/ecs/{TASK}/{FARGATE}
1:name=systemd:/ecs/{TASK}/{FARGATE}
"""
EKS_V1 = f"""\
11:memory:/kubepods/burstable/pod{UID}/{OWN}
10:cpu,cpuacct:/kubepods/burstable/pod{UID}/{OWN}
1:name=systemd:/kubepods/burstable/pod{UID}/{OWN}
"""
SLICE = f"kubepods-burstable-pod{UID.replace('-', '_')}.slice"
CONTAINERD_SYSTEMD = f"0::/kubepods.slice/kubepods-burstable.slice/{SLICE}/cri-containerd-{OWN}.scope\n"
CONTAINERD_COLONS = f"11:memory:/system.slice/containerd.service/{SLICE}:cri-containerd:{OWN}\n"
CRIO = f"0::/kubepods.slice/{SLICE}/crio-{OWN}.scope\n"
CRIO_NESTED = f"0::/kubepods.slice/{SLICE}/crio-{OWN}.scope/container\n"
DOCKER_SYSTEMD = f"0::/system.slice/docker-{OWN}.scope\n"
DOCKER_IN_DOCKER = f"4:memory:/docker/{OTHER}/docker/{OWN}\n"
PODMAN = f"0::/machine.slice/libpod-{OWN}.scope/container\n"
PODMAN_CGROUPFS = f"0::/libpod_parent/libpod-{OWN}\n"
HOST = "12:memory:/user.slice/user-1000.slice\n1:name=systemd:/user.slice/user-1000.slice/session-2.scope\n"

DOCKER_MOUNTS = f"""\
473 456 0:48 / / rw,relatime master:1 - overlay overlay rw,lowerdir=/var/lib/docker/overlay2/l/AAA
474 473 0:51 / /proc rw,nosuid,nodev,noexec,relatime - proc proc rw
479 473 254:1 /docker/containers/{OWN}/resolv.conf /etc/resolv.conf rw,relatime - ext4 /dev/vda1 rw
480 473 254:1 /docker/containers/{OWN}/hostname /etc/hostname rw,relatime - ext4 /dev/vda1 rw
481 473 254:1 /docker/containers/{OWN}/hosts /etc/hosts rw,relatime - ext4 /dev/vda1 rw
"""
PODMAN_MOUNTS = f"""\
983 961 0:56 /containers/overlay-containers/{OTHER}/userdata/hosts /etc/hosts rw - tmpfs tmpfs rw
984 961 0:56 /containers/overlay-containers/{OTHER}/userdata/resolv.conf /etc/resolv.conf rw - tmpfs tmpfs rw
985 961 0:56 /containers/overlay-containers/{OWN}/userdata/.containerenv /run/.containerenv rw - tmpfs tmpfs rw
"""
CRI = "/var/lib/containerd/io.containerd.grpc.v1.cri"
EKS_MOUNTS = f"""\
2201 1933 0:303 / / rw,relatime - overlay overlay rw,lowerdir={CRI[:19]}/io.containerd.snapshotter.v1.overlayfs/1/fs
2208 2201 259:1 /var/lib/kubelet/pods/{UID}/etc-hosts /etc/hosts rw,noatime - xfs /dev/nvme0n1p1 rw
2209 2202 259:1 /var/lib/kubelet/pods/{UID}/containers/web/0d8ab1c2 /dev/termination-log rw - xfs /dev/nvme0n1p1 rw
2210 2201 259:1 {CRI}/sandboxes/{OTHER}/hostname /etc/hostname rw,noatime - xfs /dev/nvme0n1p1 rw
2211 2201 259:1 {CRI}/sandboxes/{OTHER}/resolv.conf /etc/resolv.conf rw,noatime - xfs /dev/nvme0n1p1 rw
"""
DOCKERSHIM_MOUNTS = f"""\
2208 2201 259:1 /var/lib/kubelet/pods/{UID}/etc-hosts /etc/hosts rw,noatime - xfs /dev/nvme0n1p1 rw
2210 2201 259:1 /var/lib/docker/containers/{OTHER}/hostname /etc/hostname rw,noatime - xfs /dev/nvme0n1p1 rw
"""
STORAGE = "/containers/storage/overlay-containers"
CRIO_MOUNTS = f"""\
2110 2099 0:24 {STORAGE}/{OTHER}/userdata/hostname /etc/hostname rw - tmpfs tmpfs rw
2111 2099 0:24 {STORAGE}/{OTHER}/userdata/.containerenv /run/.containerenv rw - tmpfs tmpfs rw
2112 2099 0:24 {STORAGE}/{OWN}/userdata/run/secrets /run/secrets rw - tmpfs tmpfs rw
2113 2099 259:1 /var/lib/kubelet/pods/{UID}/etc-hosts /etc/hosts rw - xfs /dev/nvme0n1p1 rw
"""
HOST_MOUNTS = """\
22 27 0:20 / /sys rw,nosuid,nodev,noexec,relatime shared:2 - sysfs sysfs rw
27 1 259:1 / / rw,noatime shared:1 - xfs /dev/nvme0n1p1 rw,attr2,inode64
"""


@pytest.mark.parametrize(
    ("cgroup", "mountinfo", "expected"),
    [
        pytest.param(DOCKER_V1, "", OWN, id="docker v1"),
        pytest.param(DOCKER_SYSTEMD, HOST_MOUNTS, OWN, id="docker v2, host namespace"),
        pytest.param(V2, DOCKER_MOUNTS, OWN, id="docker v2"),
        pytest.param(DOCKER_IN_DOCKER, "", OWN, id="docker in docker"),
        pytest.param(ECS_EC2_V1, "", OWN, id="ECS on EC2"),
        pytest.param(ECS_EC2_OLD_V1, "", OWN, id="ECS on EC2, old agent"),
        pytest.param(FARGATE_V1, "", FARGATE, id="Fargate 1.4"),
        pytest.param(EKS_V1, EKS_MOUNTS, OWN, id="EKS v1"),
        pytest.param(CONTAINERD_SYSTEMD, EKS_MOUNTS, OWN, id="containerd, systemd driver"),
        pytest.param(CONTAINERD_COLONS, "", OWN, id="containerd, colons"),
        pytest.param(V2, EKS_MOUNTS, "", id="EKS v2: only the sandbox is named"),
        pytest.param(V2, DOCKERSHIM_MOUNTS, "", id="dockershim v2: only the pause container is named"),
        pytest.param(EKS_V1, DOCKERSHIM_MOUNTS, OWN, id="dockershim v1"),
        pytest.param(CRIO, CRIO_MOUNTS, OWN, id="cri-o"),
        pytest.param(CRIO_NESTED, "", OWN, id="cri-o, nested"),
        pytest.param(V2, CRIO_MOUNTS, OWN, id="cri-o v2: the container, not the sandbox"),
        pytest.param(PODMAN, "", OWN, id="podman"),
        pytest.param(PODMAN_CGROUPFS, "", OWN, id="podman, cgroupfs"),
        pytest.param(V2, PODMAN_MOUNTS, OWN, id="podman v2 in a podman pod"),
        pytest.param(HOST, HOST_MOUNTS, "", id="host v1"),
        pytest.param("0::/system.slice/docker.service\n", HOST_MOUNTS, "", id="host v2"),
        pytest.param("", "", "", id="no files"),
        pytest.param(f"4:memory:/docker/{OWN}\n3:cpu:/docker/{OTHER}\n", "", "", id="two ids: neither"),
        pytest.param(f"4:memory:/docker/{OWN[:-1]}\n", "", "", id="63 digits"),
        pytest.param(f"4:memory:/docker/{OWN}0\n", "", "", id="65 digits"),
        pytest.param(f"4:memory:/docker/{OWN.upper()}\n", "", "", id="upper case"),
        pytest.param(f"/docker/{OWN}\n", "", "", id="no cgroup line"),
        pytest.param(f"1:memory:/ecs/{TASK}\n", "", "", id="a task alone"),
        pytest.param(
            V2, f"480 473 254:1 /docker/containers/{OWN}/hostname /etc/passwd rw - ext4 x rw\n", "", id="mount"
        ),
    ],
)
def test_container_id(cgroup, mountinfo, expected):
    assert container_id(cgroup, mountinfo) == expected


def test_the_kubelets_mounts_name_the_pod_and_the_container():
    assert pod_mounts(EKS_MOUNTS) == (UID, "web")
    assert pod_mounts(CRIO_MOUNTS) == (UID, "")
    assert pod_mounts(DOCKER_MOUNTS) == ("", "")
    assert pod_mounts(HOST_MOUNTS) == ("", "")
