"""One source being read, and how much of it is in the spool."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from modelward_agent.drainer import Source
    from modelward_agent.sensor.progress import Cell
    from modelward_agent.sensor.rings import Drained
    from modelward_agent.spool.writer import SpoolWriter


class Reading:
    """Reads ``source`` from where the spool or, if its folder is new, the kernel says that it was read to."""

    def __init__(self, source: Source, writer: SpoolWriter) -> None:
        self.source = source
        self.progress = source.progress()
        self._gaps = 0
        self._told_gaps = 0
        self._suspect = 0
        self.orphaned = False
        """The rings were read into another spool before, which is not there any more."""
        rings = self.progress.rings
        if not rings:
            self._told: dict[Cell, int] = {}
            return
        known = writer.progress.get(rings)
        self.orphaned = known is None and self.progress.step > 0
        if known is None:
            totals = self.progress.baseline()
            if self.progress.step:
                totals |= {cell: n for cell, n in source.counters().items() if cell[0] == "merged"}
            writer.ledger.begin(rings, totals)
        elif known.step > self.progress.step:
            # The agent was killed after the batch was on disk, and before the kernel was told.
            self.progress = known
            source.resume(known)
            source.keep(known)
        writer.begin(self.progress)
        self._told = dict(self.progress.told)

    def drain(self, max_records: int) -> Drained:
        """The next records; gaps are added up."""
        drained = self.source.drain(max_records)
        self._gaps += sum(drained.gaps.values())
        return drained

    def spooled(self, positions: Mapping[int, int], taken: Mapping[str, int], told: Mapping[Cell, int]) -> None:
        """A batch with these is on disk: remember it in the kernel first, then give back the room."""
        self.progress = self.progress.after(positions, taken, told)
        self.source.keep(self.progress)
        self.source.commit(positions)

    def lost(self, hop: str, kind: str, total: int) -> tuple[int, int]:
        """How many of the kernel's lost events are yet to be told, and the total with them."""
        new = total - self._told.get((hop, kind), 0)
        self._told[hop, kind] = total
        return new, total

    def unexplained(self) -> int:
        """Missing numbers that the kernel's counts of drops do not explain, twice in a row: by then a record that is written late
        has filled its gap, and a drop is counted."""
        dropped = sum(total for (hop, _), total in self._told.items() if hop == "ring_dropped")
        suspect = max(self._gaps - dropped - self._told_gaps, 0)
        sure = min(suspect, self._suspect)
        self._suspect = suspect - sure
        self._told_gaps += sure
        return sure
