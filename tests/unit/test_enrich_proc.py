"""What is read of living processes in /proc: real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from modelward_agent.enrich.enricher import Enricher
from modelward_agent.enrich.proc_files import ProcFiles, same_start
from modelward_agent.sensor.constants import Flag, Trigger
from modelward_proto.kinds import Kind

from tests.unit.kernel_records import BOOT, batch, record

PROC = ProcFiles(Path("/proc"))


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-c", "import sys; print(flush=True); sys.stdin.read()", "--api-key", "hunter2"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.readline()
    yield process
    process.kill()
    process.communicate()


def key(pid: int) -> tuple[int, int]:
    return PROC.key(pid)


def test_a_server_that_was_there_before_the_agent_has_no_program(sleeper: subprocess.Popen[bytes]) -> None:
    own, parent = key(sleeper.pid), key(os.getpid())
    adopted = record(Kind.LIFECYCLE, key=own, root=own, parent=parent, trigger=Trigger.ADOPTED, to_phase=4)
    (row,) = Enricher(boot_id=BOOT).enrich(batch(adopted)).to_pylist()
    assert row["process_executable_path"] == os.path.realpath(sys.executable)
    assert row["process_command_line"].endswith("--api-key '[redacted]'")
    assert row["process_parent_executable_path"] == os.path.realpath(sys.executable)
    assert row["workload_runtime"] == "python"
    assert row["process_entry"] == "server"


def test_an_adopted_child_lacks_ancestors_of_which_no_record_came(sleeper: subprocess.Popen[bytes]) -> None:
    root = key(os.getpid())
    name = os.path.basename(os.path.realpath(sys.executable))
    made = record(Kind.FILE_OPEN, b"/x", key=key(sleeper.pid), root=root, parent=root)
    (row,) = Enricher(boot_id=BOOT).enrich(batch(made)).to_pylist()
    assert row["process_chain"] == f"{name} > {name}"


def test_a_reused_pid_is_taken_for_the_process_that_had_it(sleeper: subprocess.Popen[bytes]) -> None:
    pid, start = key(sleeper.pid)
    assert PROC.process(pid, start) is not None
    assert PROC.process(pid, start - 20_000_000) is None
    assert PROC.cgroups(pid, start) is not None
    assert PROC.cgroups(pid, start + 20_000_000) is None


def test_start_times_are_compared_finer_than_proc_knows_them() -> None:
    assert same_start(1_234_567_890, 1_230_000_000)
    assert not same_start(1_234_567_890, 1_240_000_000)


def test_a_program_that_is_gone_keeps_the_mark_of_proc(tmp_path: Path) -> None:
    program = tmp_path / "copy of sleep"
    program.write_bytes(Path("/bin/sleep").read_bytes())
    program.chmod(0o755)
    with subprocess.Popen([program, "60"]) as process:
        try:
            deadline = time.monotonic() + 5
            while os.readlink(f"/proc/{process.pid}/exe") != os.fspath(program) and time.monotonic() < deadline:
                time.sleep(0.01)
            program.unlink()
            seen = PROC.process(*key(process.pid))
            assert seen is not None
            assert seen.path == os.fsencode(program)
        finally:
            process.kill()


def test_a_name_with_parentheses_hides_the_start_time(tmp_path: Path) -> None:
    folder = tmp_path / "7"
    folder.mkdir()
    (folder / "stat").write_bytes(b"7 (a) 1 (b) S 3 " + b" ".join(b"%d" % n for n in range(2, 19)) + b" 4200 0\n")
    assert ProcFiles(tmp_path).key(7) == (7, 42_000_000_000)


def test_a_damaged_proc_raises(tmp_path: Path) -> None:
    folder = tmp_path / "7"
    folder.mkdir()
    (folder / "stat").write_bytes(b"7 (x")
    files = ProcFiles(tmp_path)
    assert (files.key(7), files.process(7, 0), files.cgroups(7, 0)) == ((0, 0), None, None)
    assert files.process(0, 0) is None


def test_a_command_line_that_hangs_stops_the_agent(tmp_path: Path) -> None:
    folder = tmp_path / "7"
    folder.mkdir()
    (folder / "stat").write_bytes(b"7 (x) S 1 " + b" ".join([b"0"] * 17) + b" 4200 0\n")
    (folder / "exe").symlink_to("/bin/evil")
    os.mkfifo(folder / "cmdline")  # to open it waits for a writer, as a read of a process's memory may wait
    files = ProcFiles(tmp_path)
    found = [files.process(7, 42_000_000_000) for _ in range(6)]
    hanging = [thread for thread in threading.enumerate() if thread.name == "cmdline"]
    os.close(os.open(folder / "cmdline", os.O_RDWR | os.O_NONBLOCK))
    assert [seen and seen.path for seen in found] == [b"/bin/evil"] * 6
    assert len(hanging) == 4, "no more threads are left behind than that"


def test_command_lines_that_hang_leave_those_of_another_workload_unread(tmp_path: Path) -> None:
    for pid, cgroup in ((7, b"0::/bad\n"), (8, b"0::/good\n")):
        folder = tmp_path / str(pid)
        folder.mkdir()
        (folder / "stat").write_bytes(b"7 (x) S 1 " + b" ".join([b"0"] * 17) + b" 4200 0\n")
        (folder / "exe").symlink_to("/bin/it")
        (folder / "cgroup").write_bytes(cgroup)
    os.mkfifo(tmp_path / "7/cmdline")
    (tmp_path / "8/cmdline").write_bytes(b"python\0app.py\0")
    files = ProcFiles(tmp_path)
    for _ in range(5):
        assert files.process(7, 42_000_000_000)
    good = files.process(8, 42_000_000_000)
    os.close(os.open(tmp_path / "7/cmdline", os.O_RDWR | os.O_NONBLOCK))
    assert good is not None
    assert good.arguments == (b"python", b"app.py")


def adopted(enricher: Enricher, own: tuple[int, int], parent: tuple[int, int]) -> str:
    opened = record(Kind.FILE_OPEN, b"/m.gguf", key=own, root=own, parent=parent, flags=int(Flag.ROOT | Flag.ARTIFACT))
    (row,) = enricher.enrich(batch(opened)).to_pylist()
    return str(row["process_entry"])


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def first_child(pid: int) -> int:
    until = time.monotonic() + 10
    while not children(pid) and time.monotonic() < until:
        time.sleep(0.01)
    return children(pid)[0]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may make a pid namespace")
def test_a_process_put_into_a_container_from_outside_counts_as_its_own() -> None:
    with subprocess.Popen(["unshare", "--pid", "--fork", "sh", "-c", "sleep 60; :"]) as container:
        init = first_child(container.pid)
        first_child(init)
        with subprocess.Popen(["nsenter", "--pid", "--target", str(init), "sleep", "60"]) as probe:
            try:
                entered, own = first_child(probe.pid), children(init)[0]
                enricher = Enricher(boot_id=BOOT)
                assert adopted(enricher, key(entered), key(probe.pid)) == "entered"
                assert adopted(enricher, key(init), key(container.pid)) == "server"
                assert adopted(enricher, key(own), key(init)) == "server"
                inside = record(Kind.FILE_OPEN, b"/x", key=key(entered), root=key(init), parent=key(probe.pid))
                (row,) = Enricher(boot_id=BOOT).enrich(batch(inside)).to_pylist()
                assert row["process_entry"] == "child"
                assert adopted(enricher, key(probe.pid), key(os.getpid())) == "server"
            finally:
                os.kill(init, signal.SIGKILL)
                probe.kill()
                container.kill()


def test_a_tool_that_reads_an_artifact_counts_as_server(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "m.gguf")
    with subprocess.Popen(["sha256sum", tmp_path / "m.gguf"]) as reader:
        try:
            until = time.monotonic() + 10
            while not os.readlink(f"/proc/{reader.pid}/exe").endswith("sum") and time.monotonic() < until:
                time.sleep(0.01)
            assert adopted(Enricher(boot_id=BOOT), key(reader.pid), key(os.getpid())) == "reader"
        finally:
            reader.kill()


def test_a_workloads_own_program_counts_as_reader(tmp_path: Path) -> None:
    program = tmp_path / "sha256sum"
    program.write_bytes(Path("/bin/sleep").read_bytes())
    program.chmod(0o755)
    with subprocess.Popen([program, "60"]) as reader:
        try:
            until = time.monotonic() + 10
            while not os.readlink(f"/proc/{reader.pid}/exe").endswith("sum") and time.monotonic() < until:
                time.sleep(0.01)
            assert adopted(Enricher(boot_id=BOOT), key(reader.pid), key(os.getpid())) == "server"
        finally:
            reader.kill()
