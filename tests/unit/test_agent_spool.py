"""The spool: what is written comes back, whatever ends the process or tears a file."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from modelward_agent.sensor.progress import Progress
from modelward_agent.spool.batch import CorruptBatch
from modelward_agent.spool.folder import BatchFile, SpoolError
from modelward_agent.spool.ranges import Range, to_ranges, within
from modelward_agent.spool.reader import LIVE_PER_LATE
from modelward_agent.spool.writer import SpoolWriter
from modelward_proto.kinds import Kind

from tests.unit.spooling import NOTHING, drain, reader_of, records, spool

__all__ = ["spool"]


def test_batch_comes_back_as_written(spool: Callable[..., SpoolWriter]) -> None:
    writer = spool()
    small, large = records(3, Kind.NET_CONNECT), records(2, Kind.PROCESS_EXEC, large=True)
    large["text"] = np.void(b"\xff\x00\x1b[31m" + bytes(8522))
    progress = Progress("rings", 5, {0: 11, 3: 22}, {"exec": 9}, {("ring_dropped", "file_open"): 7})
    writer.write(small, large, [("ring_dropped", "file_open", 7)], progress)
    (batch,) = drain(reader_of(writer))
    assert batch.small.tobytes() == small.tobytes()
    assert batch.large.tobytes() == large.tobytes()
    assert batch.losses == (("ring_dropped", "file_open", 7),)
    assert batch.progress == progress
    assert dict(batch.kinds) == {"connect": 3, "exec": 2, "loss": 7}
    assert (batch.number, batch.epoch, batch.boot_id, batch.late) == (1, writer.folder.epoch, "boot-1", False)


def test_spool_folder_is_for_the_agent_alone(spool: Callable[..., SpoolWriter]) -> None:
    writer = spool()
    file = writer.write(records(1), NOTHING)
    assert writer.folder.path.stat().st_mode & 0o777 == 0o700
    assert writer.folder.file(file).stat().st_mode & 0o777 == 0o600


def test_restart_goes_on_with_number_epoch_and_ledger(spool: Callable[..., SpoolWriter]) -> None:
    first = spool()
    first.write(records(4), NOTHING)
    first.write(records(1, Kind.PROCESS_EXEC), NOTHING)
    first.sent(1, {"file_open": 4})
    first.stored(1, {"file_open": 4})
    first.close()
    second = spool()
    assert second.folder.epoch == first.folder.epoch
    assert (second.last_number, second.first_unacked) == (2, 2)
    assert second.ledger.rows() == first.ledger.rows()
    assert [b.number for b in drain(reader_of(second))] == [2]


_CRASH = """
import sys, os, signal
sys.path.insert(0, {here!r})
from pathlib import Path
from spooling import LAYOUT, LIMIT, NOTHING, Kind, SpoolWriter, records
writer = SpoolWriter(Path(sys.argv[1]), LAYOUT, limit_bytes=LIMIT, boot_id="boot-1")
writer.write(records(5), NOTHING)
writer.write(records(2, Kind.PROCESS_EXEC), NOTHING)
writer.poll(force=True)
writer.sent(1, {{"file_open": 5}}); writer.stored(1, {{"file_open": 5}})
writer.write(records(3), NOTHING)
(writer.folder.path / "99.tmp").write_bytes(b"half a batch")
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_kill_9_loses_no_written_batch_and_counts_each_once(tmp_path: Path, spool: Callable[..., SpoolWriter]) -> None:
    script = tmp_path / "crash.py"
    script.write_text(_CRASH.format(here=str(Path(__file__).parent)))
    ended = subprocess.run([os.sys.executable, script, tmp_path / "spool"], check=False)  # type: ignore[attr-defined]
    assert ended.returncode == -signal.SIGKILL
    writer = spool()
    assert writer.last_number == 3
    assert writer.ledger.count("spooled", "file_open") == 8
    assert writer.ledger.count("spooled", "exec") == 2
    # Batch 1 was acked in the last second before the crash: it may be offered again, and the collector says that it holds it.
    assert [b.number for b in drain(reader_of(writer))] == [1, 2, 3]
    writer.stored(1, {"file_open": 5})
    assert writer.ledger.count("stored") == 5
    assert not list(writer.folder.path.glob("*.tmp"))


def test_number_lost_with_the_page_cache_is_not_given_twice(spool: Callable[..., SpoolWriter]) -> None:
    before = spool()
    before.write(records(1), NOTHING)
    lost = before.write(records(1), NOTHING)
    before.folder.file(lost).unlink()
    after = spool(boot="boot-2")
    assert after.write(records(1), NOTHING).number > lost.number


def test_settled_batch_is_removed_only_after_its_count_is_durable(spool: Callable[..., SpoolWriter]) -> None:
    writer = spool()
    file = writer.write(records(1), NOTHING)
    writer.stored(1, {"file_open": 1})
    assert writer.folder.file(file).exists()
    writer.poll(force=True)
    assert not writer.folder.file(file).exists()
    assert writer.bytes == 0


def test_sender_crash_between_claim_and_word_counts_sent_once(spool: Callable[..., SpoolWriter]) -> None:
    writer = spool()
    writer.write(records(6), NOTHING)
    for _ in range(2):
        drain(reader_of(writer))
        writer.sent(1, {"file_open": 6})
    assert writer.ledger.count("sent") == 6


def test_ack_that_comes_twice_counts_once(spool: Callable[..., SpoolWriter]) -> None:
    writer = spool()
    writer.write(records(6), NOTHING)
    writer.stored(1, {"file_open": 6})
    writer.stored(1, {"file_open": 6})
    assert writer.ledger.count("stored") == 6


def test_corrupt_batch_is_set_aside_and_the_rest_goes_on(spool: Callable[..., SpoolWriter]) -> None:
    writer = spool()
    for n in (1, 2, 3):
        writer.write(records(n), NOTHING)
    path = writer.folder.path / BatchFile(2, False, True, 2, "new").name
    raw = bytearray(path.read_bytes())
    raw[-100] ^= 1
    path.write_bytes(raw)
    reader, good = reader_of(writer), []
    while (number := reader.next()) is not None:
        try:
            batch = reader.claim(number)
            assert batch is not None
            good.append(batch.number)
        except CorruptBatch as e:
            writer.corrupt(number, str(e), e.kinds)
    assert good == [1, 3]
    assert "batch 2" in writer.damage
    assert "CRC-32" in writer.damage
    assert writer.ledger.count("evicted", "file_open") == 2
    writer.poll(force=True)
    assert [p.name for p in (writer.folder.path / "corrupt").iterdir()] == [path.with_suffix(".corrupt").name]
    writer.write(records(1), NOTHING)
    (last,) = [b for b in drain(reader_of(writer)) if b.number == 4]
    assert last.losses == (("evicted", "file_open", 2),)


def test_batch_without_a_readable_header_still_counts_its_events(spool: Callable[..., SpoolWriter]) -> None:
    writer = spool()
    file = writer.write(records(9), NOTHING)
    writer.folder.file(file).write_bytes(b"")
    reader = reader_of(writer)
    with pytest.raises(CorruptBatch) as caught:
        reader.claim(1)
    writer.corrupt(1, str(caught.value), caught.value.kinds)
    assert writer.ledger.count("evicted", "all") == 9


def test_live_batches_go_before_those_of_an_outage(spool: Callable[..., SpoolWriter]) -> None:
    writer = spool()
    for late in (True, True, False, False):
        writer.write(records(1), NOTHING, late=late)
    assert [b.number for b in drain(reader_of(writer))] == [3, 4, 1, 2]


def test_outage_batches_are_not_starved_by_live_ones(spool: Callable[..., SpoolWriter]) -> None:
    writer = spool()
    writer.write(records(1), NOTHING, late=True)
    for _ in range(LIVE_PER_LATE + 5):
        writer.write(records(1), NOTHING)
    assert [b.number for b in drain(reader_of(writer))].index(1) == LIVE_PER_LATE


def test_damaged_state_begins_a_new_epoch_and_keeps_the_old_folder(spool: Callable[..., SpoolWriter]) -> None:
    before = spool()
    before.write(records(1), NOTHING)
    before.close()
    (before.folder.path / "state.json").write_bytes(b'{"version": 1, "bo')
    after = spool()
    assert after.folder.epoch != before.folder.epoch
    assert after.last_number == 0
    (aside,) = before.folder.path.parent.glob("spool.damaged-*")
    assert len(list(aside.glob("*.new"))) == 1


def test_damaged_epoch_is_a_clear_error(spool: Callable[..., SpoolWriter]) -> None:
    writer = spool()
    (writer.folder.path / "epoch").write_text("not hex")
    with pytest.raises(SpoolError, match="epoch is damaged"):
        spool()


def test_foreign_files_in_the_folder_are_left_alone(spool: Callable[..., SpoolWriter]) -> None:
    writer = spool()
    (writer.folder.path / "notes.txt").write_text("mine")
    with tempfile.NamedTemporaryFile(dir=writer.folder.path, suffix=".new", delete=False):
        pass
    writer.write(records(1), NOTHING)
    assert [b.number for b in drain(reader_of(writer))] == [1]


@pytest.mark.parametrize(
    ("numbers", "ranges"), [([], []), ([3], [(3, 3)]), ([2, 1, 3, 7, 8, 8], [(1, 3), (7, 8)]), ([5, 1], [(1, 1), (5, 5)])]
)
def test_ranges_hold_exactly_the_numbers(numbers: list[int], ranges: list[Range]) -> None:
    assert to_ranges(numbers) == ranges
    assert sorted(set(numbers)) == within(range(10), ranges)
