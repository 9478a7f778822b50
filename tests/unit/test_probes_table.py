"""The table of probed functions holds together, and libraries are found by it in the maps of a process."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from modelward_agent.probes.mappings import Mapped, mapped, unanswering
from modelward_agent.probes.table import FAMILIES, Means, Result, family_of, numbered, stem
from modelward_agent.sensor.probing import rest
from modelward_agent.sensor.probing_files import ProbedFiles
from modelward_agent.sensor.uprobes import returns_refused

_MAPS = """\
00400000-00401000 r-xp 00000000 fd:01 11 /usr/bin/python3.11
7f0000000000-7f0000001000 r--p 00000000 fd:01 12 /opt/my libs/libllama.so.0
7f0000001000-7f0000002000 r-xp 00001000 fd:01 12 /opt/my libs/libllama.so.0
7f0000003000-7f0000004000 r-xp 00000000 00:31 13 /fuse/libcuda.so.1
7f0000005000-7f0000006000 r-xp 00000000 fd:01 14 /opt/libtritonserver-717102f0.so (deleted)
7f0000007000-7f0000008000 r-xp 00000000 00:99 15 /gone/libtorch_cpu.so
7f0000009000-7f000000a000 rwxp 00000000 00:00 0
nonsense
"""
_MOUNTS = """\
20 1 253:1 / / rw - ext4 /dev/root rw
21 20 0:49 / /fuse rw shared:5 - fuse.sshfs host rw
"""


def test_every_function_has_a_number_and_fits_into_the_kernel_side() -> None:
    numbers = [number for number, _, _ in numbered()]
    assert numbers == list(range(len(numbers)))
    assert len(numbers) <= 256
    for _, family, function in numbered():
        assert 0 < len(function.name) < 32
        assert all(0 < len(stem.encode()) < 32 for stem in family.stems)


def test_only_c_functions_are_probed_at_their_return() -> None:
    for _, _, function in numbered():
        if function.means is Means.LOAD:
            assert function.result is not Result.IGNORED
            assert not any(name.startswith("_Z") for name in function.alternatives)


@pytest.mark.parametrize(("name", "family"), [
    (b"libtorch_cpu.so", "torch"), (b"xllamacpp.abi3.so", "llama.cpp"), (b"libtritonserver-717102f0.so", "triton"),
    (b"libcudart-09529672.so.12.6.77", "cudart"), (b"libcuda.so.1", "cuda"), (b"libc.so.6", ""), (b"", ""), (b".so", "")])
def test_a_library_is_known_by_its_stem(name: bytes, family: str) -> None:
    found = family_of(name)
    assert (FAMILIES[found].name if found >= 0 else "") == family
    assert b"." not in stem(name)


def test_libraries_are_found_in_maps_and_none_is_opened_that_may_not_answer(tmp_path: Path) -> None:
    own = tmp_path / "42"
    own.mkdir()
    (own / "maps").write_text(_MAPS)
    (own / "mountinfo").write_text(_MOUNTS)
    found = {library.name: library for library in mapped(42, tmp_path)}
    assert set(found) == {"libllama.so.0", "libcuda.so.1", "libtritonserver-717102f0.so", "libtorch_cpu.so"}
    assert found["libllama.so.0"].path == own / "map_files/7f0000001000-7f0000002000"
    assert not found["libllama.so.0"].problem
    assert not found["libtritonserver-717102f0.so"].problem
    assert "may not answer" in found["libcuda.so.1"].problem
    assert "mounted nowhere" in found["libtorch_cpu.so"].problem


def test_a_process_that_is_gone_is_told(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        mapped(42, tmp_path)


@pytest.mark.parametrize(("release", "refused"), [
    ("6.10.9", False), ("6.11.0-8-generic", True), ("6.13.1", True), ("6.14.0", False), ("6.18.44", False), ("5.15.0", False)])
def test_returns_are_let_alone_where_seccomp_would_kill_for_them(release: str, refused: bool) -> None:
    assert bool(returns_refused(release)) == refused


def _reference(tmp_path: Path, mounts: str) -> tuple[int, Path]:
    """A reference to a file, and a process whose mounts are these; MOUNT stands for the number of the file's."""
    (tmp_path / "libcuda.so.1").write_bytes(b"library")
    fd = os.open(tmp_path / "libcuda.so.1", os.O_PATH)
    number = Path(f"/proc/self/fdinfo/{fd}").read_text().split("mnt_id:")[1].split()[0]
    own = tmp_path / "42"
    own.mkdir()
    (own / "mountinfo").write_text(mounts.replace("MOUNT", number))
    return fd, tmp_path


@pytest.mark.parametrize(("mount", "problem"), [
    ("MOUNT 1 0:9999 / / rw - ext4 /dev/sda rw", ""), ("MOUNT 1 0:9999 / /m rw - fuse.sshfs x rw", "may not answer"),
    ("MOUNT 1 0:9999 / /m rw - overlay overlay rw,lowerdir=/fuse", "no mount of the host's")])
def test_a_file_is_judged_by_the_mount_that_a_reference_holds_and_an_overlay_by_who_made_it(
    tmp_path: Path, mount: str, problem: str,
) -> None:
    fd, proc = _reference(tmp_path, mount)
    try:
        told = unanswering(fd, 42, proc)
    finally:
        os.close(fd)
    assert problem in told
    assert bool(told) == bool(problem)


def test_a_library_that_became_another_file_since_its_maps_were_read_is_not_opened(tmp_path: Path) -> None:
    fd, proc = _reference(tmp_path, "MOUNT 1 0:9999 / / rw - fuse none rw")
    os.close(fd)
    files = ProbedFiles({}, many=True)
    assert files.take(Mapped(family_of(b"libcuda.so.1"), "libcuda.so.1", tmp_path / "libcuda.so.1"), 42, proc) is None
    assert any("may not answer" in reason for reason in files.state()[1].values())


def test_a_file_under_the_name_of_another_family_hides_no_library(tmp_path: Path) -> None:
    fd, proc = _reference(tmp_path, "MOUNT 1 0:9999 / / rw - ext4 none rw")
    os.close(fd)
    files = ProbedFiles({}, many=True)
    for name in (b"libcudart.so", b"libcuda.so.1"):
        assert files.take(Mapped(family_of(name), name.decode(), tmp_path / "libcuda.so.1"), 42, proc)
    assert {file.family for file in files.state()[0]} == {family_of(b"libcudart.so"), family_of(b"libcuda.so")}
    files.close()


def test_looking_again_and_again_takes_a_fifth_of_a_core_at_most() -> None:
    for spent in (0.001, 0.1, 0.4):
        assert spent / (spent + rest(spent)) <= 0.2
    assert rest(60) <= 2
