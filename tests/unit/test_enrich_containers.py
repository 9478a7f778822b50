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


@pytest.mark.parametrize(
    ("path", "pod"),
    [
        (f"0::/system.slice/docker-{ID}.scope", ""),
        (f"0::/docker/{ID}", ""),
        (f"12:memory:/docker/{ID}\n0::/", ""),
        (f"0::/system.slice/docker-{ID}.scope/init.scope", ""),
        (f"0::/machine.slice/libpod-{ID}.scope/container", ""),
        (f"0::/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope", ""),
        (f"11:pids:/libpod_parent/libpod-{ID}", ""),
        (
            f"0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{SLICED}.slice/cri-containerd-{ID}.scope",
            POD,
        ),
        (f"0::/kubepods.slice/kubepods-pod{SLICED}.slice/crio-{ID}.scope", POD),
        (f"4:cpu,cpuacct:/kubepods/besteffort/pod{POD}/{ID}", POD),
        (
            f"9:cpuset:/system.slice/containerd.service/kubepods-besteffort-pod{SLICED}.slice:cri-containerd:{ID}",
            POD,
        ),
        (f"0::/system.slice/nerdctl-{ID}.scope", ""),
        (f"0::/default/{ID}", ""),
        (
            "1:name=systemd:/ecs/0123456789abcdef0123456789abcdef/0123456789abcdef0123456789abcdef-1234567890",
            "",
        ),
    ],
)
def test_a_runtimes_path_is_not_understood(path: str, pod: str) -> None:
    found = parse_cgroups(path.encode() + b"\n")
    assert found.pod == pod
    assert found.id in (ID, "0123456789abcdef0123456789abcdef-1234567890")


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
    ],
)
def test_a_host_process_is_put_in_a_container(text: str) -> None:
    assert parse_cgroups(text.encode()).id == ""


def test_a_workload_names_itself_after_another_container() -> None:
    forged = "a" * 64
    assert parse_cgroups(f"0::/docker/{ID}/docker/{forged}".encode()).id == ID


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
