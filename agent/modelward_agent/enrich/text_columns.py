"""Texts that lie in fixed-size records become Arrow string columns: one gather for a column, Python only
for odd rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from modelward_proto.text import escape

Column = npt.NDArray[Any]

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
    data = _gather(flat, starts, lengths, offsets)
    odd_at = np.flatnonzero(_ODD[data])
    if len(odd_at):
        odd = np.unique(np.searchsorted(offsets, odd_at, side="right") - 1)
        escaped = [escape(data[offsets[row] : offsets[row + 1]].tobytes()).encode() for row in odd.tolist()]
        starts, lengths = offsets[:-1].copy(), lengths.copy()
        lengths[odd] = np.fromiter((len(text) for text in escaped), np.int64, len(escaped))
        starts[odd] = len(data) + _offsets(lengths[odd])[:-1]
        offsets = _offsets(lengths)
        data = _gather(np.concatenate((data, _bytes(b"".join(escaped)))), starts, lengths, offsets)
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


def _gather(flat: Column, starts: Column, lengths: Column, offsets: Column) -> Column:
    """The bytes of all rows one after another."""
    total = int(offsets[-1])
    if not total:
        return np.zeros(0, np.uint8)
    at = np.repeat(starts - offsets[:-1], lengths)
    at += np.arange(total, dtype=np.int64)
    gathered: Column = flat[at]
    return gathered


def _bytes(text: bytes) -> Column:
    return np.frombuffer(text, np.uint8)
