"""A spool that is full, on a disk that is full or refuses: what goes, what stays, and that it is told."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from modelward_agent.spool import writer as writer_module
from modelward_agent.spool.batch import peek
from modelward_agent.spool.folder import SpoolError
from modelward_agent.spool.writer import SpoolFull, SpoolWriter
from modelward_proto.kinds import EVENT_NAMES, Kind

from tests.unit.spooling import LAYOUT, LIMIT, NOTHING, drain, reader_of, records, spool

__all__ = ["spool"]


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


def test_number_of_batches_is_bounded_too(spool: Callable[..., SpoolWriter], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "MAX_BATCHES", 4)
    writer = spool()
    for _ in range(9):
        writer.write(records(1), NOTHING)
    assert len(drain(reader_of(writer))) == 4
