"""Small builders of Arrow columns that the wire schema wants: closed sets, times, texts that many rows
share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from modelward_proto.fields import BY_NAME

Column = npt.NDArray[Any]

_DICTIONARIES: dict[str, pa.StringArray] = {
    field.name: pa.array(field.values, pa.string()) for field in BY_NAME.values() if field.type == "closed"
}


def closed(name: str, numbers: Column) -> pa.DictionaryArray:
    """A field with a closed set of values, by their numbers; a number outside the set becomes the first
    value."""
    values = _DICTIONARIES[name]
    inside = np.where(numbers < len(values), numbers, 0) if len(numbers) else numbers
    return pa.DictionaryArray.from_arrays(pa.array(inside.astype(np.int8)), values)


def shared(texts: Sequence[str], index: Column) -> pa.StringArray:
    """One of a few texts for each row."""
    if len(texts) == 1:
        return pa.repeat(pa.scalar(texts[0], pa.string()), len(index))
    return pa.array(texts, pa.string()).take(pa.array(index))


def sparse(count: int, texts: dict[int, str]) -> pa.StringArray:
    """A text for a few rows, nothing for the others."""
    if not texts:
        return pa.repeat(pa.scalar("", pa.string()), count)
    index = np.zeros(count, np.int32)
    index[list(texts)] = np.arange(1, len(texts) + 1)
    return shared(["", *texts.values()], index)


def times(time_ns: Column, offset_ns: int) -> Column:
    """Kernel boot times (u64) to wall clock (i64), kept within what a timestamp holds."""
    most = np.int64(2**63 - 1)
    offset = max(-(2**63), min(2**63 - 1, offset_ns))
    boot = np.minimum(time_ns, np.uint64(most)).astype(np.int64)
    if offset >= 0:
        wall: Column = np.minimum(boot, most - np.int64(offset)) + np.int64(offset)
    else:
        wall = np.maximum(boot + np.int64(offset), 0)
    return wall


def seconds(later_ns: Column, earlier_ns: Column) -> Column:
    """Seconds between two times (u64 or i64); never below 0."""
    return np.maximum(later_ns.astype(np.float64) - earlier_ns.astype(np.float64), 0.0) / 1e9
