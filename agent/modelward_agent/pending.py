"""Records that are drained and not yet spooled: the one batch being filled, bounded in records and bytes."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from modelward_agent.sensor.progress import Cell
from modelward_agent.sensor.records import joined
from modelward_agent.spool.batch import Layout, Loss, count_kinds

Records = np.ndarray[Any, Any]

CLOSE_AFTER_S = 0.1
CLOSE_AFTER_LATE_S = 1.0
"""Without a stream nobody waits for a batch, and fewer files are kinder to the disk."""
MAX_RECORDS = 8192
MAX_BYTES = 4 << 20
CONTROL_RINGS = 2
"""Rings below this number (``enum mw_ring``) carry what opens must not push out."""


@dataclass(frozen=True)
class Part:
    """What becomes one batch."""

    small: Records
    large: Records
    losses: tuple[Loss, ...]
    positions: dict[int, int]
    told: dict[Cell, int]
    """totals of the kernel's counts of loss that these losses bring the collector up to"""


class Pending:
    """Collects drained records until they are due."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._clear()

    def add(self, small: Records, large: Records, positions: Mapping[int, int] | None = None) -> None:
        """Take records over. ``positions``: consumer positions of the rings behind these records."""
        for records, into in ((small, self._small), (large, self._large)):
            if len(records):
                into.append(records)
                self.records += len(records)
                self.bytes += records.nbytes
        self._positions.update(positions or {})
        self._begin(bool(len(small) or len(large)))

    def add_loss(self, hop: str, kind: str, count: int, total: int | None = None) -> None:
        """Events are known to be lost: the batch will say so. ``total``: where the kernel's count of them stands."""
        if count > 0:
            self._losses[hop, kind] = self._losses.get((hop, kind), 0) + count
            if total is not None:
                self._told[hop, kind] = total
            self._begin(True)

    @property
    def empty(self) -> bool:
        return self._since is None

    @property
    def full(self) -> bool:
        return self.records >= MAX_RECORDS or self.bytes >= MAX_BYTES

    def due(self, *, late: bool) -> bool:
        """Whether a batch is to be closed now."""
        if self._since is None:
            return False
        return self.full or time.monotonic() - self._since >= (CLOSE_AFTER_LATE_S if late else CLOSE_AFTER_S)

    def kinds(self) -> dict[str, int]:
        """Events by kind that are in memory only."""
        totals: dict[str, int] = {}
        for records in (*self._small, *self._large):
            for kind, count in count_kinds(records, records[:0]).items():
                totals[kind] = totals.get(kind, 0) + count
        return totals

    def take(self, *, apart: bool) -> list[Part]:
        """Everything, as batches to be. ``apart``: the control rings' records for themselves, so that a full spool can
        drop opens and keep what started and ended."""
        small = joined(self._small, self._layout.small)
        large = joined(self._large, self._layout.large)
        losses = tuple((hop, kind, count) for (hop, kind), count in self._losses.items())
        positions, told = self._positions, self._told
        self._clear()
        if not apart:
            return [Part(small, large, losses, positions, told)]
        control_small, control_large = small["ring"] < CONTROL_RINGS, large["ring"] < CONTROL_RINGS
        control = {ring: p for ring, p in positions.items() if ring < CONTROL_RINGS}
        rest = {ring: p for ring, p in positions.items() if ring >= CONTROL_RINGS}
        parts = [
            Part(small[control_small], large[control_large], losses, control, told),
            Part(small[~control_small], large[~control_large], (), rest, {}),
        ]
        return [p for p in parts if len(p.small) or len(p.large) or p.losses]

    def _clear(self) -> None:
        self._small: list[Records] = []
        self._large: list[Records] = []
        self._losses: dict[tuple[str, str], int] = {}
        self._positions: dict[int, int] = {}
        self._told: dict[Cell, int] = {}
        self._since: float | None = None
        self.records = 0
        self.bytes = 0

    def _begin(self, something: bool) -> None:
        if something and self._since is None:
            self._since = time.monotonic()
