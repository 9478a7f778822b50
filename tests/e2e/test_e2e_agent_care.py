"""A running agent in the hands of a person: paused, refused, crashed, out of room, asked for a test alert, and removed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from modelward_agent import exit_codes
from modelward_agent.privileges import DRAINER, DRAINER_AT_WORK, PROBES, SENDER, Cap
from modelward_agent.sensor import pins
from modelward_proto.v1 import stream_pb2 as pb

from tests.unit.stream_server import StreamServer

pytestmark = pytest.mark.kernel

BIN = Path(sys.executable).parent / "modelward-agent"


@dataclass
class Agent:
    """A running agent, and what the collector heard of it."""

    process: subprocess.Popen[bytes]
    server: StreamServer
    state: Path

    @property
    def beat(self) -> pb.Heartbeat:
        return self.server.heartbeats[-1]

    def until(self, condition: Callable[[pb.Heartbeat], bool]) -> pb.Heartbeat:
        """The first heartbeat from now on that is as wanted."""
        seen = len(self.server.heartbeats)
        self.server.wait_for(lambda: any(map(condition, self.server.heartbeats[max(0, seen - 1):])), 60)
        return next(filter(condition, self.server.heartbeats[max(0, seen - 1):]))

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """What a person types on the host."""
        return subprocess.run(
            [BIN, *arguments, "--state", str(self.state)], capture_output=True, text=True, check=False, timeout=60)

    def rows(self) -> list[dict[str, Any]]:
        """Everything that the collector was sent."""
        found: list[dict[str, Any]] = []
        for batch in list(self.server.batches):
            with pa.ipc.open_stream(batch.arrow) as stream:
                found += stream.read_all().to_pylist()
        return found

    def of(self, pid: int) -> list[str]:
        """Files that this process opened, as the collector was told. Another agent on this machine may read them, too."""
        return [row["file_path"] for row in self.rows() if row["event_name"] == "file_open" and row["process_pid"] == pid]

    def family(self) -> dict[str, int]:
        """The agent's processes: drainer and sender."""
        found = {"drainer": self.process.pid}
        for child in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split():
            if b"modelward_agent.sender" in Path(f"/proc/{child}/cmdline").read_bytes():
                found["sender"] = int(child)
        return found


@contextmanager
def running(state: Path, server: StreamServer, *flags: str) -> Iterator[Agent]:
    log = (state.parent / f"{state.name}.log").open("ab")
    process = subprocess.Popen(
        [BIN, "run", "--collector", f"127.0.0.1:{server.port}", "--state", str(state), "--host-name", "here", *flags],
        stdin=subprocess.DEVNULL, stderr=log)
    beats = len(server.heartbeats)
    try:
        server.wait_for(lambda: len(server.heartbeats) > beats or process.poll() is not None, 60)
        assert process.poll() is None, (state.parent / f"{state.name}.log").read_text()
        yield Agent(process, server, state)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        pins.remove(pins.folder_of(state))
        log.close()


@pytest.fixture(scope="module")
def server() -> Iterator[StreamServer]:
    server = StreamServer().start()
    yield server
    server.cut()


@pytest.fixture(scope="module")
def agent(server: StreamServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    state = tmp_path_factory.mktemp("care") / "state"
    with running(state, server, "--label", "env=test", "--label", "team=care") as agent:
        yield agent


@pytest.fixture
def own(tmp_path: Path) -> Iterator[tuple[Path, StreamServer]]:
    """For an agent that is started as a test wants it."""
    server = StreamServer().start()
    yield tmp_path / "state", server
    server.cut()


def load(path: Path) -> int:
    """What makes a process tracked: it opens a model. Returns its process id."""
    path.write_bytes(b"GGUF")
    with subprocess.Popen(["cat", str(path)], stdout=subprocess.DEVNULL) as process:
        return process.pid


def is_watching(beat: pb.Heartbeat) -> bool:
    return beat.mode == pb.MODE_WATCHING and not beat.mode_reason


def bpf_descriptors(pid: int) -> list[str]:
    found = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found.append(os.readlink(entry))
        except FileNotFoundError:
            continue
    return [target for target in found if "bpf" in target]


def capabilities(thread: Path) -> dict[str, int]:
    lines = (line.split() for line in (thread / "status").read_text().splitlines())
    return {line[0].rstrip(":"): int(line[1], 16) for line in lines if line and line[0].startswith(("Cap", "NoNewPrivs"))}


def mask(caps: frozenset[Cap]) -> int:
    return sum(1 << cap for cap in caps) & capabilities(Path("/proc/self"))["CapPrm"]


def test_labels_come_with_the_first_word(agent: Agent) -> None:
    assert list(agent.server.hellos[-1].labels) == ["env=test", "team=care"]


def test_each_process_holds_only_the_rights_that_it_needs(agent: Agent) -> None:
    """Every thread of it: rights belong to threads."""
    agent.until(is_watching)
    family = agent.family()
    wanted = {"drainer": (DRAINER, DRAINER_AT_WORK), "sender": (SENDER, SENDER)}
    assert family.keys() == wanted.keys()
    for name, pid in family.items():
        permitted, effective = wanted[name]
        for thread in Path(f"/proc/{pid}/task").iterdir():
            try:
                held = capabilities(thread)
            except (FileNotFoundError, ProcessLookupError):
                assert thread.name != str(pid)
                continue  # the sender has some for one look at a process
            assert held["CapPrm"] == held["CapBnd"] == mask(permitted), (name, thread)
            # A thread that looks at processes for probes has more, while it does.
            at_work = mask(effective | PROBES) if name == "drainer" and thread.name != str(pid) else mask(effective)
            assert held["CapEff"] in (mask(effective), at_work), (name, thread)
            assert (held["CapInh"], held["CapAmb"], held["NoNewPrivs"]) == (0, 0, 1), (name, thread)
    assert bpf_descriptors(family["drainer"])
    assert not bpf_descriptors(family["sender"])


def test_paused_agent_holds_no_hook_and_says_who_wanted_that(agent: Agent, tmp_path: Path) -> None:
    agent.until(is_watching)
    before = load(tmp_path / "before.gguf")
    done = agent.command("pause", "--reason", "slow reads on gpu-17")
    assert done.returncode == exit_codes.OK, done.stderr
    assert "holds no hook" in done.stdout
    assert not bpf_descriptors(agent.process.pid)
    assert not pins.present(pins.folder_of(agent.state))
    beat = agent.until(lambda beat: beat.mode == pb.MODE_PAUSED and len(beat.doors) > 0)
    assert "slow reads on gpu-17" in beat.mode_reason
    assert {door.door for door in beat.doors} == {"none"}
    meanwhile = load(tmp_path / "meanwhile.gguf")
    again = agent.command("pause")
    assert again.returncode == exit_codes.OK
    resumed = agent.command("resume")
    assert resumed.returncode == exit_codes.OK, resumed.stderr
    beat = agent.until(is_watching)
    after = load(tmp_path / "after.gguf")
    agent.server.wait_for(lambda: str(tmp_path / "after.gguf") in agent.of(after))
    # What was seen before the pause was spooled before the hooks were gone.
    assert str(tmp_path / "before.gguf") in agent.of(before)
    assert agent.of(meanwhile) == []
    assert agent.command("resume").stdout.startswith("It was not paused")


def test_rights_are_the_same_after_a_pause(agent: Agent) -> None:
    agent.until(is_watching)
    held = capabilities(Path(f"/proc/{agent.process.pid}"))
    assert (held["CapPrm"], held["CapEff"]) == (mask(DRAINER), mask(DRAINER_AT_WORK))


def test_test_alert_comes_back_as_an_event_and_its_result_at_once(agent: Agent) -> None:
    agent.until(is_watching)
    agent.server.push(pb.CollectorMessage(command=pb.Command(id="c0ffee-1", test_alert=pb.TestAlert())))
    beat = agent.until(lambda beat: any(result.id == "c0ffee-1" for result in beat.results))
    assert [result.error for result in beat.results] == [""]

    def canaries() -> list[str]:
        lines = [row["process_command_line"] for row in agent.rows() if row["event_name"] == "canary"]
        return [line for line in lines if line.endswith("c0ffee-1")]

    agent.server.wait_for(lambda: bool(canaries()))
    assert canaries() == ["modelward-canary c0ffee-1"]


def test_command_that_this_agent_does_not_know_is_answered(agent: Agent) -> None:
    agent.server.push(pb.CollectorMessage(command=pb.Command(id="of-tomorrow")))
    beat = agent.until(lambda beat: any(result.id == "of-tomorrow" for result in beat.results))
    assert ["upgrade" in result.error for result in beat.results] == [True]


def test_support_of_a_running_agent_shows_its_processes_and_no_secret(agent: Agent, tmp_path: Path) -> None:
    token = "hf_" + "Planted0" * 5
    model = tmp_path / "model.gguf"
    model.write_bytes(b"GGUF")
    code = "import sys; open(sys.argv[1]).close(); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code, str(model), "--api-key", token], stdin=subprocess.PIPE) as watched:
        agent.server.wait_for(lambda: str(model) in agent.of(watched.pid))
        path = tmp_path / "support.tar.gz"
        done = agent.command("support", "--output", str(path))
        watched.communicate()
    assert done.returncode == exit_codes.OK, done.stderr
    with tarfile.open(path) as archive:
        parts = {Path(m.name).name: archive.extractfile(m).read().decode() for m in archive.getmembers()}  # type: ignore[union-attr]
    assert token not in "".join(parts.values())
    found = json.loads(parts["agent.json"])
    assert found["standing"]["mode"] == "watching"
    assert {process["pid"] for process in found["processes"]} >= set(agent.family().values())
    assert json.loads(parts["check.json"])["result"]["doors"]
    assert json.loads(parts["ledger.json"])
    assert "running" in parts["log.txt"]


def test_pause_is_kept_over_a_restart_and_needs_no_agent(own: tuple[Path, StreamServer]) -> None:
    state, server = own
    state.mkdir(mode=0o700)
    command = [BIN, "pause", "--state", str(state), "--reason", "maintenance"]
    paused = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "No agent runs" in paused.stdout
    with running(state, server) as agent:
        assert agent.beat.mode == pb.MODE_PAUSED
        assert "maintenance" in agent.beat.mode_reason
        assert not bpf_descriptors(agent.process.pid)
        assert agent.process.poll() is None
    assert agent.process.returncode == exit_codes.OK


def test_agent_that_crashed_three_times_lives_without_hooks_until_somebody_looks(own: tuple[Path, StreamServer]) -> None:
    state, server = own
    state.mkdir(mode=0o700)
    now = time.time()
    (state / "crashes").write_text(json.dumps({"running": True, "ends": [now - 400, now - 60]}))
    with running(state, server) as agent:
        assert agent.beat.mode == pb.MODE_DEGRADED
        assert "3 times within ten minutes" in agent.beat.mode_reason
        assert not bpf_descriptors(agent.process.pid)
        assert agent.command("resume").returncode == exit_codes.OK
        agent.until(is_watching)
        assert bpf_descriptors(agent.process.pid)
    assert not (state / "crashes").exists()


def test_agent_that_the_kernel_refuses_says_why_and_can_be_asked_to_try_again(own: tuple[Path, StreamServer]) -> None:
    state, server = own
    with running(state, server, "--pins", str(state.parent / "no-bpf-file-system")) as agent:
        assert agent.beat.mode == pb.MODE_DEGRADED
        assert "not in a bpf file system" in agent.beat.mode_reason
        tried = agent.command("resume")
        assert tried.returncode == exit_codes.NOT_DONE
        assert "not in a bpf file system" in tried.stderr
        agent.server.push(pb.CollectorMessage(command=pb.Command(id="blind", test_alert=pb.TestAlert())))
        beat = agent.until(lambda beat: len(beat.results) > 0)
        assert "no hook is attached" in beat.results[0].error


def test_agent_starts_on_a_full_disk_and_spools_once_there_is_room(own: tuple[Path, StreamServer]) -> None:
    state, server = own
    state.mkdir(mode=0o700)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m,mode=0700", "nodev", str(state)], check=True)
    try:
        with running(state, server):
            pass
        filler = state / "filler"
        fill = subprocess.run(["dd", "if=/dev/zero", f"of={filler}", "bs=4k"], capture_output=True, check=False)
        assert b"No space" in fill.stderr
        with running(state, server) as agent:
            beat = agent.until(lambda beat: any("No space left" in problem for problem in beat.problems))
            assert is_watching(beat)
            filler.unlink()
            pid = load(state.parent / "room.gguf")
            agent.server.wait_for(lambda: str(state.parent / "room.gguf") in agent.of(pid))
            agent.until(lambda beat: not beat.problems)
        assert agent.process.returncode == exit_codes.OK
    finally:
        subprocess.run(["umount", str(state)], check=True)


def test_uninstall_leaves_nothing(own: tuple[Path, StreamServer]) -> None:
    state, server = own
    with running(state, server, "--keep-hooks") as agent:
        pinned = pins.folder_of(state)
        assert pins.present(pinned)
        refused = agent.command("uninstall")
        assert refused.returncode == exit_codes.STATE
        assert "--stop" in refused.stderr
        # In a mount namespace of its own: other agents of this machine use the same mounts.
        done = subprocess.run(
            ["unshare", "--mount", "--propagation", "private", str(BIN), "uninstall", "--stop", "--state", str(state)],
            capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == exit_codes.OK, done.stderr
        assert agent.process.wait(5) == exit_codes.OK
    assert "Nothing of the agent is left" in done.stdout
    assert not pinned.exists()
    assert not state.exists()
