"""The table of repeats: equal effects that the kernel only counted, in two generations.

The generation in use is swapped for an empty one; the kernel's update waits until no program writes the old one any more, so that
its counts are final when it is read (reading a live one loses increments). It is emptied only once its counts are in the spool.
Swaps are numbered, and the generation in use is that of the number's last bit: so an agent that starts can tell from the last
number spooled whether the retired generation is still to be read.
"""

from __future__ import annotations

import struct

import numpy as np
import numpy.typing as npt

from modelward_agent.sensor.constants import REPEATS_RING, Flag
from modelward_agent.sensor.libbpf import Map

_FIRST = struct.pack("=I", 0)
_MOST = 0xFFFFFFFF


class Repeats:
    def __init__(
        self, outer: Map, generations: tuple[Map, Map], small: np.dtype[np.void], value_size: int, key_size: int
    ) -> None:
        """``value_size`` and ``key_size``: of ``mw_repeat`` and ``mw_repeat_key``."""
        self._outer = outer
        self._generations = generations
        self._small = small
        room = generations[0].max_entries
        self._values = np.zeros(room, np.dtype({
            "names": ["repeats", "last_ns"], "formats": ["<u8", "<u8"], "offsets": [0, 8], "itemsize": value_size}))
        self._keys = np.zeros((room, key_size), np.uint8)
        self._swaps = 0
        self._unsettled = False
        self._untold = False

    def resume(self, swaps: int) -> None:
        """Go on after the last swap whose counts are spooled."""
        self._swaps = swaps
        self._unsettled = self._untold = self._in_use() != swaps & 1
        if not self._untold:
            self._empty(self._generations[1 - (swaps & 1)])

    def swap(self) -> tuple[npt.NDArray[np.void], int]:
        """Retire the generation in use; returns its counts as SMALL records, ``count`` = repeats beyond the record that went out,
        and the number to settle once they are safe; 0 when there is none."""
        nothing = np.empty(0, self._small)
        if self._untold:
            self._untold = False
        elif self._unsettled or self._generations[self._swaps & 1].empty:
            return nothing, 0
        else:
            self._outer.update(_FIRST, struct.pack("=I", self._generations[1 - (self._swaps & 1)].fd))
            self._unsettled = True
        return self._read(self._generations[self._swaps & 1]), self._swaps + 1

    def settle(self, number: int) -> None:
        """The counts of swap ``number`` are safe: its generation may be used again."""
        if self._unsettled and number == self._swaps + 1:
            self._empty(self._generations[self._swaps & 1])
            self._swaps, self._unsettled = number, False

    def wait_for_writers(self) -> None:
        """Return when every program that ran at the time of the call has ended."""
        self._outer.update(_FIRST, struct.pack("=I", self._generations[self._in_use()].fd))

    def _in_use(self) -> int:
        number, = struct.unpack("=I", self._outer.lookup(_FIRST, 4))
        return 0 if number == self._generations[0].id else 1

    def _empty(self, generation: Map) -> None:
        generation.take_all(self._keys.ctypes.data, self._values.ctypes.data, len(self._values))

    def _read(self, retired: Map) -> npt.NDArray[np.void]:
        found = retired.read_all(self._keys.ctypes.data, self._values.ctypes.data, len(self._values))
        values = self._values[:found]
        chosen = np.flatnonzero(values["repeats"] > 0)
        # A count has 32 bits, and nobody may have read for days.
        pieces = (values["repeats"][chosen] + np.uint64(_MOST - 1)) // np.uint64(_MOST)
        chosen = np.repeat(chosen, pieces.astype(np.intp))
        start = self._values.itemsize - self._small.itemsize
        raw = values.view(np.uint8).reshape(found, self._values.itemsize)[chosen, start:]
        small = np.ascontiguousarray(raw).view(self._small).reshape(len(chosen))
        counts = np.full(len(chosen), _MOST, np.uint64)
        last = np.cumsum(pieces.astype(np.intp)) - 1
        counts[last] = values["repeats"][chosen[last]] - (pieces - np.uint64(1)) * np.uint64(_MOST)
        small["count"] = counts
        small["time_ns"] = values["last_ns"][chosen]
        small["flags"] |= np.uint32(Flag.REPEATS)
        small["ring"] = REPEATS_RING
        small["number"] = 0
        return small
