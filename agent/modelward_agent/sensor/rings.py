"""Drains the kernel's rings as numpy arrays, and gives space back only when told to.

A ring buffer map is a page that the consumer writes (its position), a page with the producer's position, and
the data twice in a row, so that a record never wraps. Each record has a header of 8 bytes (length, with a
busy bit); all records of one ring have one size, so that a drain is one strided view. Layout:
kernel/bpf/ringbuf.c.
"""

from __future__ import annotations

import mmap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from modelward_agent.sensor.constants import Ring
from modelward_agent.sensor.records import joined

_BUSY = 1 << 31
_HEADER = 8


@dataclass
class Drained:
    """What one call of ``Sensor.drain`` brought.

    ``small`` and ``large`` are copies, of dtype SMALL and LARGE, each ordered by ``time_ns``. ``positions``
    is what ``Sensor.commit`` takes once the records are safe. ``gaps`` counts, by (ring, cpu), numbers newly
    known to be missing: records for which the ring had no room; below zero when some turn out to be late.
    """

    small: npt.NDArray[np.void]
    large: npt.NDArray[np.void]
    positions: dict[int, int] = field(default_factory=dict)
    gaps: dict[tuple[int, int], int] = field(default_factory=dict)


class RingReader:
    """One ring, read by this process alone."""

    def __init__(self, ring: Ring, fd: int, size: int, record: np.dtype[np.void]) -> None:
        self.ring = ring
        self._record = record
        self._stride = (record.itemsize + _HEADER + 7) & ~7
        self._mask = size - 1
        page = mmap.PAGESIZE
        self._own = mmap.mmap(fd, page, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE, offset=0)
        self._shared = mmap.mmap(fd, page + 2 * size, mmap.MAP_SHARED, mmap.PROT_READ, offset=page)
        self._consumer = np.frombuffer(self._own, np.uint64, 1)
        self._producer = np.frombuffer(self._shared, np.uint64, 1)
        self._data = np.frombuffer(self._shared, np.uint8, 2 * size, offset=page)
        self._read = int(self._consumer[0])

    def drain(self, limit: int) -> npt.NDArray[np.void]:
        """Up to ``limit`` records not yet returned, copied; stops at the first that a program is still
        writing."""
        available = min((int(self._producer[0]) - self._read) // self._stride, limit)
        if available <= 0:
            return np.empty(0, self._record)
        start = self._read & self._mask
        # The data are mapped twice, but `limit` may be more than one turn of the ring.
        available = min(available, (len(self._data) - start) // self._stride)
        block = self._data[start : start + available * self._stride]
        lengths = block.view()[: available * self._stride].reshape(available, self._stride)[:, :4].copy().view("<u4").ravel()
        busy = np.flatnonzero(lengths & _BUSY)
        ready = int(busy[0]) if busy.size else available
        view = np.ndarray((ready,), self._record, self._data, start + _HEADER, (self._stride,))
        self._read += ready * self._stride
        return view.copy()

    @property
    def position(self) -> int:
        """Consumer position after everything that was drained."""
        return self._read

    def commit(self, position: int) -> None:
        """Let the kernel overwrite what lies before ``position``."""
        if position > int(self._consumer[0]):
            self._consumer[0] = position

    def resume(self, position: int) -> None:
        """Begin at ``position``, unless the ring was read further already."""
        self.commit(position)
        self._read = int(self._consumer[0])

    def waiting(self) -> bool:
        return int(self._producer[0]) > self._read

    def close(self) -> None:
        del self._consumer, self._producer, self._data
        self._own.close()
        self._shared.close()


class Gaps:
    """Finds records that are missing by their numbers, which the kernel takes before it asks the ring for
    room.

    Two programs on one CPU may come out of order, so that a number seems missing until a later drain: then it
    is taken back.
    """

    def __init__(self, resumed: bool = False) -> None:
        """``resumed``: there were records before the first that is to come."""
        self._resumed = resumed
        self._before: dict[tuple[int, int], int] = {}
        self._last: dict[tuple[int, int], int] = {}
        self._seen: dict[tuple[int, int], int] = {}
        self._told: dict[tuple[int, int], int] = {}

    def count(self, records: npt.NDArray[np.void], found: dict[tuple[int, int], int]) -> None:
        """Add what ``records``, of any rings, reveal to be missing to ``found``."""
        if not records.size:
            return
        keys = records["ring"].astype(np.uint32) << 16 | records["cpu"]
        for key in np.unique(keys).tolist():
            numbers = records["number"][keys == key]
            name = (key >> 16, key & 0xFFFF)
            self._last[name] = max(self._last.get(name, 0), int(numbers.max()))
            self._seen[name] = self._seen.get(name, 0) + len(numbers)
            before = self._before.setdefault(name, int(numbers.min()) - 1) if self._resumed else 0
            missing = max(self._last[name] - before - self._seen[name], 0)
            change = missing - self._told.get(name, 0)
            if change:
                self._told[name] = missing
                found[name] = found.get(name, 0) + change


class Rings:
    """All rings of a loaded object, drained together."""

    def __init__(self, readers: Sequence[RingReader], small: np.dtype[np.void], large: np.dtype[np.void]) -> None:
        self._readers = {reader.ring: reader for reader in readers}
        self._small, self._large = small, large
        self._gaps = Gaps()

    def drain(self, limit: int) -> Drained:
        small = self._ordered(self._small, (Ring.CONTROL, Ring.EVENTS), limit)
        # Large records are 26 times as large: bound what one drain copies.
        large = self._ordered(self._large, (Ring.CONTROL_LARGE, Ring.EVENTS_LARGE), max(limit // 16, 1))
        drained = Drained(small, large, {int(r): reader.position for r, reader in self._readers.items()})
        self._gaps.count(small, drained.gaps)
        self._gaps.count(large, drained.gaps)
        return drained

    def _ordered(self, dtype: np.dtype[np.void], rings: Sequence[Ring], limit: int) -> npt.NDArray[np.void]:
        parts = [part for ring in rings if (part := self._readers[ring].drain(limit)).size]
        if not parts:
            return np.empty(0, dtype)
        records = parts[0] if len(parts) == 1 else joined(parts, dtype)
        return records[np.argsort(records["time_ns"], kind="stable")]

    def commit(self, positions: Mapping[int, int]) -> None:
        for ring, position in positions.items():
            self._readers[Ring(ring)].commit(position)

    def resume(self, positions: Mapping[int, int]) -> None:
        """Begin behind what another reader had read, if it did."""
        for ring, reader in self._readers.items():
            reader.resume(positions.get(int(ring), 0))
        self._gaps = Gaps(resumed=any(reader.position for reader in self._readers.values()))

    def waiting(self) -> bool:
        return any(reader.waiting() for reader in self._readers.values())

    def close(self) -> None:
        for reader in self._readers.values():
            reader.close()
