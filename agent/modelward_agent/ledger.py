"""The loss ledger of this host: how many events of each kind reached each hop since the epoch began.

Kernel-side hops are read as running totals that begin anew with each load of the sensor; the hops of the spool and of the
stream are added to batch by batch. The spool keeps the counts on disk, in the same file as the batch numbers, so that they
agree after a crash.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from modelward_proto.kinds import HOPS

Row = tuple[str, str, int]
"""(hop, kind, count)"""


class Ledger:
    """Counts by (hop, kind)."""

    def __init__(self, rows: Iterable[Row] = ()) -> None:
        self._counts: dict[tuple[str, str], int] = {(hop, kind): int(count) for hop, kind, count in rows}
        self._totals: dict[tuple[str, str], int] = {}

    def add(self, hop: str, kinds: Mapping[str, int]) -> None:
        """Count events that reached a hop."""
        if hop not in HOPS:
            raise ValueError(f"no such hop: {hop}")
        for kind, count in kinds.items():
            self._counts[hop, kind] = self._counts.get((hop, kind), 0) + count

    def follow(self, totals: Mapping[tuple[str, str], int]) -> None:
        """Take over running totals of the sensor. A total that fell began anew: all of it is added."""
        for cell, total in totals.items():
            before = self._totals.get(cell, 0)
            self._counts[cell] = self._counts.get(cell, 0) + (total - before if total >= before else total)
            self._totals[cell] = total

    def count(self, hop: str, kind: str | None = None) -> int:
        """Events of one kind, or of all, that reached a hop."""
        return sum(n for (h, k), n in self._counts.items() if h == hop and kind in (None, k))

    def kinds(self, hop: str) -> set[str]:
        """Kinds of which the hop counted any."""
        return {kind for (h, kind), count in self._counts.items() if h == hop and count}

    def rows(self) -> list[Row]:
        """All cells that are not zero, in the order of the data path."""
        order = {hop: i for i, hop in enumerate(HOPS)}
        cells = sorted(self._counts, key=lambda cell: (order.get(cell[0], len(order)), cell[1]))
        return [(hop, kind, self._counts[hop, kind]) for hop, kind in cells if self._counts[hop, kind]]
