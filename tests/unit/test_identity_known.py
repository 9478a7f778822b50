"""What is remembered of files is bounded, in number and in bytes, in memory and on disk."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from pathlib import Path

import pytest
from modelward_agent.identity import known as module
from modelward_agent.identity.header import Facts
from modelward_agent.identity.known import Content, Known, Stamp


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Budgets of which a test can use up a multiple."""
    monkeypatch.setattr(module, "_MEMORY", 64 << 10)
    monkeypatch.setattr(module, "_DISK", 160 << 10)
    monkeypatch.setattr(module, "_ENTRY", 16 << 10)


def stamp(number: int) -> Stamp:
    return (8 << 8, number, 1, 2, 3)  # a device whose numbers hold in the next boot too


def content(number: int, size: int) -> Content:
    return Content(Facts("gguf", references=("x" * size,)), f"{number:064x}")


def held(known: Known) -> int:
    assert sum(known._sizes.values()) == known._bytes
    assert known._sizes.keys() == known._contents.keys()
    return known._bytes


@pytest.mark.usefixtures("small")
def test_large_entries_take_no_more_than_the_budget_and_the_latest_stay(tmp_path: Path) -> None:
    known = Known(tmp_path / "known")
    for number in range(300):
        known.put(stamp(number), content(number, 4000))
        known.save()
        assert held(known) <= 64 << 10
        assert (tmp_path / "known").stat().st_size <= 160 << 10
    assert known.get(stamp(299)) == content(299, 4000)
    assert known.get(stamp(0)) == Content()
    assert 12 <= len(known._contents) <= 16


@pytest.mark.usefixtures("small")
def test_the_bounds_hold_for_one_that_starts_with_what_is_on_disk(tmp_path: Path) -> None:
    first = Known(tmp_path / "known")
    for number in range(40):
        first.put(stamp(number), content(number, 4000))
        first.save()
    second = Known(tmp_path / "known")
    assert second.get(stamp(39)) == content(39, 4000)
    assert held(second) <= 64 << 10
    for number in range(40, 80):
        second.put(stamp(number), content(number, 4000))
        second.save()
        assert (tmp_path / "known").stat().st_size <= 160 << 10
    assert Known(tmp_path / "known").get(stamp(79)) == content(79, 4000)


@pytest.mark.usefixtures("small")
def test_a_file_that_is_far_too_large_is_read_in_part_and_written_anew(tmp_path: Path) -> None:
    (tmp_path / "known").write_bytes(b"x" * (1 << 20))
    known = Known(tmp_path / "known")
    known.put(stamp(1), content(1, 100))
    known.save()
    assert (tmp_path / "known").stat().st_size < 1000
    assert Known(tmp_path / "known").get(stamp(1)) == content(1, 100)


@pytest.mark.usefixtures("small")
def test_of_an_entry_that_is_too_large_the_digest_is_kept(tmp_path: Path) -> None:
    known = Known(tmp_path / "known")
    known.put(stamp(1), content(1, 100))
    known.save()
    known.put(stamp(2), content(2, 20 << 10))
    known.save()
    assert known.get(stamp(2)) == Content(None, content(2, 0).digest)
    assert known.get(stamp(1)) == content(1, 100)
    assert Known(tmp_path / "known").get(stamp(2)).digest == content(2, 0).digest


@pytest.mark.usefixtures("small")
def test_what_was_not_hashed_counts_in_memory_too() -> None:
    known = Known(None)
    for number in range(100):
        known.put(stamp(number), Content(Facts("gguf", references=("x" * 4000,))))
        known.save()
    assert held(known) <= 64 << 10


def test_an_entry_that_is_put_again_counts_once() -> None:
    known = Known(None)
    for _ in range(3):
        known.put(stamp(1), content(1, 100))
        known.save()
    known.put(stamp(1), content(1, 200))
    known.save()
    assert held(known) == len(known._line(stamp(1), content(1, 200)))


def test_so_many_files_as_before_are_remembered_when_they_are_small(tmp_path: Path) -> None:
    known = Known(tmp_path / "known")
    for number in range(5000):
        known.put(stamp(number), content(number, 10))
        known.save()
    assert len(known._contents) == 4096
    assert known.get(stamp(904)) == content(904, 10)


def on_disk(path: Path) -> set[int]:
    """Numbers of the entries that are there to be read."""
    return {stamp[1] for stamp in Known(path)._contents}


def test_a_disk_that_refuses_is_left_alone_for_a_while_and_then_gets_everything(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "known"
    known = Known(path)
    for number in range(3):
        known.put(stamp(number), content(number, 10))
        known.save()
    path.parent.mkdir()
    known.put(stamp(3), content(3, 10))
    known.save()
    assert not path.exists()
    known._again_at = 0.0  # a minute later
    known.save()
    assert on_disk(path) == {0, 1, 2, 3}
    known.put(stamp(4), content(4, 10))
    known.save()
    assert on_disk(path) == {0, 1, 2, 3, 4}


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_a_full_disk_costs_nothing_that_fits_when_there_is_room_again(tmp_path: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", tmp_path], check=True)
    try:
        known = Known(tmp_path / "known")
        filler = tmp_path / "filler"
        filler.write_bytes(bytes(48 << 10))
        for number in range(30):
            known.put(stamp(number), content(number, 1000))
            known.save()
        assert known._anew
        filler.unlink()
        known._again_at = 0.0
        known.save()
        assert on_disk(tmp_path / "known") == set(range(30))
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_a_disk_that_hangs_holds_up_nobody_but_who_writes(tmp_path: Path) -> None:
    known = Known(tmp_path / "known")
    os.mkfifo(tmp_path / "known")  # opening it waits for a reader
    known.put(stamp(1), content(1, 10))
    writer = threading.Thread(target=known.save)
    writer.start()
    while not known._writing.locked():
        time.sleep(0.001)
    began = time.monotonic()
    known.put(stamp(2), content(2, 10))
    assert known.get(stamp(2)) == content(2, 10)
    assert time.monotonic() - began < 1
    reader = os.open(tmp_path / "known", os.O_RDONLY | os.O_NONBLOCK)
    writer.join(10)
    os.close(reader)
    assert not writer.is_alive()
