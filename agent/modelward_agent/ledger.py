"""The loss ledger of this host: how many events of each kind reached each hop since the epoch began.

Kernel-side hops are read as running totals, which outlive the agent together with the rings; the hops of the spool and of the
stream are added to batch by batch. The spool keeps the counts on disk, in the same file as the batch numbers, so that they
agree after a crash.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from modelward_proto.kinds import HOPS

Row = tuple[str, str, int]
"""(hop, kind, count)"""

Total = tuple[str, str, str, int]
"""(rings, hop, kind, count)"""


class Ledger:
    """Counts by (hop, kind)."""

    def __init__(self, rows: Iterable[Row] = (), totals: Iterable[Total] = ()) -> None:
        self._counts: dict[tuple[str, str], int] = {(hop, kind): int(count) for hop, kind, count in rows}
        self._totals: dict[str, dict[tuple[str, str], int]] = {}
        for rings, hop, kind, count in totals:
            self._totals.setdefault(rings, {})[hop, kind] = count

    def add(self, hop: str, kinds: Mapping[str, int]) -> None:
        """Count events that reached a hop."""
        if hop not in HOPS:
            raise ValueError(f"no such hop: {hop}")
        for kind, count in kinds.items():
            self._counts[hop, kind] = self._counts.get((hop, kind), 0) + count

    def begin(self, rings: str, totals: Mapping[tuple[str, str], int]) -> None:
        """What was counted beside these rings before is not of this epoch."""
        self._totals[rings] = dict(totals)

    def follow(self, rings: str, totals: Mapping[tuple[str, str], int]) -> None:
        """Take over running totals that are kept beside these rings."""
        before = self._totals.setdefault(rings, {})
        for cell, total in totals.items():
            if (grown := total - before.get(cell, 0)) > 0:
                self._counts[cell] = self._counts.get(cell, 0) + grown
                before[cell] = total

    def forget(self, rings: str) -> None:
        """These rings are gone."""
        self._totals.pop(rings, None)

    def totals(self) -> list[Total]:
        """Kernel counts that were taken in, for the next agent."""
        return [(rings, hop, kind, n) for rings, totals in self._totals.items() for (hop, kind), n in totals.items()]

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
