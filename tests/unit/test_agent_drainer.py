"""The drainer with a scripted sensor (a fake: these tests need no kernel), a real spool and real sender processes."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from modelward_agent import drainer as drainer_module
from modelward_agent import proving, supervise
from modelward_agent.drainer import Drainer
from modelward_agent.hints.hint import Hint
from modelward_agent.hints.listening import Hints
from modelward_agent.proving import Proof
from modelward_agent.sensor.doors import DoorReport
from modelward_agent.sensor.progress import Progress
from modelward_agent.sensor.rings import Drained
from modelward_agent.spool.batch import Layout
from modelward_agent.spool.reader import SpoolReader
from modelward_agent.spool.writer import SpoolFull, SpoolWriter
from modelward_agent.supervise import SenderProcess, StateError, StateLock
from modelward_proto.fields import PHASES
from modelward_proto.kinds import Kind

from tests.unit.spooling import LAYOUT, LIMIT, NOTHING, records


@dataclass
class FakeSensor:
    """Gives out what the test put in ``script``, one item for each drain."""

    script: list[Drained] = field(default_factory=list)
    layout: Layout = LAYOUT
    repeats: list[np.ndarray[Any, Any]] = field(default_factory=list)
    totals: dict[tuple[str, str], int] = field(default_factory=dict)
    committed: dict[int, int] = field(default_factory=dict)
    on_commit: Callable[[], None] = lambda: None
    ticks: int = 0
    swaps: int = 0
    settles: bool = False
    """As in the kernel: one generation is read only once the counts of the other are safe."""
    at: Progress = field(default_factory=lambda: Progress(os.urandom(4).hex()))
    before: list[FakeSensor] = field(default_factory=list)
    did: list[str] = field(default_factory=list)

    def progress(self) -> Progress:
        return self.at

    def resume(self, progress: Progress) -> None:
        self.did.append("resume")

    def keep(self, progress: Progress) -> None:
        self.at = progress

    def predecessors(self) -> Sequence[FakeSensor]:
        return self.before

    def drain(self, max_records: int = 65536) -> Drained:
        nothing = Drained(np.empty(0, self.layout.small), np.empty(0, self.layout.large), {}, {})
        return self.script.pop(0) if self.script else nothing

    def commit(self, positions: Mapping[int, int]) -> None:
        self.on_commit()
        self.committed.update(positions)

    def wait(self, timeout_s: float) -> None:
        time.sleep(0.001)

    def tick(self) -> None:
        self.ticks += 1

    def swap_repeats(self) -> Drained:
        large = np.empty(0, self.layout.large)
        if not self.repeats or (self.settles and self.committed.get(255, 0) < self.swaps):
            return Drained(np.empty(0, self.layout.small), large)
        self.swaps += 1
        return Drained(self.repeats.pop(0), large, {255: self.swaps})

    def counters(self) -> dict[tuple[str, str], int]:
        return dict(self.totals)

    def doors(self) -> Sequence[DoorReport]:
        return [DoorReport("exec", "tp_btf", "first choice", True, "")]

    def canary(self, id: str) -> None:
        self.did.append(f"canary {id}")
        if id == "bad":
            raise ValueError("not that one")

    def declare(self, hint: Hint) -> None:
        self.did.append(f"declare {PHASES[hint.phase]}")

    def register_artifacts(self, found: Iterable[tuple[int, int]]) -> int:
        self.did.append(f"artifacts {[*found]}")
        return 0

    def late_loads(self, found: Iterable[tuple[int, int, int, int, int]]) -> int:
        loads = [*found]
        self.did.append(f"late {loads}")
        return len(loads)

    def detach(self) -> None:
        self.did.append("detach")

    def close(self) -> None:
        self.did.append("close")

    def leave(self) -> None:
        self.did.append("leave")


IDLE = "import sys, time; time.sleep(60)"
LISTENING = """
import socket, sys, time
from modelward_agent.control import Channel, ChannelClosed
line = Channel(socket.socket(fileno=int(sys.argv[1])))
def hear():
    while True:
        time.sleep(0.005)
        try:
            yield from line.receive()
        except ChannelClosed:
            raise SystemExit(0)
def number(name):
    return int(name.split("-")[0])
"""


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Callable[..., tuple[Drainer, FakeSensor, SpoolWriter]]]:
    senders: list[SenderProcess] = []

    def make(
        script: Sequence[Drained] = (), *, sender: str = IDLE, limit: int = LIMIT, sensor: FakeSensor | None = None,
        hints: Hints | None = None,
    ) -> tuple[Drainer, FakeSensor, SpoolWriter]:
        sensor = sensor or FakeSensor(list(script))
        writer = SpoolWriter(tmp_path / "spool", LAYOUT, limit_bytes=limit, boot_id="boot-1")
        senders.append(SenderProcess({}, command=("-c", sender)))
        return Drainer(sensor, writer, senders[-1], Proof(("true",)), hints=hints), sensor, writer

    yield make
    for sender in senders:
        sender.stop(0.0)


def turn(drainer: Drainer, until: Callable[[], bool], timeout_s: float = 15.0) -> None:
    end = time.monotonic() + timeout_s
    while not until():
        assert time.monotonic() < end, "the drainer did not do in time what the test waits for"
        drainer.step()
        time.sleep(0.002)


def spooled(writer: SpoolWriter) -> list[Any]:
    reader, found = SpoolReader(writer.folder, LAYOUT), []
    while (number := reader.next()) is not None:
        found.append(reader.claim(number))
    return found


def test_ring_is_given_back_only_after_its_records_are_in_the_spool(agent: Callable[..., Any]) -> None:
    drainer, sensor, writer = agent([Drained(records(3), records(1, Kind.PROCESS_EXEC, large=True), {2: 7, 3: 9}, {})])
    seen: list[int] = []
    sensor.on_commit = lambda: seen.append(len(list(writer.folder.path.glob("*.new"))))
    turn(drainer, lambda: bool(sensor.committed))
    assert sensor.committed == {2: 7, 3: 9}
    assert seen == [1]
    (batch,) = spooled(writer)
    assert dict(batch.kinds) == {"file_open": 3, "exec": 1}


def test_full_batch_does_not_wait_for_its_time(agent: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelward_agent.pending.CLOSE_AFTER_S", 3600)
    script = [Drained(records(512), NOTHING, {2: n}, {}) for n in range(1, 41)]
    drainer, sensor, writer = agent(script)
    drainer.step()
    assert writer.last_number == 2
    assert sensor.committed == {2: 32}
    assert [len(b.small) for b in spooled(writer)] == [8192, 8192]


def test_full_disk_keeps_records_in_memory_and_leaves_the_rest_in_the_ring(
    agent: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    drainer, sensor, writer = agent([Drained(records(n), NOTHING, {2: n}, {}) for n in (5, 6)])
    write = writer.write

    def refuse(*arguments: Any, **options: Any) -> Any:
        raise SpoolFull("no room")

    monkeypatch.setattr(writer, "write", refuse)
    drainer.step()
    time.sleep(0.15)
    drainer.step()
    sensor.script.append(Drained(records(7), NOTHING, {2: 7}, {}))
    for _ in range(3):
        drainer.step()
    assert sensor.committed == {}
    assert len(sensor.script) == 1
    monkeypatch.setattr(writer, "write", write)
    turn(drainer, lambda: sensor.committed == {2: 7})
    assert sum(len(b.small) for b in spooled(writer)) == 18


def test_batches_are_late_once_no_stream_was_up_for_a_while(
    agent: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drainer_module, "LATE_AFTER_S", 0.0)
    monkeypatch.setattr("modelward_agent.pending.CLOSE_AFTER_LATE_S", 0.0)
    up = LISTENING + "line.tell('stream', True, '')\nfor message in hear(): pass"
    drainer, sensor, writer = agent(sender=up)
    sensor.script.append(Drained(records(1), NOTHING, {2: 1}, {}))
    drainer.step()
    turn(drainer, lambda: drainer._down_since is None)
    sensor.script.append(Drained(records(1), NOTHING, {2: 2}, {}))
    turn(drainer, lambda: sensor.committed == {2: 2})
    assert {b.number: b.late for b in spooled(writer)} == {1: True, 2: False}


def test_in_an_outage_opens_are_apart_from_what_a_full_spool_must_keep(
    agent: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drainer_module, "LATE_AFTER_S", 0.0)
    monkeypatch.setattr("modelward_agent.pending.CLOSE_AFTER_LATE_S", 0.0)
    mixed = records(5)
    mixed[3:] = records(2, Kind.PROCESS_EXEC, ring=0)
    drainer, sensor, writer = agent([Drained(mixed, NOTHING, {0: 4, 2: 8}, {})])
    turn(drainer, lambda: bool(sensor.committed))
    assert [(dict(b.kinds), dict(b.progress.positions)) for b in spooled(writer)] == [
        ({"exec": 2}, {0: 4}), ({"file_open": 3}, {0: 4, 2: 8}),
    ]


def test_drops_that_the_kernel_counted_become_losses_by_kind(agent: Callable[..., Any]) -> None:
    drainer, sensor, writer = agent([Drained(records(1), NOTHING, {}, {(2, 0): 4})])
    sensor.totals = {("ring_dropped", "file_open"): 4, ("missed", "exec"): 1, ("seen", "file_open"): 5}
    turn(drainer, lambda: writer.last_number == 1)
    assert set(spooled(writer)[0].losses) == {("ring_dropped", "file_open", 4), ("missed", "exec", 1)}
    assert writer.ledger.count("ring_dropped", "file_open") == 4


def test_gaps_that_no_counter_explains_become_losses_too(agent: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drainer_module, "STATUS_S", 0.0)
    drainer, sensor, writer = agent([Drained(records(1), NOTHING, {}, {(2, 0): 4, (0, 1): 2})])
    sensor.totals = {("ring_dropped", "file_open"): 1}
    turn(drainer, lambda: writer.ledger.count("ring_dropped") > 1)
    turn(drainer, lambda: drainer._pending.empty)
    assert {loss for b in spooled(writer) for loss in b.losses} == {("ring_dropped", "file_open", 1), ("ring_dropped", "all", 5)}
    assert writer.ledger.count("ring_dropped") == 6


def test_a_gap_that_a_late_record_fills_or_a_late_count_explains_is_no_loss_of_its_own(agent: Callable[..., Any]) -> None:
    script = [Drained(records(1), NOTHING, {}, {(2, 0): missing}) for missing in (4, -1)]
    drainer, sensor, writer = agent(script)
    drainer._drain()
    drainer._status()
    sensor.totals = {("ring_dropped", "file_open"): 3}
    for _ in range(4):
        drainer._status()
    assert writer.ledger.rows()[0] == ("ring_dropped", "file_open", 3)
    assert writer.ledger.count("ring_dropped") == 3


def test_repeats_are_spooled_with_their_counts(agent: Callable[..., Any]) -> None:
    drainer, sensor, writer = agent()
    sensor.repeats.append(records(700, count=3, ring=255))
    turn(drainer, lambda: writer.last_number == 1)
    assert dict(spooled(writer)[0].kinds) == {"file_open": 2100}


def test_what_the_sender_says_is_counted_and_removed(agent: Callable[..., Any]) -> None:
    answering = LISTENING + """
for what, *rest in hear():
    if what == "spooled":
        line.tell("sent", number(rest[0]), {"file_open": 3})
        line.tell("quarantined" if number(rest[0]) == 2 else "stored", number(rest[0]), {"file_open": 3}, "bad")
"""
    drainer, sensor, writer = agent(sender=answering)
    drainer.step()
    for n in (1, 2, 3):
        sensor.script.append(Drained(records(3), NOTHING, {2: n}, {}))
        turn(drainer, lambda n=n: writer.last_number == n)  # type: ignore[misc]
    turn(drainer, lambda: writer.bytes == 0)
    writer.poll(force=True)
    assert {hop: writer.ledger.count(hop) for hop in ("drained", "spooled", "sent", "stored", "quarantined")} == {
        "drained": 9, "spooled": 9, "sent": 9, "stored": 6, "quarantined": 3,
    }
    assert list(writer.folder.path.glob("*-*")) == []


def test_identity_record_of_the_sender_is_spooled(agent: Callable[..., Any], tmp_path: Path) -> None:
    raw = records(1, Kind.MODEL_IDENTITY, large=True, ring=255).tobytes()
    (tmp_path / "record").write_bytes(raw)
    telling = LISTENING + f"line.record(open({str(tmp_path / 'record')!r}, 'rb').read())\nfor message in hear(): pass"
    drainer, _, writer = agent(sender=telling)
    turn(drainer, lambda: writer.last_number == 1)
    (batch,) = spooled(writer)
    assert batch.large.tobytes() == raw
    assert dict(batch.kinds) == {"model_identity": 1}


def test_record_of_a_wrong_size_is_not_spooled(agent: Callable[..., Any]) -> None:
    telling = LISTENING + "line.record(b'x' * 100)\nline.tell('stream', True, '')\nfor message in hear(): pass"
    drainer, _, writer = agent(sender=telling)
    turn(drainer, lambda: drainer._down_since is None)
    time.sleep(0.15)
    drainer.step()
    assert writer.last_number == 0


def test_sender_that_ends_is_started_again(agent: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervise, "FIRST_BACKOFF_S", 0.01)
    drainer, _, _ = agent(sender="raise SystemExit(7)")
    pids: set[int | None] = set()

    def several() -> bool:
        pids.add(drainer._sender.pid)
        return len(pids - {None}) >= 3

    turn(drainer, several)
    assert "status 7" in drainer._sender.problem


def test_batch_that_kills_the_sender_each_time_is_set_aside(
    agent: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervise, "FIRST_BACKOFF_S", 0.01)
    monkeypatch.setattr(supervise, "MAX_BACKOFF_S", 0.05)
    dying = LISTENING + "line.tell('reading', 1)\nraise SystemExit(1)"
    drainer, _sensor, writer = agent([Drained(records(4), NOTHING, {}, {})], sender=dying)
    turn(drainer, lambda: bool(writer.damage))
    assert "batch 1" in writer.damage
    assert writer.ledger.count("evicted", "file_open") + writer.ledger.count("evicted", "all") == 4


def test_stopped_sender_does_not_stop_the_drainer(agent: Callable[..., Any]) -> None:
    drainer, sensor, writer = agent()
    drainer.step()
    os.kill(drainer._sender.pid, signal.SIGSTOP)
    for n in range(1, 3001):
        sensor.script.append(Drained(records(8192), NOTHING, {2: n}, {})) if n <= 20 else None
        drainer._sender.tell("spooled", "x" * 1000)
        if n <= 20:
            drainer.step()
    turn(drainer, lambda: sensor.committed == {2: 20})
    assert writer.ledger.count("spooled") == 20 * 8192


def test_stop_spools_what_is_left_and_ends_the_sender(agent: Callable[..., Any]) -> None:
    ending = LISTENING + """
for what, *rest in hear():
    if what == "spooled":
        line.tell("stored", number(rest[0]), {"file_open": 1})
    if what == "stop":
        break
"""
    drainer, sensor, writer = agent(sender=ending)
    turn(drainer, lambda: drainer._sender.pid is not None)
    sensor.script.append(Drained(records(1), NOTHING, {2: 1}, {}))
    sensor.repeats.append(records(1, ring=255))
    drainer.run(lambda: True)
    assert sensor.committed == {2: 1, 255: 1}
    assert sensor.did == ["detach"]
    assert writer.ledger.count("spooled") == 2
    assert drainer._sender.pid is None
    assert (writer.folder.path / "state.json").read_text().find('"clean": true') > 0


def test_what_happens_while_the_sender_delivers_is_spooled_for_the_next_start(
    agent: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    drainer, sensor, writer = agent()
    turn(drainer, lambda: drainer._sender.pid is not None)
    stop = drainer._sender.stop

    def slow(timeout_s: float) -> Any:
        sensor.script.append(Drained(records(7), NOTHING, {2: 700}, {}))
        sensor.totals = {("seen", "file_open"): 7}
        return stop(0.1)  # this sender never ends by itself

    monkeypatch.setattr(drainer._sender, "stop", slow)
    drainer.run(lambda: True)
    assert writer.ledger.rows() == [("seen", "file_open", 7), ("drained", "file_open", 7), ("spooled", "file_open", 7)]
    assert [len(batch.small) for batch in spooled(writer)] == [7]
    assert sensor.committed == {2: 700}


def test_status_counts_what_is_drained_but_not_spooled_yet(agent: Callable[..., Any]) -> None:
    drainer, _sensor, _ = agent([Drained(records(2), NOTHING, {}, {})])
    drainer.step()
    assert ("drained", "file_open", 2) in drainer.status()["ledger"]
    assert not [row for row in drainer.status()["ledger"] if row[0] == "spooled"]


def test_events_that_went_with_the_rings_of_a_killed_agent_are_told_once(agent: Callable[..., Any]) -> None:
    drainer, sensor, writer = agent([Drained(records(2), NOTHING, {}, {})])
    sensor.totals = {("seen", "file_open"): 9, ("ring_dropped", "file_open"): 3}
    turn(drainer, lambda: writer.last_number == 1)
    writer.poll(force=True)
    for number in (2, 3):
        drainer, sensor, writer = agent()
        sensor.script.append(Drained(records(1, Kind.PROCESS_EXIT), NOTHING, {}, {}))
        turn(drainer, lambda writer=writer, number=number: writer.last_number == number)  # type: ignore[misc]
        writer.poll(force=True)
    assert [b.losses for b in spooled(writer)][1:] == [(("ring_dropped", "file_open", 4),), ()]
    assert writer.ledger.count("ring_dropped", "file_open") == 7


def test_what_was_drained_after_the_last_saved_count_was_seen(agent: Callable[..., Any]) -> None:
    drainer, _, writer = agent([Drained(records(5), NOTHING, {}, {})])
    turn(drainer, lambda: writer.last_number == 1)
    writer.poll(force=True)
    _, _, writer = agent()
    assert writer.ledger.count("seen", "file_open") == 5


def checked(proven: dict[str, bool]) -> Proof:
    doors = [{"effect": effect, "proven": yes} for effect, yes in proven.items()]
    return Proof((sys.executable, "-c", f"print({json.dumps(json.dumps({'doors': doors}))})"))


def result(proof: Proof) -> Proof:
    proof.start()
    end = time.monotonic() + 15
    while proof._process is not None or proof._again_at:
        assert time.monotonic() < end
        proof.poll()
        time.sleep(0.01)
    return proof


def test_a_door_that_is_gone_is_not_proven_by_an_earlier_check() -> None:
    """The agent is paused: its page said 'none, proven'."""
    proof = result(checked({"exec": True}))
    assert not proof.applied([DoorReport("exec", "none", "paused", False, "exec is not seen")])[0]["proven"]


def test_doors_are_told_as_proven_once_the_check_proved_them() -> None:
    door = DoorReport("exec", "tp_btf", "first choice", False, "")
    proof = checked({"exec": True})
    assert proof.applied([door])[0]["proven"] is False
    assert result(proof).applied([door])[0]["proven"] is True
    assert proof.problem == ""


def test_hook_that_the_check_did_not_prove_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proving, "TRIES", 1)
    assert result(checked({"exec": True, "connect": False})).problem == "no probe came through for: connect"


def test_hook_that_was_not_proven_is_tried_again_before_it_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proving, "AGAIN_AFTER_S", 0.01)
    script = tmp_path / "check.py"
    script.write_text(
        "import json, pathlib, sys\nmark = pathlib.Path(sys.argv[1])\n"
        "print(json.dumps({'doors': [{'effect': 'exec', 'proven': mark.exists()}]}))\nmark.touch()\n"
    )
    proof = result(Proof((sys.executable, str(script), str(tmp_path / "mark"))))
    assert (proof.problem, proof.applied([DoorReport("exec", "", "", False, "")])[0]["proven"]) == ("", True)


def test_what_a_process_declares_reaches_the_sensor_and_the_heartbeat_tells_that_it_can(
    agent: Callable[..., Any], tmp_path: Path
) -> None:
    hints = Hints(str(tmp_path / "hint.sock"))
    drainer, sensor, _ = agent(hints=hints)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.sendto(b"PHASE=serve", str(tmp_path / "hint.sock"))
    turn(drainer, lambda: "declare serve" in sensor.did)
    assert [door["door"] for door in drainer.status()["doors"] if door["effect"] == "declared"] == ["unix socket"]
    hints.close()


def test_check_that_says_nothing_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proving, "TRIES", 1)
    assert "gave no result" in result(Proof(("false",))).problem


def test_second_agent_on_one_state_folder_is_refused_with_the_first_ones_pid(tmp_path: Path) -> None:
    first = StateLock(tmp_path / "state")
    with pytest.raises(StateError, match=rf"another agent \(process {os.getpid()}\) uses the state folder"):
        StateLock(tmp_path / "state")
    first.release()
    StateLock(tmp_path / "state").release()


def test_state_folder_is_for_the_agent_alone(tmp_path: Path) -> None:
    StateLock(tmp_path / "state").release()
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700


def test_state_folder_that_others_may_write_to_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state").chmod(0o1777)
    with pytest.raises(StateError, match="others may write to the state folder"):
        StateLock(tmp_path / "state")
    assert (tmp_path / "state").stat().st_mode & 0o7777 == 0o1777


def test_state_that_is_no_folder_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    with pytest.raises(StateError, match="cannot use the state folder"):
        StateLock(tmp_path / "state")
