"""What is remembered of files is bounded, in number and in bytes, in memory and on disk."""

from __future__ import annotations

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
    second = Known(tmp_path / "known")
    assert second.get(stamp(39)) == content(39, 4000)
    assert held(second) <= 64 << 10
    for number in range(40, 80):
        second.put(stamp(number), content(number, 4000))
        assert (tmp_path / "known").stat().st_size <= 160 << 10
    assert Known(tmp_path / "known").get(stamp(79)) == content(79, 4000)


@pytest.mark.usefixtures("small")
def test_a_file_that_is_far_too_large_is_read_in_part_and_written_anew(tmp_path: Path) -> None:
    (tmp_path / "known").write_bytes(b"x" * (1 << 20))
    known = Known(tmp_path / "known")
    known.put(stamp(1), content(1, 100))
    assert (tmp_path / "known").stat().st_size < 1000
    assert Known(tmp_path / "known").get(stamp(1)) == content(1, 100)


@pytest.mark.usefixtures("small")
def test_of_an_entry_that_is_too_large_the_digest_is_kept(tmp_path: Path) -> None:
    known = Known(tmp_path / "known")
    known.put(stamp(1), content(1, 100))
    known.put(stamp(2), content(2, 20 << 10))
    assert known.get(stamp(2)) == Content(None, content(2, 0).digest)
    assert known.get(stamp(1)) == content(1, 100)
    assert Known(tmp_path / "known").get(stamp(2)).digest == content(2, 0).digest


@pytest.mark.usefixtures("small")
def test_what_was_not_hashed_counts_in_memory_too() -> None:
    known = Known(None)
    for number in range(100):
        known.put(stamp(number), Content(Facts("gguf", references=("x" * 4000,))))
    assert held(known) <= 64 << 10


def test_an_entry_that_is_put_again_counts_once() -> None:
    known = Known(None)
    for _ in range(3):
        known.put(stamp(1), content(1, 100))
    known.put(stamp(1), content(1, 200))
    assert held(known) == len(known._line(stamp(1), content(1, 200)))


def test_so_many_files_as_before_are_remembered_when_they_are_small(tmp_path: Path) -> None:
    known = Known(tmp_path / "known")
    for number in range(5000):
        known.put(stamp(number), content(number, 10))
    assert len(known._contents) == 4096
    assert known.get(stamp(904)) == content(904, 10)
