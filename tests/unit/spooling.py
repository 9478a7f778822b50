"""A spool for tests: records of the real sizes, a folder to write them to, and a reader of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from modelward_agent.spool.batch import Layout, SpooledBatch
from modelward_agent.spool.reader import SpoolReader
from modelward_agent.spool.writer import SpoolWriter
from modelward_proto.kinds import Kind


def record_class(size: int) -> np.dtype[Any]:
    """A record class of the real sizes with the members that the spool itself reads."""
    return np.dtype({
        "names": ["number", "time_ns", "count", "kind", "ring", "text"],
        "formats": ["<u8", "<u8", "<u4", "<u2", "u1", f"V{size - 176}"],
        "offsets": [0, 8, 104, 108, 112, 176],
        "itemsize": size,
    })


LAYOUT = Layout(record_class(336), record_class(8704))
LIMIT = 1 << 26


def records(n: int, kind: Kind = Kind.FILE_OPEN, *, large: bool = False, count: int = 1, ring: int = 2) -> np.ndarray[Any, Any]:
    made = np.zeros(n, LAYOUT.large if large else LAYOUT.small)
    made["number"] = np.arange(1, n + 1)
    made["kind"], made["count"], made["ring"] = kind, count, ring
    return made


NOTHING = records(0, large=True)


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Callable[..., SpoolWriter]]:
    opened: list[SpoolWriter] = []

    def open_spool(*, limit: int = LIMIT, boot: str = "boot-1") -> SpoolWriter:
        opened.append(SpoolWriter(tmp_path / "spool", LAYOUT, limit_bytes=limit, boot_id=boot))
        return opened[-1]

    yield open_spool
    for each in opened:
        each.poll(force=True)


def reader_of(writer: SpoolWriter) -> SpoolReader:
    return SpoolReader(writer.folder, LAYOUT)


def drain(reader: SpoolReader) -> list[SpooledBatch]:
    found: list[SpooledBatch] = []
    while (number := reader.next()) is not None:
        batch = reader.claim(number)
        if batch is not None:
            found.append(batch)
    return found
