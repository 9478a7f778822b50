"""A stack for each file of tests: some of them stop and start its parts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.stack import Whole, running


@pytest.fixture(scope="module")
def whole() -> Iterator[Whole]:
    with running() as everything:
        yield everything
