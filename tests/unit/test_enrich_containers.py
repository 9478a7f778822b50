"""The container of a process, from the cgroup paths that container runtimes make."""

from __future__ import annotations

from pathlib import Path

import pytest
from modelward_agent.enrich.containers import Container, parse_cgroups
from modelward_agent.enrich.enricher import Enricher
from modelward_proto.kinds import Kind

from tests.unit.kernel_records import BOOT, batch, record

ID = "4f1d" + "0123456789ab" * 5
POD = "0c6e3f0a-1b2c-4d5e-8f90-123456789abc"
SLICED = POD.replace("-", "_")


NODE = "9e1b" + "fedcba987654" * 5
TASK = "0123456789abcdef0123456789abcdef"
FARGATE = f"{TASK}-1234567890"
USER = "/user.slice/user-1000.slice/user@1000.service/user.slice"
KUBEPODS = "/kubepods.slice/kubepods-burstable.slice"

# (what made it, a line of /proc/PID/cgroup, container, pod)
SAMPLES = [
    ("docker, systemd, v2", f"0::/system.slice/docker-{ID}.scope", ID, ""),
    ("docker, systemd, v1", f"4:memory:/system.slice/docker-{ID}.scope", ID, ""),
    ("docker, cgroupfs, v2", f"0::/docker/{ID}", ID, ""),
    ("docker, cgroupfs, v1", f"12:memory:/docker/{ID}\n0::/", ID, ""),
    ("docker, --cgroup-parent", f"0::/inference.slice/docker-{ID}.scope", ID, ""),
    ("docker, --cgroup-parent, cgroupfs", f"5:cpuset:/inference/{ID}", ID, ""),
    ("docker with systemd inside", f"0::/system.slice/docker-{ID}.scope/init.scope", ID, ""),
    ("docker, rootless", f"0::{USER}/docker-{ID}.scope", ID, ""),
    ("docker, LXC driver of old", f"3:cpu:/lxc/{ID}", ID, ""),
    ("podman, systemd, v2", f"0::/machine.slice/libpod-{ID}.scope/container", ID, ""),
    ("podman, systemd, v1", f"9:pids:/machine.slice/libpod-{ID}.scope", ID, ""),
    ("podman, cgroupfs", f"11:pids:/libpod_parent/libpod-{ID}", ID, ""),
    ("podman, pod, systemd", f"0::/machine.slice/machine-libpod_pod_{NODE}.slice/libpod-{ID}.scope/container", ID, ""),
    ("podman, pod, cgroupfs", f"0::/libpod_parent/{NODE}/libpod-{ID}", ID, ""),
    ("podman, rootless", f"0::{USER}/libpod-{ID}.scope/container", ID, ""),
    ("podman, rootless, pod", f"0::{USER}/user-libpod_pod_{NODE}.slice/libpod-{ID}.scope/container", ID, ""),
    ("podman in a unit (quadlet)", f"0::/system.slice/llm.service/libpod-payload-{ID}", ID, ""),
    ("podman in a unit, rootless", f"0::{USER.rpartition('/')[0]}/app.slice/llm.service/libpod-payload-{ID}", ID, ""),
    ("nerdctl, systemd", f"0::/system.slice/nerdctl-{ID}.scope", ID, ""),
    ("nerdctl, cgroupfs", f"0::/default/{ID}", ID, ""),
    ("nerdctl, rootless", f"0::{USER}/nerdctl-{ID}.scope", ID, ""),
    ("containerd, systemd", f"0::/system.slice/containerd-{ID}.scope", ID, ""),
    ("kubernetes, containerd, systemd, burstable",
     f"0::{KUBEPODS}/kubepods-burstable-pod{SLICED}.slice/cri-containerd-{ID}.scope", ID, POD),
    ("kubernetes, containerd, systemd, guaranteed", f"0::/kubepods.slice/kubepods-pod{SLICED}.slice/cri-containerd-{ID}.scope",
     ID, POD),
    ("kubernetes, containerd, cgroupfs, v2", f"0::/kubepods/burstable/pod{POD}/{ID}", ID, POD),
    ("kubernetes, containerd, cgroupfs, v1", f"4:cpu,cpuacct:/kubepods/besteffort/pod{POD}/{ID}", ID, POD),
    ("kubernetes, cgroupfs, guaranteed", f"4:cpu,cpuacct:/kubepods/pod{POD}/{ID}", ID, POD),
    ("kubernetes, drivers that disagree",
     f"9:cpuset:/system.slice/containerd.service/kubepods-besteffort-pod{SLICED}.slice:cri-containerd:{ID}", ID, POD),
    ("kubernetes, CRI-O, systemd", f"0::/kubepods.slice/kubepods-pod{SLICED}.slice/crio-{ID}.scope", ID, POD),
    ("kubernetes, CRI-O, crun", f"0::{KUBEPODS}/kubepods-burstable-pod{SLICED}.slice/crio-{ID}.scope/container", ID, POD),
    ("kubernetes, CRI-O, cgroupfs", f"7:memory:/kubepods/burstable/pod{POD}/crio-{ID}", ID, POD),
    ("kubernetes, dockershim, systemd",
     f"1:name=systemd:{KUBEPODS}/kubepods-burstable-pod{SLICED}.slice/docker-{ID}.scope", ID, POD),
    ("kubernetes, static pod", f"0::/kubepods/burstable/pod{TASK}/{ID}", ID, TASK),
    ("kubernetes in systemd's own unit (k3s)", f"0::/system.slice/k3s.service/kubepods/besteffort/pod{POD}/{ID}", ID, POD),
    ("kind, seen in its node",
     f"0::/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{SLICED}.slice/cri-containerd-{ID}.scope", ID, POD),
    ("kind, seen from the host, v2",
     f"0::/system.slice/docker-{NODE}.scope/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/"
     f"kubelet-kubepods-besteffort-pod{SLICED}.slice/cri-containerd-{ID}.scope", NODE, ""),
    ("kind, seen from the host, v1", f"8:pids:/docker/{NODE}/kubelet/kubepods/besteffort/pod{POD}/{ID}", NODE, ""),
    ("docker in docker", f"0::/system.slice/docker-{NODE}.scope/docker/{ID}", NODE, ""),
    ("docker in a pod", f"0::/kubepods/besteffort/pod{POD}/{NODE}/docker/{ID}", NODE, POD),
    ("ECS on EC2, v1", f"9:perf_event:/ecs/{TASK}/{ID}", ID, ""),
    ("ECS on EC2, task by uuid", f"9:perf_event:/ecs/{POD}/{ID}", ID, ""),
    ("ECS on EC2, v2", f"0::/ecstasks.slice/ecstasks-{TASK}.slice/docker-{ID}.scope", ID, ""),
    ("ECS on Fargate", f"1:name=systemd:/ecs/{TASK}/{FARGATE}", FARGATE, ""),
    ("systemd-nspawn", "0::/machine.slice/systemd-nspawn@gpu\\x2dbox.service/payload/system.slice/llm.service", "gpu-box", ""),
    ("systemd-nspawn, by machinectl", "0::/machine.slice/machine-debian12.scope/payload", "debian12", ""),
    ("LXC", "0::/lxc.payload.gpu-box/system.slice/llm.service", "gpu-box", ""),
]


@pytest.mark.parametrize(("made_by", "text", "container", "pod"), SAMPLES, ids=[sample[0] for sample in SAMPLES])
def test_a_runtimes_path_is_not_understood(made_by: str, text: str, container: str, pod: str) -> None:
    assert parse_cgroups(text.encode() + b"\n") == Container(container, pod)


@pytest.mark.parametrize(
    "text",
    [
        "0::/",
        "0::/user.slice/user-0.slice/session-3.scope",
        "0::/system.slice/ollama.service",
        "",
        "x",
        "0::/docker",
        f"0::/machine.slice/libpod-conmon-{ID}.scope",
        f"0::/kubepods.slice/crio-conmon-{ID}.scope",
        f"0::/evil-{ID}.scope",
        f"0::/docker/{ID}0",
        f"0::/docker/{ID[:-1]}g",
        f"0::/user.slice/user-1000.slice/user@1000.service/user.slice/user-libpod_pod_{ID}.slice",
        "0::/machine.slice/machine-qemu\\x2d1\\x2dvm.scope/libvirt/emulator",
        "0::/machine.slice/machine-..\\x2f..\\x2fetc.scope",
        "0::/lxc.monitor.gpu-box",
    ],
)
def test_a_host_process_is_put_in_a_container(text: str) -> None:
    assert parse_cgroups(text.encode()).id == ""


def test_a_workload_names_itself_after_another_container() -> None:
    forged = "a" * 64
    assert parse_cgroups(f"0::/docker/{ID}/docker/{forged}".encode()).id == ID


def test_machines_whose_names_begin_alike_are_one_workload() -> None:
    one, other = (parse_cgroups(b"0::/machine.slice/systemd-nspawn@inference-%d.service" % number) for number in (1, 2))
    assert one.short != other.short


def test_hostile_bytes_raise() -> None:
    assert parse_cgroups(b"0::/\xff\xfe\n\x00:\n:::\n") == Container()


def test_a_containers_processes_are_not_one_workload(tmp_path: Path) -> None:
    for pid in (1000, 1001):
        folder = tmp_path / str(pid)
        folder.mkdir()
        stat = b"%d (x) S 1 " % pid + b" ".join([b"0"] * 17) + b" 10000 0\n"
        (folder / "stat").write_bytes(stat)
        (folder / "cgroup").write_text(f"0::/system.slice/docker-{ID}.scope\n")
    one = record(Kind.FILE_OPEN, b"/x", at=1)
    other = record(Kind.FILE_OPEN, b"/y", at=2, key=(1001, 100_000_000_000), root=(1001, 100_000_000_000), group=99)
    rows = Enricher(boot_id=BOOT, proc=tmp_path).enrich(batch(one, other)).to_pylist()
    assert {row["workload_id"] for row in rows} == {"container:" + ID[:12]}
    assert {row["container_id"] for row in rows} == {ID}


def test_a_process_that_is_gone_loses_a_container_known_by_its_cgroup(tmp_path: Path) -> None:
    folder = tmp_path / "1000"
    folder.mkdir()
    (folder / "stat").write_bytes(b"1000 (x) S 1 " + b" ".join([b"0"] * 17) + b" 10000 0\n")
    (folder / "cgroup").write_text(f"0::/system.slice/docker-{ID}.scope\n")
    enricher = Enricher(boot_id=BOOT, proc=tmp_path)
    enricher.enrich(batch(record(Kind.FILE_OPEN, b"/x", cgroup=4711)))
    gone = record(Kind.FILE_OPEN, b"/x", key=(2000, 5), root=(2000, 5), group=99, cgroup=4711)
    (row,) = enricher.enrich(batch(gone)).to_pylist()
    assert row["workload_id"] == "container:" + ID[:12]


def test_a_workload_outside_containers_is_not_named_after_its_root(tmp_path: Path) -> None:
    (row,) = Enricher(boot_id=BOOT, proc=tmp_path).enrich(batch(record(Kind.FILE_OPEN, b"/x"))).to_pylist()
    assert row["workload_id"] == "host:2f0c1a2b-1000-100000000000"
    assert row["workload_id"] == "host:" + row["process_root_id"]
