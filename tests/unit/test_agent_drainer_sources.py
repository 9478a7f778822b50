"""Which rings the drainer reads, and from where on: after a restart, an upgrade, a pause, or with a new spool.

The sensors are fakes; tests/kernel does the same with real ones.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from modelward_agent.no_sensor import NoSensor
from modelward_agent.sensor.progress import Progress
from modelward_agent.sensor.rings import Drained
from modelward_agent.spool.folder import SpoolError
from modelward_agent.spool.writer import SpoolWriter
from modelward_proto.kinds import Kind

from tests.unit.spooling import LAYOUT, NOTHING, records
from tests.unit.test_agent_drainer import LISTENING, FakeSensor, agent, spooled, turn

__all__ = ["agent"]

Make = Callable[..., Any]


def law(writer: SpoolWriter, kind: str = "file_open") -> tuple[int, int]:
    ledger = writer.ledger
    return ledger.count("seen", kind), ledger.count("drained", kind) + ledger.count("ring_dropped", kind)


def opens(n: int, position: int, **more: Any) -> Drained:
    return Drained(records(n, **more), NOTHING, {2: position}, {})


def test_every_batch_says_how_far_the_rings_are_spooled(agent: Make) -> None:
    drainer, sensor, writer = agent([opens(3, 30)])
    turn(drainer, lambda: writer.last_number == 1)
    sensor.script.append(opens(2, 50, count=5))
    sensor.totals = {("ring_dropped", "file_open"): 4}
    turn(drainer, lambda: bool(sensor.at.told) and sensor.at.positions == {2: 50})
    said = [b.progress for b in spooled(writer)]
    rings = sensor.at.rings
    assert said[0] == Progress(rings, 1, {2: 30}, {"file_open": 3})
    assert said[-1] == sensor.at
    assert (sensor.at.taken, sensor.at.told) == ({"file_open": 13}, {("ring_dropped", "file_open"): 4})


def test_an_agent_killed_between_spool_and_ring_goes_on_behind_the_batch(agent: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    drainer, sensor, _ = agent([opens(3, 30)])
    before = sensor.at
    monkeypatch.setattr(FakeSensor, "keep", lambda self, progress: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        turn(drainer, lambda: False)
    monkeypatch.undo()
    assert (sensor.at, sensor.committed) == (before, {})
    agent(sensor=sensor)
    assert sensor.did == ["resume"]
    assert sensor.at == Progress(before.rings, 1, {2: 30}, {"file_open": 3})


def test_the_kernel_knows_of_more_than_the_spool_after_swaps_without_repeats(agent: Make) -> None:
    drainer, sensor, writer = agent([opens(1, 10)])
    turn(drainer, lambda: writer.last_number == 1)
    sensor.at = sensor.at.after({255: 9}, {}, {})
    drainer, _, _ = agent(sensor=sensor)
    assert sensor.did == []
    assert drainer._reading.progress.positions == {2: 10, 255: 9}


def test_losses_that_were_told_are_not_told_again_after_a_restart(agent: Make) -> None:
    drainer, sensor, writer = agent()
    sensor.totals = {("ring_dropped", "file_open"): 4, ("seen", "file_open"): 4, ("missed", "all"): 1}
    turn(drainer, lambda: writer.last_number == 1)
    writer.poll(force=True)
    sensor.totals["ring_dropped", "file_open"] = 6
    sensor.totals["seen", "file_open"] = 6
    drainer, _, writer = agent(sensor=sensor)
    turn(drainer, lambda: writer.last_number == 2)
    assert [set(b.losses) for b in spooled(writer)] == [
        {("ring_dropped", "file_open", 4), ("missed", "all", 1)}, {("ring_dropped", "file_open", 2)},
    ]
    assert law(writer) == (6, 6)


def test_a_new_spool_counts_from_what_was_taken_and_told_before(agent: Make) -> None:
    sensor = FakeSensor([opens(5, 90)])
    sensor.at = Progress("r", 7, {2: 40}, {"file_open": 100}, {("ring_dropped", "file_open"): 10})
    sensor.totals = {("seen", "file_open"): 118, ("ring_dropped", "file_open"): 13, ("merged", "file_open"): 50}
    drainer, _, writer = agent(sensor=sensor)
    turn(drainer, lambda: writer.last_number == 1)
    turn(drainer, lambda: drainer._pending.empty)
    assert law(writer) == (8, 8)
    assert any("state folder was emptied" in problem for problem in drainer.status()["problems"])
    assert writer.ledger.count("merged") == 0


def test_rings_of_an_earlier_version_are_read_to_the_end_before_its_own(agent: Make) -> None:
    old = FakeSensor([opens(3, 30), opens(2, 50)], repeats=[records(1, count=9, ring=255)])
    old.totals = {("seen", "file_open"): 14}
    sensor = FakeSensor([opens(1, 10)], before=[old])
    drainer, _, writer = agent(sensor=sensor)
    assert old.did == ["close"]
    assert old.committed == {2: 50, 255: 1}
    assert law(writer) == (14, 14)
    sensor.totals = {("seen", "file_open"): 1}
    turn(drainer, lambda: bool(sensor.committed))
    drainer._status()
    assert law(writer) == (15, 15)
    assert set(writer.progress) == {sensor.at.rings}


def test_rings_of_an_earlier_version_wait_for_the_disk(agent: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    old = FakeSensor([opens(3, 30)])
    sensor = FakeSensor(before=[old])
    write = SpoolWriter.write
    monkeypatch.setattr(SpoolWriter, "write", lambda *a, **k: (_ for _ in ()).throw(SpoolError("full")))
    drainer, _, _ = agent(sensor=sensor)
    drainer.step()
    assert (old.did, old.committed) == ([], {})
    monkeypatch.setattr(SpoolWriter, "write", write)
    turn(drainer, lambda: bool(old.did))
    assert (old.did, old.committed) == (["close"], {2: 30})


def test_counts_of_one_swap_go_into_one_batch(agent: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelward_agent.drainer.REPEATS_S", 0.0)
    drainer, sensor, writer = agent([opens(100, 10)])
    sensor.repeats.append(records(8192, ring=255))
    turn(drainer, lambda: 255 in sensor.committed)
    assert sorted(len(b.small) for b in spooled(writer)) == [100, 8192]


def test_repeats_wait_behind_what_the_disk_does_not_take(agent: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    drainer, sensor, writer = agent([opens(100, 10)])
    write = SpoolWriter.write
    monkeypatch.setattr(SpoolWriter, "write", lambda *a, **k: (_ for _ in ()).throw(SpoolError("full")))
    drainer._drain()
    sensor.repeats.append(records(8192, ring=255))
    drainer._repeats()
    monkeypatch.setattr(SpoolWriter, "write", write)
    turn(drainer, lambda: 255 in sensor.committed)
    assert [(len(b.small), dict(b.progress.positions)) for b in spooled(writer)] == [(100, {2: 10}), (8192, {2: 10, 255: 1})]


def test_a_pause_spools_what_was_seen_and_the_next_sensor_goes_on_with_the_ledger(agent: Make) -> None:
    drainer, sensor, writer = agent()
    drainer.step()
    sensor.script.append(opens(4, 40))
    sensor.totals = {("seen", "file_open"): 4}
    nobody = NoSensor(LAYOUT, "paused")
    drainer.replace_source(nobody, "paused", "slow reads")
    assert (sensor.did, sensor.committed) == (["detach"], {2: 40})
    assert (drainer.status()["mode"], drainer.status()["mode_reason"]) == ("paused", "slow reads")
    drainer.step()
    again = FakeSensor([opens(2, 20)])
    again.totals = {("seen", "file_open"): 2}
    drainer.replace_source(again, "watching", "")
    turn(drainer, lambda: bool(again.committed))
    drainer._status()
    assert law(writer) == (6, 6)


def test_a_pause_reads_both_generations_of_repeats_though_one_waits_to_be_written(agent: Make) -> None:
    drainer, sensor, writer = agent()
    sensor.settles = True
    sensor.repeats += [records(2, ring=255, count=3), records(1, ring=255, count=7)]
    sensor.totals = {("seen", "file_open"): 13}
    drainer.step()
    assert not sensor.committed
    drainer.replace_source(NoSensor(LAYOUT, "paused"), "paused", "")
    assert (sensor.repeats, sensor.committed) == ([], {255: 2})
    assert law(writer) == (13, 13)


def test_losses_that_the_disk_did_not_take_are_told_of_the_source_that_had_them(
    agent: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    drainer, sensor, writer = agent([opens(3, 30)])
    write = SpoolWriter.write
    monkeypatch.setattr(SpoolWriter, "write", lambda *a, **k: (_ for _ in ()).throw(SpoolError("full")))
    drainer._drain()
    drainer._close_batch()
    sensor.totals = {("ring_dropped", "file_open"): 4}
    again = FakeSensor()
    drainer.replace_source(again, "watching", "")
    monkeypatch.setattr(SpoolWriter, "write", write)
    turn(drainer, lambda: writer.last_number == 2)
    assert (sensor.at.told, again.at.told) == ({("ring_dropped", "file_open"): 4}, {})


def test_what_a_pause_could_not_drain_is_counted_as_lost(agent: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    drainer, sensor, writer = agent()
    drainer.step()
    sensor.totals = {("seen", "file_open"): 9}
    monkeypatch.setattr(SpoolWriter, "blocked", True)
    drainer.replace_source(NoSensor(LAYOUT, "paused"), "paused", "")
    monkeypatch.setattr(SpoolWriter, "blocked", False)
    drainer.replace_source(FakeSensor(), "watching", "")
    assert law(writer) == (9, 9)
    assert writer.ledger.count("ring_dropped", "file_open") == 9


def test_an_agent_without_hooks_leaves_what_is_pinned_alone(agent: Make) -> None:
    drainer, sensor, writer = agent([opens(1, 10)])
    sensor.totals = {("seen", "file_open"): 3}
    turn(drainer, lambda: writer.last_number == 1 and writer.ledger.count("seen") == 3)
    writer.poll(force=True)
    drainer, _, writer = agent(sensor=NoSensor(LAYOUT, "crashed"))
    assert writer.ledger.count("ring_dropped") == 0
    assert set(writer.progress) == {sensor.at.rings}
    sensor.script.append(opens(2, 30))
    drainer.replace_source(sensor, "watching", "")
    turn(drainer, lambda: sensor.committed == {2: 30})
    assert law(writer) == (3, 3)


def test_hooks_that_are_kept_are_not_detached_at_the_end(agent: Make) -> None:
    drainer, sensor, _ = agent()
    drainer.run(lambda: True, keep_hooks=True)
    assert sensor.did == []


@pytest.mark.parametrize(("id", "error"), [("good", ""), ("bad", "not that one")])
def test_a_test_of_the_alarm_is_done_and_its_result_told(agent: Make, tmp_path: Any, id: str, error: str) -> None:
    asking = LISTENING + f"""
line.tell("canary", {id!r})
for what, *rest in hear():
    if what == "result":
        open({str(tmp_path / "result")!r}, "w").write(repr(rest))
"""
    drainer, sensor, _ = agent(sender=asking)
    turn(drainer, lambda: (tmp_path / "result").exists() and bool((tmp_path / "result").read_text()))
    assert sensor.did == [f"canary {id}"]
    assert (tmp_path / "result").read_text() == repr([id, error])


def test_progress_survives_being_written_and_sums_up() -> None:
    made = Progress("r").after({2: 8}, {"exec": 2}, {}).after({0: 4}, {"exec": 1, "fork": 7}, {("missed", "all"): 3})
    assert made == Progress("r", 2, {2: 8, 0: 4}, {"exec": 3, "fork": 7}, {("missed", "all"): 3})
    assert Progress.from_json(made.to_json()) == made
    assert made.baseline() == {("missed", "all"): 3, ("seen", "exec"): 3, ("seen", "fork"): 7}


def test_kinds_without_records_are_no_part_of_progress(agent: Make) -> None:
    drainer, sensor, writer = agent()
    drainer._pending.add(np.empty(0, LAYOUT.small), records(1, Kind.MODEL_IDENTITY, large=True, ring=255))
    turn(drainer, lambda: writer.last_number == 1)
    assert sensor.at.taken == {}
