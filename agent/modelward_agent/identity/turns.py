"""What waits and what is kept, shared fairly between workloads: however much one of them asks for, the others lose nothing.

A workload is named by its text (``Artifact.workload``). No class locks: whoever uses one does, but for :meth:`Turns.take`.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")

_REMEMBERED, _REMEMBERED_S = 1024, 600.0
"""Lines that are empty, and for how long they are: what their workloads had before they ask again counts."""


@dataclass(slots=True)
class _Line(Generic[T]):
    spent_s: float
    served_at: float = field(default_factory=time.monotonic)
    things: deque[T] = field(default_factory=deque)


class Turns(Generic[T]):
    """One line for each workload, and one who serves them. Next is the first of the line that has had the least time so far;
    where all take equally long, they take turns. Time that a workload did not ask for is not saved up, and what it took is not
    forgotten at once when it asks for one thing at a time. A line has a bound of its own; when there is no room for one more of
    all together, the longest line loses its last."""

    def __init__(self, lock: threading.RLock, *, each: int, together: int) -> None:
        """``lock`` is held by the caller of every method but ``take``, which takes it."""
        self._changed = threading.Condition(lock)
        self._each, self._together = each, together
        self._lines: OrderedDict[str, _Line[T]] = OrderedDict()
        self._count = 0
        self._reached_s = 0.0
        """What the one that is served had before: nobody waits who had less."""
        self._served: str | None = None
        self._served_at = 0.0
        self._closed = False

    def __len__(self) -> int:
        return self._count

    def add(self, workload: str, thing: T) -> T | None:
        """Let it wait. Returns what cannot wait any more for that: None, ``thing`` itself, or the last of another line."""
        line = self._lines.get(workload)
        if line is not None and len(line.things) >= self._each:
            return thing
        lost = None
        if self._count >= self._together:
            longest = max(self._lines.values(), key=lambda other: len(other.things))
            if line is not None and len(line.things) >= len(longest.things):
                return thing
            lost = longest.things.pop()
            self._count -= 1
        if line is None:
            line = self._lines[workload] = _Line(self._reached_s)
        # What others had while it asked for nothing is not owed to it.
        line.spent_s = max(line.spent_s, self._reached_s)
        line.things.append(thing)
        self._count += 1
        self._changed.notify()
        return lost

    def take(self) -> tuple[str, T] | None:
        """What is next, and whose it is, once there is something; None after the end. The time until the next call is that
        workload's."""
        with self._changed:
            self._charge()
            while not self._count and not self._closed:
                self._changed.wait()
            if self._closed:
                return None
            workload, line = min(((w, one) for w, one in self._lines.items() if one.things), key=lambda each: each[1].spent_s)
            self._count -= 1
            self._served, self._served_at, self._reached_s = workload, time.monotonic(), line.spent_s
            self._lines.move_to_end(workload)
            return workload, line.things.popleft()

    def close(self) -> None:
        """End whoever waits in ``take``; what waits stays where it is."""
        self._closed = True
        self._changed.notify_all()

    def _charge(self) -> None:
        now = time.monotonic()
        if self._served is not None and (line := self._lines.get(self._served)) is not None:
            line.spent_s += now - self._served_at
            line.served_at = now
        self._served = None
        # In the order in which they were served last.
        empty = [workload for workload, line in self._lines.items() if not line.things]
        for number, workload in enumerate(empty, 1):
            if len(empty) - number >= _REMEMBERED or now - self._lines[workload].served_at > _REMEMBERED_S:
                del self._lines[workload]


class Shares(Generic[T]):
    """Things that wait to be fetched. When there are too many, the workload that has most of them loses its oldest."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._things: OrderedDict[str, deque[T]] = OrderedDict()
        self._count = 0
        self.lost = 0
        """So many did not find room."""

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[T]:
        return (thing for each in self._things.values() for thing in each)

    def add(self, workload: str, thing: T) -> None:
        self._things.setdefault(workload, deque()).append(thing)
        self._count += 1
        if self._count > self._most:
            max(self._things.values(), key=len).popleft()
            self._count -= 1
            self.lost += 1

    def take(self, most: int | None = None) -> list[T]:
        """All of them, or so many: workloads take turns then. Those of one workload are in their order."""
        if most is None or most >= self._count:
            things, self._things, self._count = self._things, OrderedDict(), 0
            return [thing for each in things.values() for thing in each]
        taken: list[T] = []
        while len(taken) < most:
            workload, things_of_one = self._things.popitem(last=False)
            if things_of_one:
                taken.append(things_of_one.popleft())
            if things_of_one:
                self._things[workload] = things_of_one
        self._count -= len(taken)
        return taken


class Lately(Generic[T]):
    """What was handed over a while ago: of each workload the latest, and of those that handed over nothing for longest none."""

    def __init__(self, seconds: float, *, each: int, workloads: int, now: Callable[[], float] = time.monotonic) -> None:
        """``seconds``: so long after it was handed over a thing is held. ``now``: a clock."""
        self._seconds, self._each, self._workloads, self._now = seconds, each, workloads, now
        self._things: OrderedDict[str, deque[tuple[float, T]]] = OrderedDict()

    def __iter__(self) -> Iterator[T]:
        """In their order, workload by workload."""
        before = self._now() - self._seconds
        for workload, things in [*self._things.items()]:
            while things and things[0][0] < before:
                things.popleft()
            if not things:
                del self._things[workload]
        return (thing for things in self._things.values() for _, thing in things)

    def add(self, workload: str, thing: T) -> None:
        self._things.setdefault(workload, deque(maxlen=self._each)).append((self._now(), thing))
        self._things.move_to_end(workload)
        if len(self._things) > self._workloads:
            self._things.popitem(last=False)

    def drop(self, workload: str, gone: Callable[[T], bool]) -> None:
        """Those of a workload need not be held any more."""
        if workload in self._things:
            left = [(at, thing) for at, thing in self._things[workload] if not gone(thing)]
            self._things[workload] = deque(left, maxlen=self._each)
