"""What user space tells the kernel side of loads, and asks of it: ``agent/bpf/late.bpf.h``."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import logging
import struct
import time
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from modelward_agent.sensor.kernel import Kernel

log = logging.getLogger(__name__)

LOOK_S = 2.0
_LOOKS = 64
"""Processes looked at in one round: a host with more is looked at less often."""
_REGISTERED = 4096
_RESIDENTS = 1024
"""``max_entries`` of the map."""
_LATE, _LATE_EACH = 1024, 128
"""Loads that wait to be begun, and those of one group."""
_AGAIN_S = 1.0
"""After the kernel refused to begin any."""
_LATE_AT_ONCE = 64
"""A round goes through all tasks of the host, once, whatever it asks for."""
_GROUP = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class _Late:
    """A process was found to load a model, in this thread."""

    tgid: int
    tid: int
    device: int
    inode: int
    group: int


class Loads:
    """Artifacts by inode, loads found late, models that are no longer mapped."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._looked = time.monotonic()
        self._keys = ctypes.create_string_buffer(4 * _RESIDENTS)
        self._values = ctypes.create_string_buffer(4 * _RESIDENTS)
        self._late: deque[_Late] = deque()
        self._late_of: Counter[int] = Counter()
        """So many of each group wait."""
        self._late_at = 0.0

    def register(self, found: Iterable[tuple[int, int]], group: int = 0) -> int:
        """Files as (device, inode). The kernel forgets the least used ones when there are too many.

        Args:
            group: for which alone they are artifacts; 0: for all.
        """
        artifacts, taken = self._kernel.map("artifacts"), 0
        for device, inode in itertools.islice(found, _REGISTERED):
            try:
                # What the kernel side knows of it already, by its generation too, stays.
                artifacts.add(_inode(device, inode, group), bytes(artifacts.value_size))
            except OSError as e:
                log.warning("files are not registered as artifacts", extra={"reason": str(e)})
                break
            taken += 1
        return taken

    def late(self, tid: int, device: int, inode: int) -> bool:
        """Begin a load on a thread; whether it was begun."""
        return bool(self._begin({tid: _inode(device, inode)}))

    def ask(self, found: Iterable[tuple[int, int, int, int, int]]) -> int:
        """Loads to be begun by :meth:`begin_late`, as (process, thread, device, inode, group). Returns how many may wait, of one
        group the first: too many of a group are none of others, and while the kernel begins none, none may."""
        taken = 0
        for each in itertools.starmap(_Late, found):
            if len(self._late) >= _LATE or time.monotonic() < self._late_at:
                break
            if self._late_of[each.group] < _LATE_EACH:
                self._wait(each)
                taken += 1
        return taken

    def _wait(self, each: _Late) -> None:
        self._late.append(each)
        self._late_of[each.group] += 1

    def begin_late(self) -> None:
        """Begin loads that wait, as many as one round can: one for each thread."""
        if not self._late or time.monotonic() < self._late_at:
            return
        chosen: dict[int, _Late] = {}
        left: deque[_Late] = deque()
        while self._late:
            each = self._late.popleft()
            if each.tid in chosen or len(chosen) >= _LATE_AT_ONCE:
                left.append(each)
            else:
                chosen[each.tid] = each
        self._late = left
        self._late_of = Counter(each.group for each in left)
        try:
            begun = self._begin({tid: _inode(each.device, each.inode, each.group) for tid, each in chosen.items()})
        except OSError as e:
            log.warning("loads that were found late are not begun now", extra={"count": len(chosen), "reason": str(e)})
            self._late_at = time.monotonic() + _AGAIN_S
            for each in chosen.values():
                self._wait(each)
            return
        for tid, each in chosen.items():
            if tid in begun:
                # Only now, or the next read of it would begin a load that nobody found. What did not begin the kernel side may
                # know better than by its number; and what one workload calls a model is none to others.
                self.register([(each.device, each.inode)], each.group)
            elif tid != each.tgid:
                self._wait(_Late(each.tgid, each.tgid, each.device, each.inode, each.group))

    def _begin(self, wanted: Mapping[int, bytes]) -> set[int]:
        """Begin a load on each thread; those on which it was begun. Others have ended, are not tracked or have that model."""
        late = self._kernel.map("late")
        keys = {tid: struct.pack("=I", tid) for tid in wanted}
        try:
            for tid, file in wanted.items():
                late.update(keys[tid], file)
            self._kernel.programs["late_load"].iterate()
            return {tid for tid, key in keys.items() if late.lookup(key, 16)[:8] == bytes(8)}
        finally:
            for key in keys.values():
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


def _inode(device: int, inode: int, group: int = 0) -> bytes:
    return struct.pack("=QII", inode, device, group & _GROUP)
