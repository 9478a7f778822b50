"""The rings of another version of the agent, whose hooks have been handed over: they are read to their end."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from modelward_agent.sensor import records
from modelward_agent.sensor.doors import DoorReport
from modelward_agent.sensor.errors import SensorError
from modelward_agent.sensor.kernel import Kernel
from modelward_agent.sensor.pins import PinFolder
from modelward_agent.sensor.reading import Reader
from modelward_agent.sensor.rings import Drained

if TYPE_CHECKING:
    from modelward_agent.hints.hint import Hint


class Predecessor(Reader):
    """Gives out old records in this version's layout."""

    def __init__(self, kernel: Kernel, pins: PinFolder) -> None:
        super().__init__(kernel)
        self._pins = pins
        # It may still run on another CPU.
        self._repeats.wait_for_writers()

    def drain(self, max_records: int = 65536) -> Drained:
        return self._converted(super().drain(max_records))

    def swap_repeats(self) -> Drained:
        return self._converted(super().swap_repeats())

    def _converted(self, drained: Drained) -> Drained:
        return replace(drained, small=converted(drained.small, records.SMALL), large=converted(drained.large, records.LARGE))

    def tick(self) -> None:
        """Nothing is due: it hears nothing."""

    def doors(self) -> Sequence[DoorReport]:
        return self._kernel.about.doors

    def predecessors(self) -> list[Predecessor]:
        return []

    def declare(self, hint: Hint) -> None:
        """It does not hear any more."""

    def register_artifacts(self, found: Iterable[tuple[int, int]]) -> int:
        """Its successor knows them."""
        return 0

    def late_loads(self, found: Iterable[tuple[int, int, int, int, int]]) -> int:
        """Its processes are its successor's."""
        return 0

    def canary(self, id: str) -> None:
        """Raises SensorError."""
        raise SensorError("an upgrade is under way")

    def detach(self) -> None:
        """Its hooks are its successor's."""

    def leave(self) -> None:
        self._close_reading()

    def close(self) -> None:
        """Remove its pins: everything in it is spooled, or lost."""
        folder = self._kernel.folder
        self._close_reading()
        if folder is not None:
            self._pins.remove(folder)


def converted(old: npt.NDArray[np.void], dtype: np.dtype[np.void]) -> npt.NDArray[np.void]:
    """Records in another layout: members that both have, by name; the union as it is; of bytes, as many as there is room for."""
    if old.dtype == dtype:
        return old
    new = np.zeros(len(old), dtype)
    for name in _apart(dtype) & _apart(old.dtype):
        before, after = old.dtype[name], dtype[name]
        if before.subdtype is None and before.kind in "iu" and after.kind in "iu":
            new[name] = old[name]
            continue
        width = min(before.itemsize, after.itemsize)
        cut = np.zeros((len(old), after.itemsize), np.uint8)
        cut[:, :width] = np.ascontiguousarray(old[name]).view(np.uint8).reshape(len(old), before.itemsize)[:, :width]
        new[name] = cut.view(after.base).reshape(len(old), *after.shape)
    return new


def _apart(dtype: np.dtype[np.void]) -> set[str]:
    """Members that overlap with no other: those of the union are one, its bytes."""
    fields = dict(dtype.fields or {})
    union, begin = fields["by_kind"][:2]
    return {name for name, (_, offset, *_) in fields.items()
            if name == "by_kind" or not begin <= offset < begin + union.itemsize}
