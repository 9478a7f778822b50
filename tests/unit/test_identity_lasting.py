"""A thread that works for all workloads outlives what nobody foresaw."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from modelward_agent.enrich.proc_files import ProcFiles
from modelward_agent.enrich.process_table import Program
from modelward_agent.enrich.walking import Walks, kind
from modelward_agent.enrich.workloads import Workload
from modelward_agent.identity import lasting
from modelward_agent.identity.recogniser import Recogniser
from modelward_agent.identity.resolver import Resolver

from tests.unit.identity_files import artifact, write_gguf
from tests.unit.resolving import last, sha256sum
from tests.unit.test_identity_recogniser import opened


def once(monkeypatch: pytest.MonkeyPatch, of: Any, name: str) -> None:
    """The next call fails."""
    real = getattr(of, name)

    def fail(*given: Any, **named: Any) -> None:
        monkeypatch.setattr(of, name, real)
        raise RuntimeError("nobody foresaw this")

    monkeypatch.setattr(of, name, fail)


def until(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + 120
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lasting, "_PAUSE_S", 0.05)


@pytest.mark.parametrize("what", ["_tell", "_known.save", "_waiting.take", "_hasher._tell", "_hasher._order"])
def test_models_are_identified_after_one_over_which_something_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    made = [write_gguf(tmp_path / f"{number}.gguf", name=str(number)) for number in range(3)]
    resolver = Resolver(large=1 if "hasher" in what else 1 << 20)
    try:
        part, _, name = what.rpartition(".")
        resolver.submit(artifact(made[0], 1))
        assert last(resolver)[1].digest == sha256sum(made[0])
        once(monkeypatch, getattr(resolver, part) if part else resolver, name)
        resolver.submit(artifact(made[1], 2))
        until(lambda: "goes on after what nobody foresaw" in caplog.text)
        resolver.submit(artifact(made[2], 3))
        assert last(resolver)[3].digest == sha256sum(made[2])
    finally:
        resolver.close()


@pytest.mark.parametrize("what", ["_look", "_line.take"])
def test_files_are_looked_into_after_one_over_which_something_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    recogniser = Recogniser()
    try:
        recogniser.submit([opened(write_gguf(tmp_path / "one"))])
        until(recogniser.found)
        part, _, name = what.rpartition(".")
        once(monkeypatch, getattr(recogniser, part) if part else recogniser, name)
        recogniser.submit([opened(write_gguf(tmp_path / "two"))])
        until(lambda: "goes on after what nobody foresaw" in caplog.text)
        recogniser.submit([opened(write_gguf(tmp_path / "three"))])
        found: list[bytes] = []
        until(lambda: found.extend(each.path for each in recogniser.found()) or any(b"three" in path for path in found))
    finally:
        recogniser.close()


@pytest.mark.parametrize("what", ["_look", "_turns.take"])
def test_processes_are_looked_at_after_one_over_which_something_failed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    walks, workload, key = Walks(Path("/proc")), Workload(id="a"), ProcFiles(Path("/proc")).key(os.getpid())

    def ask(line: str) -> None:
        assert walks.ask(workload, kind(workload, key, Program(0, "/usr/bin/python3", line), "mnt:[1]", ready=True), key, b"")

    try:
        ask("python a.py")
        until(walks.found)
        part, _, name = what.rpartition(".")
        once(monkeypatch, getattr(walks, part) if part else walks, name)
        ask("python b.py")
        until(lambda: "goes on after what nobody foresaw" in caplog.text)
        ask("python c.py")
        until(walks.found)
    finally:
        walks.close()
