"""What user space tells the kernel side of loads, and asks of it: ``agent/bpf/loads.bpf.h``."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import struct
import time
from collections.abc import Iterable

from modelward_agent.sensor.kernel import Kernel

LOOK_S = 2.0
_LOOKS = 64
"""Processes looked at in one round: a host with more is looked at less often."""
_REGISTERED = 4096
_RESIDENTS = 1024
"""``max_entries`` of the map."""


class Loads:
    """Artifacts by inode, loads found late, models that are no longer mapped."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._looked = time.monotonic()
        self._keys = ctypes.create_string_buffer(4 * _RESIDENTS)
        self._values = ctypes.create_string_buffer(4 * _RESIDENTS)

    def register(self, found: Iterable[tuple[int, int]]) -> int:
        """Files as (device, inode). The kernel forgets the least used ones when there are too many."""
        artifacts, taken = self._kernel.map("artifacts"), 0
        for device, inode in itertools.islice(found, _REGISTERED):
            artifacts.update(_inode(device, inode), bytes(8))
            taken += 1
        return taken

    def late(self, tid: int, device: int, inode: int) -> bool:
        """Begin a load on a thread; whether it was begun."""
        late, key = self._kernel.map("late"), struct.pack("=I", tid)
        late.update(key, _inode(device, inode))
        try:
            self._kernel.programs["late_load"].iterate()
            return late.lookup(key, 16)[:8] == bytes(8)
        finally:
            late.delete(key)

    def due(self) -> bool:
        """Whether it is time for another :meth:`look`."""
        return time.monotonic() - self._looked >= LOOK_S

    def look(self, own_numbers: bool) -> None:
        """Which processes no longer map the models that they had mapped?

        Args:
            own_numbers: whether this process sees others by the numbers that the kernel has for them.
        """
        self._looked = time.monotonic()
        count = self._kernel.map("residents").read_all(ctypes.addressof(self._keys), ctypes.addressof(self._values), _RESIDENTS)
        if not count:
            return
        pids = struct.unpack_from(f"={min(count, _LOOKS)}I", self._keys) if own_numbers else (0,)
        for pid in pids:
            try:
                self._kernel.programs["find_mapped"].iterate(pid)
                self._kernel.programs["unmapped"].iterate(pid)
            except OSError:
                # It has ended, or this kernel cannot choose: then its entry goes with it, or all are looked at.
                with contextlib.suppress(OSError):
                    self._kernel.map("residents").delete(struct.pack("=I", pid))


def _inode(device: int, inode: int) -> bytes:
    return struct.pack("=QII", inode, device, 0)
