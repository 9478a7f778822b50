"""How often something is done for a workload, by its name: groups of one container share that, however many there are."""

from __future__ import annotations

from collections import OrderedDict

_WORKLOADS = 4096


class Allowance:
    """So often as soon as it is wanted, then once in a while. Bounded: the workload that took longest ago is forgotten first."""

    def __init__(self, often: int, rarely_s: float) -> None:
        self._often, self._rarely_s = often, rarely_s
        self._taken: OrderedDict[str, tuple[int, float]] = OrderedDict()
        """How often each took, and when it may again."""

    def allows(self, workload: str, now: float) -> bool:
        """Whether it may be done now. ``now``: seconds of a clock that does not go back."""
        return now >= self._taken.get(workload, (0, 0.0))[1]

    def take(self, workload: str, now: float) -> None:
        """It is done."""
        count = self._taken.pop(workload, (0, 0.0))[0] + 1
        self._taken[workload] = count, now + self._rarely_s if count >= self._often else 0.0
        if len(self._taken) > _WORKLOADS:
            self._taken.popitem(last=False)
