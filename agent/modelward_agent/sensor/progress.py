"""How much of the kernel's rings, repeats and loss counts is safely in the spool.

Written into each batch, into the spool's state, and, once a batch is on disk, into the pinned memory beside the rings: whichever
of the three is furthest says where the next agent goes on, so that nothing is spooled twice and nothing is left out, wherever the
last agent was killed; and a new spool knows what an old one had taken.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Cell = tuple[str, str]
"""(hop, event name)"""


@dataclass(frozen=True)
class Progress:
    """Totals since these rings were made. ``rings`` names them; empty: there are none."""

    rings: str
    step: int = 0
    """Grows with each batch: of two, the higher is the later."""
    positions: Mapping[int, int] = field(default_factory=dict)
    """Ring to the consumer position behind what is spooled; ``REPEATS_RING`` to the number of swaps of the repeats."""
    taken: Mapping[str, int] = field(default_factory=dict)
    """Event name to spooled events (the sum of ``count``)."""
    told: Mapping[Cell, int] = field(default_factory=dict)
    """(hop, event name) to lost events that a spooled batch tells of."""

    def after(self, positions: Mapping[int, int], taken: Mapping[str, int], told: Mapping[Cell, int]) -> Progress:
        """One batch later. ``told``: totals, as far as that batch tells of more."""
        sums = dict(self.taken)
        for kind, count in taken.items():
            sums[kind] = sums.get(kind, 0) + count
        return Progress(self.rings, self.step + 1, {**self.positions, **positions}, sums, {**self.told, **told})

    def baseline(self) -> dict[Cell, int]:
        """Kernel totals at which a new ledger begins: what was seen, and is neither in the rings any more nor lost untold.

        Events are in the rings or the repeats until they are taken, so that from here on seen = taken + dropped + waiting."""
        totals = dict(self.told)
        for kind in {*self.taken, *(kind for hop, kind in self.told if hop == "ring_dropped")}:
            totals["seen", kind] = self.taken.get(kind, 0) + self.told.get(("ring_dropped", kind), 0)
        return totals

    def to_json(self) -> dict[str, Any]:
        return {
            "rings": self.rings, "step": self.step, "positions": {str(ring): at for ring, at in self.positions.items()},
            "taken": dict(self.taken), "told": [[hop, kind, count] for (hop, kind), count in self.told.items()],
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Progress:
        """Raises ValueError, KeyError or TypeError when it is not one."""
        return cls(
            str(values["rings"]), int(values["step"]), {int(ring): int(at) for ring, at in values["positions"].items()},
            {str(kind): int(count) for kind, count in values["taken"].items()},
            {(str(hop), str(kind)): int(count) for hop, kind, count in values["told"]},
        )
