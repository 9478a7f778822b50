"""No batch is so large, and no stream ends in such a moment, that those of other agents wait for it without end."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
from modelward_collector.data_folder import DataFolder
from modelward_collector.ingest.credit import InFlight
from modelward_collector.ingest.payload import PayloadError
from modelward_collector.ingest.pending import Pending
from modelward_collector.ingest.validate import MAX_DECODED_BYTES, MAX_STORED_BYTES, Source, check
from modelward_collector.store import engine, following
from modelward_collector.store.ddl.migrations import migrate
from modelward_collector.store.encode import ipc
from modelward_collector.store.held import Held
from modelward_collector.store.insert import Outcome, StoreBusy, Writer
from modelward_collector.store.interface import MAX_MESSAGE_BYTES
from modelward_collector.store.journal import Journal
from modelward_proto.v1.store_pb2 import AppendReply, AppendRequest
from modelward_proto.v1.stream_pb2 import Batch

from tests.batches import envelope, events, now_ns
from tests.unit.test_store_groups import detection

SOURCE = Source("gpu-1", b"A" * 16, 30)
EPOCH = b"E" * 16


def large(number: int, size: int, rows: int = 4096) -> Batch:
    """A batch whose command lines take ``size`` bytes that no compression makes much smaller."""
    noise = random.Random(number)
    lines = pa.array([noise.randbytes(size // rows // 2).hex() for _ in range(rows)])
    table = events(rows, seed=number)
    index = table.schema.get_field_index("process_command_line")
    return envelope(number, table.set_column(index, table.schema.field(index), lines), epoch=EPOCH)


def request(batch: Batch, detections: bytes = b"") -> AppendRequest:
    checked = check(batch, SOURCE, now_ns())
    return AppendRequest(
        agent_id=SOURCE.agent_id, epoch=EPOCH, number=batch.number, checksum=batch.checksum, host="gpu-1",
        batch_time_ns=batch.batch_time_ns, events=ipc(checked.events, compressed=True), kinds=checked.kinds,
        detections=detections, decoded_bytes=checked.events.nbytes)


@pytest.fixture
def folder(tmp_path: Path) -> DataFolder:
    made = DataFolder(tmp_path)
    made.create()
    return made


def test_the_largest_batch_that_is_let_in_is_stored_with_the_group_it_comes_in(folder: DataFolder) -> None:
    lane = engine.Lane("test", folder.engine)
    lane.call(lambda c: migrate(c, 30))
    writer = Writer(Journal(folder.journal), Held(), folder.scratch)
    requests = [request(large(1, 4 << 20)), request(large(2, MAX_DECODED_BYTES - (3 << 20)))]
    assert sum(r.ByteSize() for r in requests) < MAX_MESSAGE_BYTES
    assert lane.call(lambda c: writer.store(c, requests)) == [Outcome(), Outcome()]
    lane.close()


def test_a_batch_that_the_engine_could_never_insert_is_refused() -> None:
    with pytest.raises(PayloadError, match="takes more than 48 MiB when it is read"):
        check(large(1, MAX_DECODED_BYTES + (1 << 20)), SOURCE, now_ns())
    many = large(2, 40 << 20, 100_000)
    with pytest.raises(PayloadError, match=f"takes more than ({MAX_STORED_BYTES >> 20} MiB in the store|48 MiB)"):
        check(many, Source("h" * 253, SOURCE.agent_id, 30), now_ns())


def test_more_detections_than_one_insert_takes_are_all_stored_once(
    folder: DataFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "SLICE", 3)
    lane = engine.Lane("test", folder.engine)
    lane.call(lambda c: migrate(c, 30))
    found = ipc(pa.concat_tables([pa.ipc.open_stream(detection(n)).read_all() for n in range(10)]))
    writer = Writer(Journal(folder.journal), Held(), folder.scratch)
    inserted: list[str] = []

    def failing(connection: Any, table: str, columns: Any, data: bytes, token: str, scratch: Path) -> None:
        inserted.append(table)
        if inserted.count("detections_raw") == 3 and table == "detections_raw":
            raise engine.EngineError("Code: 241. DB::Exception: no memory now")
        engine.insert(connection, table, columns, data, token, scratch)

    monkeypatch.setattr(following, "insert", failing)
    [first] = lane.call(lambda c: writer.store(c, [request(large(1, 4096, 10), found)]))
    assert isinstance(first, StoreBusy)
    assert lane.call(lambda c: writer.store(c, [request(large(1, 4096, 10), found)])) == [Outcome()]
    [[count, different]] = lane.call(lambda c: engine.rows(
        c, "SELECT count(), uniqExact(detection_id) FROM modelward.detections_raw"))
    assert (int(count), int(different)) == (10, 10)
    lane.close()


async def answer_of_a_batch_whose_loss_cannot_be_told() -> AppendReply:
    class Refusing:
        async def append(self, request: AppendRequest) -> AppendReply:
            return AppendReply(quarantined=request.quarantine)

    async def refuse(batch: Batch, source: Source) -> Any:
        raise PayloadError("it is bad")

    async def fail(events: pa.Table, name: Any) -> Any:
        raise PayloadError("the rules' engine failed on this batch")

    judging = SimpleNamespace(judge=refuse, judge_own=fail)
    pending = Pending(judging, Refusing(), SimpleNamespace(keep=lambda name, payload: None))  # type: ignore[arg-type]
    return await (await pending.take(Batch(number=1, epoch=EPOCH, checksum=1), SOURCE))


def test_a_batch_that_is_set_aside_is_answered_even_if_its_loss_cannot_be_told() -> None:
    assert asyncio.run(answer_of_a_batch_whose_loss_cannot_be_told()).quarantined == "it is bad"


class SlowLink:
    """A store that answers when told."""

    def __init__(self) -> None:
        self.go = asyncio.Event()

    async def append(self, request: AppendRequest) -> AppendReply:
        await self.go.wait()
        return AppendReply(stored=True)


async def cut_streams() -> int:
    link = SlowLink()
    judged = SimpleNamespace(events=b"", detections=b"", bindings=b"", decoded_bytes=0, kinds={})

    async def judge(batch: Batch, source: Source) -> Any:
        return judged

    pending = Pending(SimpleNamespace(judge=judge), link, SimpleNamespace())  # type: ignore[arg-type]
    first = await pending.take(Batch(number=1, epoch=EPOCH, checksum=1), SOURCE)
    for _ in range(3):
        other = asyncio.create_task(pending.take(Batch(number=1, epoch=EPOCH, checksum=2), SOURCE))
        await asyncio.sleep(0)
        other.cancel()
        await asyncio.wait([other])
    link.go.set()
    await first
    return pending.in_flight._bytes


def test_a_stream_that_ends_while_its_batch_waits_for_another_of_that_name_gives_the_room_back() -> None:
    assert asyncio.run(cut_streams()) == 0


async def order_of_waiting() -> list[str]:
    room, done = InFlight(10), []

    async def use(name: str, size: int) -> None:
        await room.take(size)
        done.append(name)
        await asyncio.sleep(0)
        room.give(size)

    await asyncio.gather(*(use(name, size) for name, size in (("a", 8), ("b", 8), ("larger than all", 99), ("c", 8))))
    assert room._bytes == 0
    return done


def test_room_goes_to_all_who_wait_for_it() -> None:
    assert sorted(asyncio.run(order_of_waiting())) == ["a", "b", "c", "larger than all"]
