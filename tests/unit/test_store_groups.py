"""Insert groups on the real engine: what a crash or a refusal between two inserts leaves, and that it is settled exactly once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from modelward_collector.data_folder import DataFolder
from modelward_collector.ingest.judging import conform
from modelward_collector.ingest.validate import Source, bindings, check
from modelward_collector.store import engine
from modelward_collector.store.ddl.migrations import migrate
from modelward_collector.store.encode import ipc
from modelward_collector.store.held import EpochKey, Held
from modelward_collector.store.insert import Outcome, StoreBusy, Writer
from modelward_collector.store.journal import Group, Journal
from modelward_proto.fields import DETECTION_FIELDS
from modelward_proto.v1.store_pb2 import AppendRequest

from tests.batches import envelope, events, identity, now_ns, zero

AGENT, EPOCH = b"A" * 16, b"E" * 16
KEY = EpochKey("gpu-1", AGENT.hex(), EPOCH.hex())
DAY_NS = 86_400 * 10**9


class Store:
    """The writer on an engine of its own. ``restart`` forgets everything that is not on disk, as a crash does."""

    def __init__(self, folder: DataFolder) -> None:
        self.folder = folder
        self.journal = folder.journal
        self.lane = engine.Lane("test", folder.engine)
        self.lane.call(lambda c: migrate(c, 30))
        self.restart()

    def restart(self) -> None:
        self.writer = Writer(Journal(self.journal), Held(), self.folder.scratch)

    def store(self, *requests: AppendRequest) -> list[Outcome | StoreBusy]:
        return self.lane.call(lambda c: self.writer.store(c, requests))

    def sql(self, statement: str) -> list[list[Any]]:
        return self.lane.call(lambda c: engine.rows(c, statement))

    def change(self, statement: str) -> None:
        self.lane.call(lambda c: engine.execute(c, statement))

    def counts(self) -> tuple[int, int, int, int]:
        """Rows of events, detections, bindings, batches."""
        tables = ("events_raw", "detections_raw", "bindings", "batches")
        counts = [int(self.sql(f"SELECT count() FROM modelward.{t}")[0][0]) for t in tables]
        return counts[0], counts[1], counts[2], counts[3]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    folder = DataFolder(tmp_path)
    folder.create()
    made = Store(folder)
    yield made
    made.lane.close()


def detection(number: int) -> bytes:
    values = {f.column: zero(f) for f in DETECTION_FIELDS}
    values |= {"detection_id": f"d{number}", "time": now_ns(), "detected_at": now_ns(), "host_name": "gpu-1",
               "severity": "high", "rule_name": "test", "group_key": "k"}
    table = pa.table({f.column: pa.array([values[f.column]], pa.string() if f.type == "closed" else f.arrow)
                      for f in DETECTION_FIELDS})
    return ipc(conform(table, DETECTION_FIELDS))


def request(number: int, rows: int = 10, *, days_ago: int = 0, checksum: int | None = None, detected: bool = False,
            bound: bool = False, **fixed: Any) -> AppendRequest:
    """One call as a receiver makes it."""
    time_ns = now_ns() - days_ago * DAY_NS
    batch = identity(7, "tiny", time_ns=time_ns) if bound else events(rows, seed=number, time_ns=time_ns, **fixed)
    message = envelope(number, batch, epoch=EPOCH, time_ns=time_ns, checksum=checksum)
    checked = check(message, Source("gpu-1", AGENT, 30), now_ns())
    binding = bindings(checked.events)
    return AppendRequest(
        agent_id=AGENT, epoch=EPOCH, number=number, checksum=message.checksum, batch_time_ns=time_ns, host="gpu-1",
        events=ipc(checked.events), kinds=checked.kinds, detections=detection(number) if detected else b"",
        bindings=ipc(binding) if binding is not None else b"")


def test_a_crash_after_the_events_loses_no_detection_binding_or_name(store: Store) -> None:
    store.change("RENAME TABLE modelward.detections_raw TO modelward.away")
    [first, second] = store.store(request(1, detected=True), request(2, bound=True))
    assert isinstance(first, StoreBusy)
    assert isinstance(second, StoreBusy)
    assert len(list(store.journal.iterdir())) == 1
    store.change("RENAME TABLE modelward.away TO modelward.detections_raw")
    assert store.counts() == (11, 0, 0, 0)
    store.restart()
    # The agents were not answered: they send again, one of them with a third batch.
    assert store.store(request(1, detected=True), request(2, bound=True), request(3)) == [Outcome()] * 3
    assert store.counts() == (21, 1, 1, 3)
    assert not list(store.journal.iterdir())


def test_a_crash_before_the_events_forgets_the_group_and_the_resend_is_stored(store: Store) -> None:
    store.change("RENAME TABLE modelward.events_raw TO modelward.away")
    [outcome] = store.store(request(1, detected=True))
    assert isinstance(outcome, StoreBusy)
    store.change("RENAME TABLE modelward.away TO modelward.events_raw")
    store.restart()
    store.lane.call(store.writer.settle)
    assert store.counts() == (0, 0, 0, 0)
    assert store.store(request(1, detected=True)) == [Outcome()]
    assert store.counts() == (10, 1, 0, 1)


def test_settling_a_finished_group_again_changes_nothing(store: Store) -> None:
    kept: list[bytes] = []
    done = Journal.done

    class Keeping(Journal):
        """A journal whose removal did not reach the disk before the power went."""

        def done(self, name: str) -> None:
            kept.append((store.journal / f"{name}.group").read_bytes())
            done(self, name)

    store.writer = Writer(Keeping(store.journal), Held(), store.folder.scratch)
    assert store.store(request(1, detected=True), request(2, bound=True)) == [Outcome(), Outcome()]
    before = store.counts()
    (store.journal / "00000000000000000001-again.group").write_bytes(kept[0])
    store.restart()
    store.lane.call(store.writer.settle)
    assert store.counts() == before == (11, 1, 1, 2)


def test_a_torn_journal_file_stops_nothing(store: Store) -> None:
    Journal(store.journal).write(Group("00000000000000000009-torn", 9, (), ()))
    path = store.journal / "00000000000000000009-torn.group"
    path.write_bytes(path.read_bytes()[:-5])
    assert store.store(request(1)) == [Outcome()]
    assert not path.exists()


def test_a_batch_that_the_engine_refuses_is_quarantined_and_its_group_is_stored(store: Store) -> None:
    store.change("ALTER TABLE modelward.events_raw ADD CONSTRAINT poison CHECK process_pid != 666")
    outcomes = store.store(request(1), request(2, process_pid=666), request(3))
    assert [isinstance(o, Outcome) and bool(o.quarantined) for o in outcomes] == [False, True, False]
    assert store.sql("SELECT batch, count() FROM modelward.events_raw GROUP BY batch ORDER BY batch") == [[1, 10], [3, 10]]
    assert store.sql("SELECT batch, position(reason, 'poison') > 0 FROM modelward.quarantine") == [[2, 1]]
    # The agent missed the answer: it gets the same one, and nothing is counted twice.
    [again] = store.store(request(2, process_pid=666))
    assert isinstance(again, Outcome)
    assert again.quarantined
    assert store.sql("SELECT count() FROM modelward.quarantine") == [[1]]


def test_detections_that_the_engine_refuses_do_not_stop_the_store(store: Store) -> None:
    store.change("ALTER TABLE modelward.detections_raw ADD CONSTRAINT poison CHECK detection_id != 'd1'")
    assert store.store(request(1, detected=True), request(2)) == [Outcome()] * 2
    assert store.store(request(3, detected=True)) == [Outcome()]
    assert store.counts() == (30, 1, 0, 3)
    assert [p.suffix for p in store.journal.iterdir()] == [".refused"]


def test_thousands_of_detections_of_one_group_are_stored_once(store: Store) -> None:
    flood = request(1)
    table = pa.ipc.open_stream(detection(1)).read_all()
    many = pa.concat_tables([table] * 9000)
    index = many.schema.get_field_index("detection_id")
    many = many.set_column(index, many.schema.field(index), pa.array([f"{n:032d}" for n in range(9000)]))
    flood.detections = ipc(many)
    again = request(2)
    again.detections = flood.detections
    assert store.store(flood) == [Outcome()]
    assert store.store(again) == [Outcome()]
    assert store.counts() == (20, 9000, 0, 2)


def test_a_day_left_unfinished_does_not_spoil_the_totals_of_the_next(store: Store) -> None:
    store.change("RENAME TABLE modelward.detections_raw TO modelward.away")
    outcomes = store.store(request(1, days_ago=1, detected=True, event_name="exec"), request(2, event_name="exec"))
    assert [isinstance(o, StoreBusy) for o in outcomes] == [True, True]
    store.change("RENAME TABLE modelward.away TO modelward.detections_raw")
    again = request(1, days_ago=1, detected=True, event_name="exec"), request(2, event_name="exec")
    assert store.store(*again) == [Outcome(), Outcome()]
    assert store.lane.call(lambda c: store.writer.totals(c, KEY)) == ({"exec": 20}, {})


def test_the_same_batch_twice_in_one_group_is_stored_once(store: Store) -> None:
    assert store.store(request(1), request(1), request(2)) == [Outcome()] * 3
    assert store.counts() == (20, 0, 0, 2)


def test_two_contents_of_one_name_in_one_group_store_the_first_alone(store: Store) -> None:
    [first, second] = store.store(request(1), request(1, rows=12, checksum=5))
    assert first == Outcome()
    assert isinstance(second, Outcome)
    assert "checksum" in second.quarantined
    assert store.counts() == (10, 0, 0, 1)


def test_a_detection_that_is_stored_is_not_stored_again_with_another_batch(store: Store) -> None:
    repeated = request(2)
    repeated.detections = detection(1)
    assert store.store(request(1, detected=True)) == [Outcome()]
    assert store.store(repeated) == [Outcome()]
    assert store.counts() == (20, 1, 0, 2)


def test_batches_of_several_days_are_one_part_each_day(store: Store) -> None:
    assert store.store(request(1), request(2, days_ago=1), request(3, days_ago=2), request(4)) == [Outcome()] * 4
    assert store.sql("SELECT partition, count() FROM system.parts WHERE database = 'modelward' AND table = 'events_raw' "
                     "AND active GROUP BY partition HAVING count() != 1") == []
    assert store.counts() == (40, 0, 0, 4)


def test_totals_of_an_epoch_survive_a_restart(store: Store) -> None:
    store.store(request(1, event_name="exec"), request(2, event_name="exec"))
    store.restart()
    store.store(request(3, event_name="exec", count=5))
    store.restart()
    assert store.lane.call(lambda c: store.writer.totals(c, KEY)) == ({"exec": 70}, {})


def _ends(ranges: list[tuple[int, int, list[int]]]) -> list[tuple[int, int]]:
    return [(first, last) for first, last, _ in ranges]


def test_held_batches_are_named_with_their_checksums(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.store(*(request(n, rows=1) for n in (1, 2, 4)))
    found = store.lane.call(lambda c: Held().ranges(c, KEY, 1))
    assert found == [(1, 2, [request(1).checksum, request(2).checksum]), (4, 4, [request(4).checksum])]
    monkeypatch.setattr("modelward_collector.store.held.MOST_CHECKSUMS", 2)
    assert store.lane.call(lambda c: Held().ranges(c, KEY, 1)) == [(1, 2, []), (4, 4, [])]


def test_held_ranges_name_every_stored_batch_and_no_other(store: Store) -> None:
    store.store(*(request(n, rows=1) for n in (1, 2, 3, 5, 9, 10)))
    held = Held()
    assert store.lane.call(lambda c: _ends(held.ranges(c, KEY, 2))) == [(2, 3), (5, 5), (9, 10)]
    assert store.lane.call(lambda c: held.ranges(c, KEY._replace(host="gpu-2"), 1)) == []


def test_an_agent_with_countless_holes_is_told_the_first_of_them(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelward_collector.store.held.MOST_RANGES", 2)
    store.store(*(request(n, rows=1) for n in (1, 3, 5, 7)))
    assert store.lane.call(lambda c: _ends(Held().ranges(c, KEY, 1))) == [(1, 1), (3, 3)]


def test_a_batch_older_than_what_memory_holds_is_still_known(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelward_collector.store.held.REMEMBERED", 0)
    monkeypatch.setattr("modelward_collector.store.held.LEAST_PER_EPOCH", 2)
    for number in range(1, 12):
        store.store(request(number, rows=1))
    assert store.store(request(1, rows=1)) == [Outcome()]
    assert store.counts() == (11, 0, 0, 11)
    store.restart()
    assert store.store(request(2, rows=1), request(12, rows=1)) == [Outcome(), Outcome()]
    assert store.counts() == (12, 0, 0, 12)
