"""The table of repeats: equal effects that the kernel only counted, in two generations.

The generation in use is swapped for an empty one; the kernel's update waits until no program writes the old
one any more, so that its counts are final when it is read and emptied (reading a live one loses increments).
"""

from __future__ import annotations

import struct

import numpy as np
import numpy.typing as npt

from modelward_agent.sensor import records
from modelward_agent.sensor.constants import REPEATS_RING, Flag
from modelward_agent.sensor.libbpf import Map


class Repeats:
    def __init__(self, outer: Map, generations: tuple[Map, Map]) -> None:
        self._outer = outer
        self._generations = generations
        self._current = 0
        room = generations[0].max_entries
        self._values = np.zeros(room, records.dtype("mw_repeat"))
        self._keys = np.zeros((room, records.btf().size("mw_repeat_key")), np.uint8)

    def swap(self) -> npt.NDArray[np.void]:
        """Retire the generation in use; returns its counts as SMALL records, ``count`` = repeats beyond the
        record that went out."""
        retired = self._generations[self._current]
        self._current ^= 1
        self._outer.update(struct.pack("=I", 0), struct.pack("=I", self._generations[self._current].fd))
        found = retired.take_all(self._keys.ctypes.data, self._values.ctypes.data, len(self._values))
        counted = self._values[:found][self._values["repeats"][:found] > 0]
        raw = counted.view(np.uint8).reshape(len(counted), self._values.itemsize)
        start = self._values.itemsize - records.SMALL.itemsize
        small = np.ascontiguousarray(raw[:, start:]).view(records.SMALL).reshape(len(counted))
        small["count"] = np.minimum(counted["repeats"], 0xFFFFFFFF)
        small["time_ns"] = counted["last_ns"]
        small["flags"] |= np.uint32(Flag.REPEATS)
        small["ring"] = REPEATS_RING
        small["number"] = 0
        return small
