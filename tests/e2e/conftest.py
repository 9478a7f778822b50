"""A stack for each file of tests: some of them stop and start its parts."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stack import Whole, running


@pytest.fixture(scope="module")
def whole() -> Iterator[Whole]:
    with running() as everything:
        yield everything


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this tree, alone in its folder."""
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--outdir", str(out), str(Path(__file__).parents[2])]
    subprocess.run(command, check=True, capture_output=True)
    return next(out.glob("*.whl"))
