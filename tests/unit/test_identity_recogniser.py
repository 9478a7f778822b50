"""Models among opened files are found by real workers; a hostile workload costs others nothing."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
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
