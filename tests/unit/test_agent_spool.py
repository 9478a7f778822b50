"""The spool: what is written comes back, whatever ends the process, tears a file or fills the disk."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from modelward_agent.sensor.progress import Progress
from modelward_agent.spool import writer as writer_module
from modelward_agent.spool.batch import CorruptBatch, Layout, SpooledBatch, count_kinds, decode, encode, peek
from modelward_agent.spool.folder import BatchFile, SpoolError
from modelward_agent.spool.reader import LIVE_PER_LATE, SpoolReader
from modelward_agent.spool.writer import SpoolFull, SpoolWriter
from modelward_proto.kinds import EVENT_NAMES, Kind


def record_class(size: int) -> np.dtype[Any]:
    """A record class of the real sizes with the members that the spool itself reads."""
    return np.dtype({
        "names": ["number", "time_ns", "count", "kind", "ring", "text"],
        "formats": ["<u8", "<u8", "<u4", "<u2", "u1", f"V{size - 176}"],
        "offsets": [0, 8, 104, 108, 112, 176],
        "itemsize": size,
    })


LAYOUT = Layout(record_class(336), record_class(8704))
LIMIT = 1 << 26


def records(n: int, kind: Kind = Kind.FILE_OPEN, *, large: bool = False, count: int = 1, ring: int = 2) -> np.ndarray[Any, Any]:
    made = np.zeros(n, LAYOUT.large if large else LAYOUT.small)
    made["number"] = np.arange(1, n + 1)
    made["kind"], made["count"], made["ring"] = kind, count, ring
    return made


NOTHING = records(0, large=True)


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Callable[..., SpoolWriter]]:
    opened: list[SpoolWriter] = []

    def open_spool(*, limit: int = LIMIT, boot: str = "boot-1") -> SpoolWriter:
        opened.append(SpoolWriter(tmp_path / "spool", LAYOUT, limit_bytes=limit, boot_id=boot))
        return opened[-1]

    yield open_spool
    for each in opened:
        each.poll(force=True)


def reader_of(writer: SpoolWriter) -> SpoolReader:
    return SpoolReader(writer.folder, LAYOUT)


def drain(reader: SpoolReader) -> list[SpooledBatch]:
    found: list[SpooledBatch] = []
    while (number := reader.next()) is not None:
        batch = reader.claim(number)
        if batch is not None:
            found.append(batch)
    return found


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


texts = st.text(st.characters(codec="utf-8"), max_size=20)


@settings(max_examples=60, deadline=None)
@given(
    small=st.integers(0, 40), large=st.integers(0, 3), seed=st.integers(0, 2**32 - 1), late=st.booleans(),
    losses=st.lists(st.tuples(texts, texts, st.integers(1, 2**62)), max_size=4),
    positions=st.dictionaries(st.integers(0, 3), st.integers(0, 2**63), max_size=4),
    times=st.tuples(st.integers(0, 2**63 - 1), st.integers(-(2**62), 2**62)),
)
def test_any_records_survive_encode_and_decode(
    small: int, large: int, seed: int, late: bool, losses: list[tuple[str, str, int]], positions: dict[int, int],
    times: tuple[int, int],
) -> None:
    noise = np.random.default_rng(seed)
    arrays = [
        np.frombuffer(noise.bytes(n * dtype.itemsize), dtype) for n, dtype in ((small, LAYOUT.small), (large, LAYOUT.large))
    ]
    batch = SpooledBatch(
        epoch=b"e" * 16, number=seed, batch_time_ns=times[0], wall_offset_ns=times[1], small=arrays[0], large=arrays[1],
        losses=tuple(losses), late=late, checksum=0, boot_id="b", kinds={"x": 1},
        progress=Progress("r", seed, positions, {"exec": seed}, {(hop, kind): n for hop, kind, n in losses}),
    )
    buffers, checksum = encode(batch, LAYOUT)
    again = decode(b"".join(bytes(b) for b in buffers), LAYOUT, b"e" * 16, seed)
    assert again.small.tobytes() == arrays[0].tobytes()
    assert again.large.tobytes() == arrays[1].tobytes()
    assert (again.losses, again.late, again.progress) == (tuple(losses), late, batch.progress)
    assert (again.batch_time_ns, again.wall_offset_ns) == times
    assert again.checksum == checksum


@settings(max_examples=150, deadline=None)
@given(position=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_no_flipped_bit_goes_unnoticed(position: float, bit: int) -> None:
    raw = bytearray(_encoded())
    raw[int(position * len(raw))] ^= 1 << bit
    with pytest.raises(CorruptBatch):
        decode(bytes(raw), LAYOUT, b"e" * 16, 5)


@settings(max_examples=100, deadline=None)
@given(kept=st.floats(0, 1, exclude_max=True))
def test_no_torn_write_goes_unnoticed(kept: float) -> None:
    raw = _encoded()
    with pytest.raises(CorruptBatch):
        decode(raw[: int(kept * len(raw))], LAYOUT, b"e" * 16, 5)


def _encoded() -> bytes:
    batch = SpooledBatch(b"e" * 16, 5, 1, 2, records(20), NOTHING, (), False, 0, kinds={"file_open": 20})
    return b"".join(bytes(b) for b in encode(batch, LAYOUT)[0])


def test_records_of_another_layout_are_refused_not_misread() -> None:
    with pytest.raises(CorruptBatch, match="layout of another agent version") as caught:
        decode(_encoded(), Layout(record_class(344), LAYOUT.large), b"e" * 16, 5)
    assert caught.value.kinds == {"file_open": 20}


def test_repeats_count_as_many() -> None:
    assert count_kinds(records(2, count=5), NOTHING) == {"file_open": 10}


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
from test_agent_spool import *
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


def test_full_spool_drops_oldest_unsent_opens_before_execs(spool: Callable[..., SpoolWriter]) -> None:
    writer = spool(limit=5 * 8192)
    writer.write(records(1, Kind.PROCESS_EXEC), NOTHING)
    for n in range(12):
        writer.write(records(10 + n), NOTHING)
    assert writer.bytes <= 5 * 8192
    kept = drain(reader_of(writer))
    assert kept[0].kinds["exec"] == 1
    assert [b.number for b in kept[1:]] == list(range(kept[1].number, 14))
    evicted = writer.ledger.count("evicted", "file_open")
    assert evicted == writer.ledger.count("spooled", "file_open") - sum(b.kinds.get("file_open", 0) for b in kept)

def test_evicted_events_are_told_once_even_if_the_telling_batch_is_evicted(spool: Callable[..., SpoolWriter]) -> None:
    writer = spool(limit=3 * 4096)
    for _ in range(9):
        writer.write(records(10), NOTHING)
    writer.limit_bytes = LIMIT
    writer.write(records(1, Kind.PROCESS_EXEC), NOTHING)
    told = [loss for batch in drain(reader_of(writer)) for loss in batch.losses]
    assert {(hop, kind) for hop, kind, _ in told} == {("evicted", "file_open")}
    assert sum(count for _, _, count in told) == writer.ledger.count("evicted", "file_open") > 0


def test_full_spool_never_drops_a_batch_that_was_sent(spool: Callable[..., SpoolWriter]) -> None:
    writer = spool(limit=4 * 4096)
    for _ in range(3):
        writer.write(records(1), NOTHING)
    claimed = [b.number for b in drain(reader_of(writer))]
    for _ in range(6):
        writer.write(records(1), NOTHING)
    assert claimed == [1, 2, 3]
    assert {b.number for b in drain(reader_of(writer))} >= {1, 2, 3}


def test_more_unsynced_batches_than_bounded_stops_draining_until_the_disk_caught_up(
    spool: Callable[..., SpoolWriter], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "MAX_UNSYNCED", 2)
    writer = spool()
    writer.write(records(1), NOTHING)
    assert not writer.blocked
    writer.write(records(1), NOTHING)
    assert writer.blocked
    writer.poll(force=True)
    assert not writer.blocked


def test_sender_finds_an_evicted_batch_gone_not_broken(spool: Callable[..., SpoolWriter]) -> None:
    writer = spool(limit=2 * 4096)
    writer.write(records(1), NOTHING)
    reader = reader_of(writer)
    for _ in range(3):
        writer.write(records(1), NOTHING)
    assert reader.next() == 1
    assert reader.claim(1) is None


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("a disk of its own needs root")
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", place], check=True)
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def test_full_disk_evicts_unsent_batches_and_goes_on(tiny_disk: Path) -> None:
    writer = SpoolWriter(tiny_disk / "spool", LAYOUT, limit_bytes=LIMIT, boot_id="boot-1")
    for _ in range(20):
        writer.write(records(100), NOTHING)
    assert writer.ledger.count("evicted") > 0
    assert writer.ledger.count("spooled", EVENT_NAMES[int(records(1)["kind"][0])]) == 2000
    assert writer.disk_problem == ""
    writer.close()


def test_disk_that_others_filled_costs_no_more_batches_than_the_room_that_is_needed(tiny_disk: Path) -> None:
    writer = SpoolWriter(tiny_disk / "spool", LAYOUT, limit_bytes=LIMIT, boot_id="boot-1")
    for _ in range(4):
        writer.write(records(100), NOTHING)
    writer.poll(force=True)
    with (tiny_disk / "filler").open("wb", buffering=0) as filler, contextlib.suppress(OSError):
        while filler.write(bytes(4096)):
            pass
    assert writer.write(records(100), NOTHING).number == 5
    assert writer.ledger.count("evicted") == 100
    assert writer.disk_problem == ""
    (tiny_disk / "filler").unlink()
    # Killed here: the file that was emptied still says how many events went with it.
    again = SpoolWriter(tiny_disk / "spool", LAYOUT, limit_bytes=LIMIT, boot_id="boot-1")
    assert again.ledger.count("spooled") - again.ledger.count("evicted") == 400
    again.close()
    writer.close()


def test_what_went_to_make_room_for_a_batch_is_told_by_the_next_one(tiny_disk: Path) -> None:
    writer = SpoolWriter(tiny_disk / "spool", LAYOUT, limit_bytes=LIMIT, boot_id="boot-1")
    while not writer.ledger.count("evicted"):
        writer.write(records(100), NOTHING)
    file = writer.write(records(1), NOTHING)
    kind = EVENT_NAMES[int(records(1)["kind"][0])]
    assert ("evicted", kind, 100) in peek(tiny_disk / "spool" / file.name).losses
    writer.close()


def test_full_disk_of_sent_batches_is_a_clear_problem_that_passes(tiny_disk: Path) -> None:
    writer = SpoolWriter(tiny_disk / "spool", LAYOUT, limit_bytes=LIMIT, boot_id="boot-1")
    written = 0
    for _ in range(20):
        try:
            writer.write(records(100), NOTHING)
        except SpoolFull as e:
            assert "no room for events on the disk" in str(e)  # noqa: PT017
            break
        written += 1
        drain(reader_of(writer))
    assert "No space left" in writer.disk_problem
    assert writer.ledger.count("spooled") == written * 100
    for number in range(1, written + 1):
        writer.stored(number, {"file_open": 100})
    writer.poll(force=True)
    assert writer.write(records(100), NOTHING).number == written + 1
    assert writer.disk_problem == ""
    writer.close()


def test_disk_that_refuses_a_rename_loses_no_batch(spool: Callable[..., SpoolWriter], monkeypatch: pytest.MonkeyPatch) -> None:
    writer = spool(limit=4 * 8192)
    rename, refused = os.rename, []

    def full(source: Any, target: Any) -> None:
        if str(target).endswith((".sent", ".evicted")):
            refused.append(target)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        rename(source, target)

    monkeypatch.setattr(os, "rename", full)
    for _ in range(6):
        writer.write(records(100), NOTHING)
    assert writer.blocked
    assert [batch.number for batch in drain(reader_of(writer))] == [1, 2, 3, 4, 5, 6]
    assert refused
    assert writer.ledger.rows() == [("drained", "file_open", 600), ("spooled", "file_open", 600)]
    monkeypatch.undo()
    writer.write(records(100), NOTHING)
    assert writer.bytes <= 4 * 8192


def test_file_size_limit_costs_no_other_batch(spool: Callable[..., SpoolWriter]) -> None:
    """Room that eviction would make is no help against it."""
    writer = spool()
    writer.write(records(1), NOTHING)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, before[1]))
    try:
        with pytest.raises(SpoolError, match=os.strerror(errno.EFBIG)):
            writer.write(records(100), NOTHING)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert writer.ledger.count("evicted") == 0
    assert writer.write(records(100), NOTHING).number == 2


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


def test_number_of_batches_is_bounded_too(spool: Callable[..., SpoolWriter], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "MAX_BATCHES", 4)
    writer = spool()
    for _ in range(9):
        writer.write(records(1), NOTHING)
    assert len(drain(reader_of(writer))) == 4


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
