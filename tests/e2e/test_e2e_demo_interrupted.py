"""Ctrl-C in the middle of the demo: it ends soon, and leaves no process and no folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.kernel

ROOT = Path(__file__).parents[2]


def _below(folder: Path) -> list[str]:
    """Command lines of processes that have to do with a folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(folder) in line:
            found.append(line)
    return found


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short one: the collector has a unix socket in it."""
    with tempfile.TemporaryDirectory(prefix="modelward-") as name:
        yield Path(name)


def test_interrupted_demo_leaves_nothing_behind(folder: Path) -> None:
    environment = os.environ | {"TMPDIR": str(folder), "PYTHONUNBUFFERED": "1"}
    demo = subprocess.Popen(
        [sys.executable, "-m", "deploy.demo", "--no-color"], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    )
    assert demo.stdout is not None
    told = []
    for line in demo.stdout:
        told.append(line)
        if "A poisoned checkpoint" in line:
            break
    else:
        pytest.fail("the demo ended before its second chapter:\n" + "".join(told))
    assert _below(folder), "the demo's programs do not run in its folder"
    demo.send_signal(signal.SIGINT)
    rest = demo.communicate(timeout=60)[0]
    assert demo.returncode == 130, rest
    deadline = time.monotonic() + 5
    while _below(folder) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert _below(folder) == []
    assert list(folder.iterdir()) == []
