"""What a program did is what the store holds: by the program's own count, at full speed, and across an
outage.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.stack import Whole

pytestmark = pytest.mark.kernel

PROGRAM = Path(__file__).parent / "programs" / "opens.py"
OPENS = 200_000


def _start(whole: Whole, name: str, mode: str, stops: int = 1) -> tuple[subprocess.Popen[str], Path]:
    folder, artifact = whole.folder / name, whole.folder / f"{name}.gguf"
    folder.mkdir()
    artifact.write_bytes(b"GGUF")
    argv = [sys.executable, str(PROGRAM), str(artifact), str(folder), str(OPENS), mode, str(stops)]
    return subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True), folder


def _stored(whole: Whole, folder: Path) -> dict[str, int]:
    row = whole.console.query(
        "SELECT sum(count) AS opens, count() AS rows, uniqExact(agent_id, epoch, batch, row) AS names, "
        "uniqExact(file_path) AS paths FROM events "
        f"WHERE event_name = 'file_open' AND startsWith(file_path, '{folder}/')"
    )[0]
    return {name: int(value) for name, value in row.items()}


def _lost(whole: Whole) -> dict[str, int]:
    """What the ledger says of opens that did not arrive: shown when the numbers differ."""
    rows = whole.console.query(
        "SELECT hop, sum(count) AS n FROM ledger WHERE kind IN ('file_open', 'all') GROUP BY hop ORDER BY hop"
    )
    return {row["hop"]: int(row["n"]) for row in rows}


def test_every_open_of_a_distinct_path_is_stored_once(whole: Whole) -> None:
    program, folder = _start(whole, "distinct", "distinct")
    emitted = int(program.communicate(timeout=120)[0])
    whole.watch.settle(120)
    stored = _stored(whole, folder)
    assert stored == dict.fromkeys(("opens", "rows", "names", "paths"), emitted), _lost(whole)


def test_opens_of_one_path_are_counted_exactly_and_stored_in_few_rows(whole: Whole) -> None:
    program, folder = _start(whole, "same", "same")
    emitted = int(program.communicate(timeout=120)[0])
    whole.watch.settle(120)
    deadline = time.monotonic() + 30
    while (stored := _stored(whole, folder))["opens"] < emitted and time.monotonic() < deadline:
        time.sleep(0.5)  # counts of repeats leave the kernel in turns
    assert (stored["opens"], stored["paths"]) == (emitted, 1), _lost(whole)
    assert stored["rows"] == stored["names"], "a row was stored twice"
    assert stored["rows"] < 1000, "repeats were not counted in the kernel"


def test_no_open_is_lost_or_doubled_while_the_collector_is_away(whole: Whole) -> None:
    program, folder = _start(whole, "outage", "distinct", 3)
    assert program.stdin is not None
    assert program.stdout is not None
    program.stdout.readline()
    assert whole.stack.stop_collector() == 0
    gone = time.monotonic()
    print(file=program.stdin, flush=True)
    program.stdout.readline()
    time.sleep(max(0.0, 10 - (time.monotonic() - gone)))
    whole.stack.start_collector()
    print(file=program.stdin, flush=True)
    emitted = int(program.communicate(timeout=120)[0])
    whole.watch.settle(120)
    stored = _stored(whole, folder)
    assert stored == dict.fromkeys(("opens", "rows", "names", "paths"), emitted), _lost(whole)
    late = whole.console.query(f"SELECT sum(count) AS n FROM events WHERE late AND startsWith(file_path, '{folder}/')")
    assert int(late[0]["n"]) > 0, "nothing of the outage was marked late"
