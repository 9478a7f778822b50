"""Programs are shared between the threads that load them: each goes to one, and the costly ones are not together."""

from __future__ import annotations

import pytest
from modelward_agent.sensor import kernel


@pytest.mark.parametrize("cpus", [1, 2, 64])
def test_each_program_is_loaded_by_one_thread(monkeypatch: pytest.MonkeyPatch, cpus: int) -> None:
    monkeypatch.setattr(kernel.os, "sched_getaffinity", lambda _: set(range(cpus)))
    names = ["exit_open", "on_exec", *(f"door_{number}" for number in range(40)), "of no known cost"]
    shares = kernel._shares(names)
    assert sorted(name for share in shares for name in share) == sorted(names)
    assert len(shares) == min(cpus, kernel._MOST_THREADS)
    assert not [share for share in shares if cpus > 1 and {"exit_open", "on_exec"} <= set(share)]


def test_nothing_to_load_needs_no_thread() -> None:
    assert kernel._shares([]) == []
