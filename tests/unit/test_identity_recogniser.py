"""Models among opened files are found by real workers; a hostile workload costs others nothing."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from modelward_agent.identity import recogniser as recognisers
from modelward_agent.identity.recogniser import Opened, Recogniser

from tests.unit import fuse_server
from tests.unit.identity_files import artifact, write_gguf, write_safetensors, write_torch, written


def opened(path: Path, workload: str = "w", **members: int) -> Opened:
    """As the records of an open by this process tell it."""
    of = artifact(path)
    told = Opened(of.pid, of.pid, of.start_ns, 7, of.path, b"", of.device, of.inode, workload)
    return replace(told, **members)  # type: ignore[arg-type]


class Asked:
    """A recogniser, and what it was found to say."""

    def __init__(self) -> None:
        self.clock = 0.0
        self.recogniser = Recogniser(silence_s=5.0, now=lambda: time.monotonic() + self.clock)
        self.found: list[Opened] = []

    def names(self) -> list[str]:
        self.found += self.recogniser.found()
        return sorted(os.path.basename(each.path).decode() for each in self.found)

    def until(self, holds: Callable[[], bool], seconds: float = 120) -> None:
        """Long: workers have the lowest priority, and other tests may run beside this one."""
        deadline = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < deadline, (self.names(), self.recogniser.looks, self.recogniser.problems())
            time.sleep(0.02)


@pytest.fixture
def asked() -> Iterator[Asked]:
    made = Asked()
    yield made
    made.recogniser.close()


def test_models_are_found_and_nothing_else(asked: Asked, tmp_path: Path) -> None:
    blobs = [write_gguf(tmp_path / "one"), write_safetensors(tmp_path / "two"), write_torch(tmp_path / "three.log")]
    plain = written(tmp_path / "plain", b"text " * 100)
    asked.recogniser.submit([*map(opened, blobs), opened(plain), opened(written(tmp_path / "short", b"GGUF"))])
    asked.until(lambda: asked.recogniser.looks == 5)
    assert asked.names() == ["one", "three.log", "two"]
    assert not asked.recogniser.problems()


def test_a_file_is_looked_into_once_and_each_process_that_opens_it_is_told(asked: Asked, tmp_path: Path) -> None:
    blob, plain = write_gguf(tmp_path / "blob"), written(tmp_path / "plain", b"text " * 100)
    asked.recogniser.submit([opened(blob), opened(blob, tid=5), opened(plain)])
    asked.until(lambda: len(asked.names()) == 2)
    asked.recogniser.submit([opened(blob, pid=6), opened(plain)])
    asked.until(lambda: len(asked.names()) == 3)
    assert asked.recogniser.looks == 2
    assert {each.tid for each in asked.found} == {os.getpid(), 5}


def test_what_changed_is_looked_into_again_after_a_while(asked: Asked, tmp_path: Path) -> None:
    file = written(tmp_path / "blob", b"text " * 100)
    asked.recogniser.submit([opened(file)])
    asked.until(lambda: asked.recogniser.looks == 1)
    write_gguf(file)
    asked.clock = 400.0
    asked.recogniser.submit([opened(file)])
    asked.until(lambda: asked.names() == ["blob"])


def test_what_did_not_change_is_not_read_again_after_a_while(asked: Asked, tmp_path: Path) -> None:
    file = write_gguf(tmp_path / "blob")
    asked.recogniser.submit([opened(file)])
    asked.until(lambda: asked.names() == ["blob"])
    asked.clock = 400.0
    asked.recogniser.submit([opened(file, tid=9)])
    asked.until(lambda: asked.names() == ["blob", "blob"])
    assert asked.recogniser.looks == 1


def test_what_was_opened_for_writing_is_looked_into_at_once(asked: Asked, tmp_path: Path) -> None:
    file = written(tmp_path / "blob", b"text " * 100)
    told = opened(file)
    asked.recogniser.submit([told])
    asked.until(lambda: asked.recogniser.looks == 1)
    write_gguf(file)
    asked.recogniser.written([(told.device, told.inode)])
    asked.recogniser.submit([told])
    asked.until(lambda: asked.names() == ["blob"])


def test_an_unlinked_file_is_found_through_its_process(asked: Asked, tmp_path: Path) -> None:
    file = write_gguf(tmp_path / "blob")
    told = opened(file)
    with file.open("rb"):
        file.unlink()
        asked.recogniser.submit([told])
        asked.until(lambda: asked.names() == ["blob"])


def test_a_name_alone_gives_the_file_that_lies_there(asked: Asked, tmp_path: Path) -> None:
    told = opened(write_gguf(tmp_path / "blob"))
    asked.recogniser.submit([replace(told, device=0, inode=0)])
    asked.until(lambda: asked.names() == ["blob"])
    assert (asked.found[0].device, asked.found[0].inode) == (told.device, told.inode)


def test_nothing_is_looked_into_for_a_process_that_is_gone(asked: Asked, tmp_path: Path) -> None:
    file = write_gguf(tmp_path / "blob")
    asked.recogniser.submit([opened(file, start_ns=1), opened(write_gguf(tmp_path / "other"))])
    asked.until(lambda: asked.names() == ["other"])
    assert asked.recogniser.looks == 1


def test_another_file_by_the_same_name_is_not_taken_for_it(asked: Asked, tmp_path: Path) -> None:
    asked.recogniser.submit([opened(write_gguf(tmp_path / "blob"), inode=4242), opened(write_gguf(tmp_path / "other"))])
    asked.until(lambda: asked.names() == ["other"])
    assert asked.recogniser.looks == 1


def test_a_hundred_thousand_files_of_one_workload_cost_another_nothing(asked: Asked, tmp_path: Path) -> None:
    plain = opened(written(tmp_path / "plain", b"text " * 100), "hostile")
    began = time.thread_time()
    for first in range(1, 100_001, 1000):
        asked.recogniser.submit(replace(plain, inode=inode) for inode in range(first, first + 1000))
    spent = time.thread_time() - began
    asked.recogniser.submit([opened(write_gguf(tmp_path / "honest"), "honest")])
    asked.until(lambda: asked.names() == ["honest"])
    assert asked.recogniser.passed_over >= 98_000
    assert "were not looked at" in asked.recogniser.problems()[0]
    assert spent < 3, "the caller's thread is the sender's"


def test_a_file_that_hangs_its_reader_holds_up_nobody_for_long(asked: Asked, tmp_path: Path) -> None:
    folder = tmp_path / "mounted"
    folder.mkdir()
    try:
        served = fuse_server.mounted(folder, b"blob", 1 << 20, lambda offset, length: None)
        path = served.__enter__()
    except OSError as e:
        pytest.skip(f"no FUSE here: {e}")
    try:
        asked.recogniser.submit([opened(path, "hostile")])
        time.sleep(0.2)
        asked.recogniser.submit([opened(write_gguf(tmp_path / "honest"), "honest")])
        asked.until(lambda: asked.names() == ["honest"])
        assert asked.recogniser.unread == 1
        assert "could not be read" in asked.recogniser.problems()[0]
    finally:
        served.__exit__(None, None, None)


def test_closing_does_not_wait_for_what_is_left(asked: Asked, tmp_path: Path) -> None:
    plain = opened(written(tmp_path / "plain", b"text " * 100))
    asked.recogniser.submit(replace(plain, inode=inode) for inode in range(1, 1000))
    began = time.monotonic()
    asked.recogniser.close()
    assert time.monotonic() - began < 5


@pytest.fixture
def still(monkeypatch: pytest.MonkeyPatch) -> Iterator[Recogniser]:
    """One whose thread does nothing."""
    monkeypatch.setattr(Recogniser, "_run", lambda self: None)
    made = Recogniser()
    yield made
    made.close()


def look(recogniser: Recogniser, file: Opened, format: str = "") -> None:
    """A worker looked at a file."""
    with recogniser._lock:
        recogniser._submit(file)
        workload = recogniser._workloads[file.workload]
        if file.file in workload.openers:
            workload.waiting.clear()
            answer = {"stamp": [100, 1, 1], "format": format, "device": file.device, "inode": file.inode}
            recogniser._take(workload, file, answer)


def unlooked(of: str, inode: int, path: bytes = b"/x") -> Opened:
    return Opened(1, 1, 1, 7, path, b"", 5, inode, of)


def test_what_is_written_costs_as_much_as_is_written_however_many_workloads_there_are(still: Recogniser) -> None:
    for number in range(4000):
        look(still, unlooked(str(number), number + 1))
    files = [(5, inode) for inode in range(100_000, 100_512)]
    began = time.thread_time()
    for _ in range(100):
        still.written(files)
    # A million times a dictionary is looked into where each workload is asked for each file: some 20 s.
    assert time.thread_time() - began < 2
    assert still._kept == 4000


def test_what_was_written_is_forgotten_for_every_workload_that_had_it_looked_into(still: Recogniser) -> None:
    for of in "abc":
        for inode in (0, 1, 2):
            look(still, unlooked(of, inode))
    still.written([(5, 1), (5, 9)])
    assert [[file[1] for file in workload.looked] for workload in still._workloads.values()] == [[0, 2]] * 3
    assert (still._kept, still._lookers) == (6, {(5, 2): {"a", "b", "c"}})


def test_what_is_kept_is_bounded_and_accounted_for(still: Recogniser, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"_KEPT_EACH": 6, "_KEPT": 20, "_WORKLOADS": 8}.items():
        monkeypatch.setattr(recognisers, name, value)
    chance = random.Random(7)
    for step in range(3000):
        of, inode = str(chance.randrange(12)), chance.randrange(10)
        look(still, unlooked(of, inode, b"/%d" % chance.randrange(3)))
        if step % 7 == 0:
            still.written([(5, chance.randrange(1, 10))])
        held = {(name, file) for name, workload in still._workloads.items() for file in workload.looked}
        assert still._kept == len(held) <= 20
        assert {(name, file) for file, names in still._lookers.items() for name in names} == {
            (name, file[:2]) for name, file in held if file[1]}
        assert len(still._workloads) <= 8


def test_each_opener_of_a_file_that_waits_takes_of_what_its_workload_may_ask(still: Recogniser) -> None:
    still._now = lambda: 0.0
    opened = [replace(unlooked("w", inode), tid=tid) for inode in range(1, 101) for tid in range(1, 33)]
    still.submit(opened)
    assert still.passed_over == len(opened) - recognisers._BURST


def test_what_surely_is_a_model_is_kept_last_where_little_can_be(still: Recogniser) -> None:
    look(still, unlooked("w", 1), "gguf")
    still.found()
    look(still, unlooked("w", 2), "gguf")
    still.submit([unlooked("w", 3)])
    assert [each.inode for each in still.unfinished()] == [3, 2, 1]


def test_a_loud_workload_pushes_no_model_of_another_out_of_what_was_told(still: Recogniser) -> None:
    look(still, unlooked("quiet", 5000), "gguf")
    for inode in range(1, 400):
        look(still, unlooked("loud", inode), "gguf")
    still.found()
    kept = still.unfinished()
    assert kept[0].workload == "quiet"
    assert [each.inode for each in kept[1:]] == list(range(400 - recognisers._TOLD_EACH, 400))


def test_a_model_is_kept_until_its_load_was_seen_or_for_a_while() -> None:
    clock = [0.0]
    recogniser = Recogniser(now=lambda: clock[0])
    try:
        for inode in (1, 2):
            look(recogniser, unlooked("w", inode), "gguf")
        recogniser.found()
        clock[0] = 60.0
        assert [each.inode for each in recogniser.unfinished()] == [1, 2]
        recogniser.begun("w", 7, (5, 1), 1)
        recogniser.begun("w", 7, (5, 2), 99)
        assert [each.inode for each in recogniser.unfinished()] == [2]
        clock[0] = recognisers._TOLD_S + 1
        assert recogniser.unfinished() == []
    finally:
        recogniser.close()
