"""Kernel records as the rings give them, and batches of them, made by hand for tests of what reads them."""

from __future__ import annotations

from typing import Any

import numpy as np
from modelward_agent.sensor import records
from modelward_agent.sensor.constants import Flag
from modelward_agent.spool.batch import SpooledBatch
from modelward_proto.kinds import Kind

BOOT = "2f0c1a2b-0000-4000-8000-000000000000"
WALL_OFFSET_NS = 1_764_000_000_000_000_000
GROUP = 0x5EED
ROOT = (1000, 100_000_000_000)


def record(
    kind: int,
    *texts: bytes,
    key: tuple[int, int] = ROOT,
    parent: tuple[int, int] = (1, 1_000_000),
    at: int = 200_000_000_000,
    root: tuple[int, int] = ROOT,
    large: bool = False,
    **members: Any,
) -> np.ndarray[Any, Any]:
    """One record. ``texts`` are its segments from the first on; ``members`` stand under their C names."""
    made = np.zeros(1, records.LARGE if large else records.SMALL)
    flags = Flag.LEADER | (Flag.ROOT if key == root else 0)
    told: dict[str, Any] = {
        "kind": kind,
        "count": 1,
        "time_ns": at,
        "tgid": key[0],
        "tid": key[0],
        "start_ns": key[1],
        "parent_tgid": parent[0],
        "parent_start_ns": parent[1],
        "root_tgid": root[0],
        "root_start_ns": root[1],
        "group": GROUP,
        "flags": int(flags),
    } | members
    for name, value in told.items():
        made[name] = value
    lengths = [len(text) for text in texts] + [0] * (5 - len(texts))
    made["seg"] = lengths
    text = b"".join(texts)
    at_byte = made.dtype.itemsize - made.dtype["text"].itemsize
    made.view(np.uint8)[at_byte : at_byte + len(text)] = np.frombuffer(text, np.uint8)
    return made


def execd(path: bytes, *arguments: bytes, **members: Any) -> np.ndarray[Any, Any]:
    """An exec record."""
    line = b"".join(argument + b"\0" for argument in arguments)
    large = len(path) + len(line) + 4 > 160
    return record(Kind.PROCESS_EXEC, path, b"", b"", b"/srv", line, large=large, **members)


def batch(
    *made: np.ndarray[Any, Any],
    losses: tuple[tuple[str, str, int], ...] = (),
    late: bool = False,
    boot_id: str = BOOT,
) -> SpooledBatch:
    """A spooled batch of some records, in the order given within each size."""
    small = [one for one in made if one.dtype == records.SMALL]
    large = [one for one in made if one.dtype == records.LARGE]
    return SpooledBatch(
        epoch=bytes(16),
        number=1,
        batch_time_ns=WALL_OFFSET_NS + 300_000_000_000,
        wall_offset_ns=WALL_OFFSET_NS,
        small=np.concatenate(small) if small else np.zeros(0, records.SMALL),
        large=np.concatenate(large) if large else np.zeros(0, records.LARGE),
        losses=losses,
        late=late,
        checksum=0,
        boot_id=boot_id,
    )
