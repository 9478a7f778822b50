"""A spooled batch as ordered columns: small and large records and losses in one row order, without
per-event Python."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from modelward_proto.kinds import Kind

from modelward_agent.sensor.constants import Flag

Column = npt.NDArray[Any]
Spans = tuple[Column, Column]
"""Start offsets into :attr:`Rows.bytes` and lengths, one of each a row."""


def flagged(flags: Column, flag: Flag) -> Column:
    """Rows that have any of these flags."""
    has: Column = (flags & np.uint32(flag)) != 0
    return has


class Rows:
    """One row per record, stable by kernel time, then one row per loss.

    Lengths in the records are not believed: a text that would leave its record is cut at the record's end and
    :attr:`overflow` says so.
    """

    def __init__(self, small: Column, large: Column, losses: Sequence[tuple[str, str, int]], loss_time_ns: int) -> None:
        self._small = np.ascontiguousarray(small)
        self._large = np.ascontiguousarray(large)
        self._losses = len(losses)
        self.losses = losses
        self.records = len(small) + len(large)
        self.count = self.records + self._losses
        times = self._joined("time_ns")
        self._order: Column | None = None
        if self.records > 1 and bool((times[1:] < times[:-1]).any()):
            self._order = np.argsort(times, kind="stable")
        self.time_ns = self._padded(times)
        self.kind = self._padded(self._joined("kind"))
        if self._losses:
            self.time_ns[self.records :] = max(0, loss_time_ns)
            self.kind[self.records :] = int(Kind.HOST_LOSS)
        self._cut_texts()

    def column(self, name: str) -> Column:
        """A member of the record header for every row; zero in loss rows."""
        return self._padded(self._joined(name))

    def spans(self, segment: int) -> Spans:
        """Where one text of every row lies."""
        return self._starts[:, segment], self._lengths[:, segment]

    def raw(self, row: int, segment: int) -> bytes:
        """One text of one row."""
        start = int(self._starts[row, segment])
        return self.bytes[start : start + int(self._lengths[row, segment])].tobytes()

    def member(self, name: str, row: int) -> int:
        """A member of one record's header."""
        records, at = self._record(row)
        return int(records[name][at])

    def header(self, row: int) -> bytes:
        """The header of one record as the kernel wrote it."""
        records, at = self._record(row)
        size = int(records.dtype.fields["text"][1])  # type: ignore[index]
        return records[at : at + 1].view(np.uint8)[:size].tobytes()

    def _record(self, row: int) -> tuple[Column, int]:
        at = int(self._order[row]) if self._order is not None else row
        return (self._small, at) if at < len(self._small) else (self._large, at - len(self._small))

    def _joined(self, name: str) -> Column:
        if not len(self._large):
            return self._small[name]
        if not len(self._small):
            return self._large[name]
        return np.concatenate((self._small[name], self._large[name]))

    def _padded(self, values: Column) -> Column:
        ordered = values[self._order] if self._order is not None else np.array(values)
        if not self._losses:
            return ordered
        return np.concatenate((ordered, np.zeros((self._losses, *values.shape[1:]), values.dtype)))

    def _cut_texts(self) -> None:
        parts: list[Column] = []
        starts: list[Column] = []
        rooms: list[Column] = []
        base = 0
        for records in (self._small, self._large):
            if not len(records):
                continue
            size = records.dtype.itemsize
            offset = int(records.dtype.fields["text"][1])  # type: ignore[index]
            parts.append(records.view(np.uint8).reshape(-1))
            starts.append(base + offset + np.arange(len(records), dtype=np.int64) * size)
            rooms.append(np.full(len(records), size - offset, np.int64))
            base += len(records) * size
        none = np.zeros(0, np.int64)
        self.bytes: Column = parts[0] if len(parts) == 1 else np.concatenate(parts or [none.view(np.uint8)])
        text_at = self._padded(np.concatenate(starts) if starts else none)
        room = self._padded(np.concatenate(rooms) if rooms else none)
        ends = np.cumsum(self.column("seg"), axis=1, dtype=np.int64)
        self.overflow: Column = ends[:, -1] > room
        if bool(self.overflow.any()):
            np.minimum(ends, room[:, None], out=ends)
        starts_in = np.zeros_like(ends)
        starts_in[:, 1:] = ends[:, :-1]
        self._lengths: Column = ends - starts_in
        self._starts: Column = starts_in + text_at[:, None]
