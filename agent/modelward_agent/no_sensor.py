"""Stands in for the sensor while no hook is attached: the agent lives on, and tells its collector why it is blind."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from modelward_agent.sensor.doors import EFFECTS, DoorReport
from modelward_agent.sensor.errors import SensorError
from modelward_agent.sensor.progress import Progress
from modelward_agent.spool.batch import Layout

if TYPE_CHECKING:
    from modelward_agent.drainer import Source
    from modelward_agent.hints.hint import Hint
    from modelward_agent.sensor.rings import Drained


class NoSensor:
    """A source of nothing (:class:`modelward_agent.drainer.Source`)."""

    def __init__(self, layout: Layout, why: str) -> None:
        from modelward_agent.sensor.rings import Drained

        self._why = why
        self._nothing = Drained(np.empty(0, layout.small), np.empty(0, layout.large), {}, {})

    def drain(self, max_records: int = 0) -> Drained:
        return self._nothing

    def commit(self, positions: Mapping[int, int]) -> None:
        return

    def tick(self) -> None:
        return

    def swap_repeats(self) -> Drained:
        return self._nothing

    def counters(self) -> dict[tuple[str, str], int]:
        return {}

    def doors(self) -> Sequence[DoorReport]:
        """Every effect, as one that is not seen."""
        return [DoorReport(effect.name, "none", self._why, False, f"{effect.name} is not seen") for effect in EFFECTS]

    def canary(self, id: str) -> None:
        """Raises SensorError: nothing would see it."""
        raise SensorError(f"no hook is attached on this host: {self._why}")

    def declare(self, hint: Hint) -> None:
        return

    def register_artifacts(self, found: Iterable[tuple[int, int]]) -> int:
        return 0

    def late_loads(self, found: Iterable[tuple[int, int, int, int, int]]) -> int:
        return 0

    def detach(self) -> None:
        return

    def predecessors(self) -> list[Source]:
        return []

    def progress(self) -> Progress:
        return Progress("")

    def keep(self, progress: Progress) -> None:
        return

    def resume(self, progress: Progress) -> None:
        return

    def close(self) -> None:
        return

    def leave(self) -> None:
        return
