"""An enricher that knows everything from records alone, and its rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from modelward_agent.enrich.enricher import Enricher
from modelward_proto.fields import WIRE_SCHEMA

from tests.unit.kernel_records import BOOT, batch


@pytest.fixture
def enricher(tmp_path: Path) -> Enricher:
    """With an empty /proc: everything is known from records alone."""
    return Enricher(boot_id=BOOT, proc=tmp_path)


def rows(enricher: Enricher, *made: Any, **how: Any) -> list[dict[str, Any]]:
    """Of a batch of these records, as the wire's schema has them."""
    found = enricher.enrich(batch(*made, **how))
    found.validate(full=True)
    assert found.schema == WIRE_SCHEMA
    return found.to_pylist()
