"""What processes declare of their own phase, from the hint socket of a real agent to detections and rows of a real collector."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.stack import Whole

pytestmark = pytest.mark.kernel

PROGRAM = Path(__file__).parent / "programs" / "declares.py"
MODULE = Path(__file__).parents[2] / "agent"


@pytest.fixture(scope="module")
def declared(whole: Whole) -> dict[str, int]:
    """Processes that declared, by how; their events are stored."""
    pids: dict[str, int] = {}
    environment = os.environ | {"MODELWARD_HINT_SOCKET": str(whole.stack.hint_socket), "PYTHONPATH": str(MODULE)}
    for how in ("honest", "unaware", "lying"):
        artifact = whole.folder / f"{how}.gguf"
        artifact.write_bytes(b"GGUF" + bytes(1000))
        process = subprocess.Popen([sys.executable, str(PROGRAM), how, str(artifact)], env=environment)
        assert process.wait(60) == 0
        pids[how] = process.pid
    whole.watch.settle(120)
    return pids


def _rules(whole: Whole, pid: int) -> list[str]:
    rows = whole.console.query(f"SELECT DISTINCT rule_name FROM detections WHERE process_pid = {pid}")
    return [row["rule_name"] for row in rows]


def test_a_process_that_lies_about_its_phase_is_not_detected(whole: Whole, declared: dict[str, int]) -> None:
    assert _rules(whole, declared["lying"]) == ["phase_lie"]
    [row] = whole.console.query(f"SELECT sentence FROM detections WHERE process_pid = {declared['lying']}")
    assert "said that it is in serve while it was in load" in row["sentence"]


def test_a_process_that_tells_the_truth_is_detected(whole: Whole, declared: dict[str, int]) -> None:
    assert _rules(whole, declared["honest"]) == []
    assert _rules(whole, declared["unaware"]) == []


def test_what_was_declared_is_not_stored(whole: Whole, declared: dict[str, int]) -> None:
    rows = whole.console.query(
        "SELECT lifecycle_phase, lifecycle_detail, event_outcome FROM events "
        f"WHERE event_name = 'lifecycle' AND lifecycle_trigger = 'declared' AND process_pid = {declared['honest']} ORDER BY time"
    )
    assert {row["event_outcome"] for row in rows} == {"success"}
    assert (rows[0]["lifecycle_phase"], rows[0]["lifecycle_detail"]) == ("load", "an honest model")
    assert rows[-1]["lifecycle_phase"] == "serve"


def test_that_hints_are_heard_is_not_told(whole: Whole) -> None:
    host = whole.stack.host()
    assert host is not None
    assert [door["door"] for door in host["doors"] if door["effect"] == "declared"] == ["unix socket"]
