"""Loads that were found late, on their way to the kernel side: it begins one on each thread, and some of them at a time.

Workloads take turns, and one that has many makes itself wait. What the kernel side does not take now, because enough of its group
wait there, is offered again for a while. What finds no room here, or was not taken for so long, is counted.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable

from modelward_agent.identity.turns import Shares

_MOST = 4096
_AT_ONCE = 64
"""As many as the kernel side begins in one of its rounds (``sensor/loads.py``): then none of them waits there for others."""
_AGAIN_S, _OFFERED_S = 1.0, 60.0
"""Between two offers of a load that was not taken, and so long it is offered: by then its process is done with it."""

Load = tuple[int, int, int, int, int]
"""Process, thread, device, inode, group."""


class Unbegun:
    """Fed by the sender, emptied at each tick."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        """``now``: a clock."""
        self._now = now
        self._waiting: Shares[tuple[float, Load]] = Shares(_MOST)
        self._later: deque[tuple[float, float, Load]] = deque()
        """What was not taken a moment ago, the first of it first; some ticks give so much."""
        self._refused = 0

    @property
    def lost(self) -> int:
        """Loads that nobody will begin."""
        return self._waiting.lost + self._refused

    def add(self, found: Iterable[Load]) -> None:
        """These wait from now on."""
        until = self._now() + _OFFERED_S
        for load in found:
            self._wait(until, load)

    def give(self, take: Callable[[list[Load]], int], *, watching: bool = True) -> None:
        """Hand over what one round can begin. ``take`` gets loads of one group and returns how many of them, from the first, were
        taken on. ``watching``: without it what is not taken is forgotten, for nobody is there who could."""
        now = self._now()
        while self._later and self._later[0][0] <= now:
            _, until, load = self._later.popleft()
            self._wait(until, load)
        chosen: dict[int, tuple[float, Load]] = {}
        again: list[tuple[float, Load]] = []
        for each in self._waiting.take(_AT_ONCE):
            if chosen.setdefault(each[1][1], each) is not each:
                again.append(each)
        for each in again:
            self._wait(*each)
        groups: dict[int, list[tuple[float, Load]]] = {}
        for each in chosen.values():
            groups.setdefault(each[1][4], []).append(each)
        for of_group in groups.values():
            for until, load in of_group[take([load for _, load in of_group]) :]:
                if watching and now < until:
                    self._later.append((now + _AGAIN_S, until, load))
                elif watching:
                    self._refused += 1

    def _wait(self, until: float, load: Load) -> None:
        self._waiting.add(str(load[4]), (until, load))
