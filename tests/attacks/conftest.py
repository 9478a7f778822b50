"""One stack for all attacks: each runs against a server of its own, and looks at that server's workload
alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stack import Whole, running


@pytest.fixture(scope="package")
def whole() -> Iterator[Whole]:
    with running(applications=[Path(__file__).parent / "servers"]) as everything:
        yield everything
