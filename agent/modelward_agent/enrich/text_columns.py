"""Texts that lie in fixed-size records become Arrow string columns: one gather for a column, Python only
for odd rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from modelward_proto.text import escape

Column = npt.NDArray[Any]

_CHUNK = 1 << 20
_ODD = np.ones(256, np.bool_)
_ODD[0x20:0x7F] = False
_ODD[ord("\\")] = True


def strings(flat: Column, starts: Column, lengths: Column) -> pa.StringArray:
    """Escaped text of every row.

    Args:
        flat: bytes (n,) u8 in which the texts lie.
        starts: offset of each row's text in ``flat``.
        lengths: its length in bytes; 0 for no text.
    """
    offsets = _offsets(lengths)
    data = _gather(flat, starts, offsets)
    odd = _odd_rows(data, offsets)
    if len(odd):
        escaped = [escape(data[offsets[row] : offsets[row + 1]].tobytes()).encode() for row in odd.tolist()]
        starts, lengths = offsets[:-1].copy(), lengths.copy()
        lengths[odd] = np.fromiter((len(text) for text in escaped), np.int64, len(escaped))
        starts[odd] = len(data) + _offsets(lengths[odd])[:-1]
        offsets = _offsets(lengths)
        data = _gather(np.concatenate((data, np.frombuffer(b"".join(escaped), np.uint8))), starts, offsets)
    return pa.StringArray.from_buffers(len(lengths), pa.py_buffer(offsets.astype(np.int32)), pa.py_buffer(data))


def clip(text: str, most: int) -> str:
    """Both ends of an escaped text that is longer than ``most``; no escape is cut in two."""
    if len(text) <= most:
        return text
    head = most // 2
    if (cut := text.find("\\", head - 3, head)) >= 0:
        head = cut
    tail = len(text) - (most - most // 2 - 1)
    if (cut := text.find("\\", tail - 3, tail)) >= 0:
        tail = cut + 4
    return f"{text[:head]}…{text[tail:]}"


def _offsets(lengths: Column) -> Column:
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def _chunks(offsets: Column) -> Iterator[tuple[int, int]]:
    """Ranges of rows with about a mebibyte of text each: index arrays take eight times as much as the text."""
    row, rows = 0, len(offsets) - 1
    while row < rows:
        end = int(np.searchsorted(offsets, offsets[row] + _CHUNK, side="right")) - 1
        end = min(max(end, row + 1), rows)
        yield row, end
        row = end


def _gather(flat: Column, starts: Column, offsets: Column) -> Column:
    """The bytes of all rows one after another."""
    data = np.empty(int(offsets[-1]), np.uint8)
    for row, end in _chunks(offsets):
        low, high = int(offsets[row]), int(offsets[end])
        at = np.repeat(starts[row:end] - offsets[row:end], np.diff(offsets[row : end + 1]))
        at += np.arange(low, high, dtype=np.int64)
        np.take(flat, at, out=data[low:high])
    return data


def _odd_rows(data: Column, offsets: Column) -> Column:
    """Rows with a byte that is not printable ASCII, or with a backslash."""
    found: list[Column] = []
    for row, end in _chunks(offsets):
        low = int(offsets[row])
        at = np.flatnonzero(_ODD[data[low : int(offsets[end])]]) + low
        if len(at):
            found.append(np.unique(np.searchsorted(offsets, at, side="right") - 1))
    return np.concatenate(found) if found else np.zeros(0, np.int64)
