"""Loads that were found late, on their way to the kernel side: it begins one on each thread, and some of them at a time.

Workloads take turns, and one that has many makes itself wait. What finds no room here, or is not taken there, is counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from modelward_agent.identity.turns import Shares

_MOST = 4096
_AT_ONCE = 64
"""As many as the kernel side begins in one of its rounds (``sensor/loads.py``): then none of them waits there for others."""

Load = tuple[int, int, int, int, int]
"""Process, thread, device, inode, group."""


class Unbegun:
    """Fed by the sender, emptied at each tick."""

    def __init__(self) -> None:
        self._waiting: Shares[Load] = Shares(_MOST)
        self._refused = 0

    @property
    def lost(self) -> int:
        """Loads that nobody will begin."""
        return self._waiting.lost + self._refused

    def add(self, found: Iterable[Load]) -> None:
        """These wait from now on."""
        for load in found:
            self._waiting.add(str(load[4]), load)

    def give(self, take: Callable[[list[Load]], int]) -> None:
        """Hand over what one round can begin. ``take`` returns how many were taken on."""
        chosen: dict[int, Load] = {}
        again: list[Load] = []
        for load in self._waiting.take(_AT_ONCE):
            if chosen.setdefault(load[1], load) is not load:
                again.append(load)
        self.add(again)
        if chosen:
            self._refused += len(chosen) - take([*chosen.values()])
