"""numpy dtypes of the records, derived from the BTF of the shipped kernel object (``agent/bpf/events.h``).

``SMALL`` and ``LARGE`` have one field per C member, under the member's name: the header's (``number``,
``time_ns``, ..., ``seg``), those of the union by kind, which overlap (``inode`` of an open, ``address`` of a
connect, ...), and ``text``. Members whose C names are too short to stand alone are renamed by ``_RENAMED``.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from modelward_agent.sensor.btf import Btf

OBJECT = Path(__file__).parents[1] / "bpf" / "modelward.bpf.o"
"""The compiled kernel side, inside the package."""

PLAIN_OBJECT = OBJECT.with_name("modelward_plain.bpf.o")
"""The same for kernels before 6.2: slower, and alike in all its records."""

_RENAMED = {
    "code": "exit_code",
    "signal": "exit_signal",
    "from": "from_phase",
    "to": "to_phase",
}


@cache
def btf(path: Path = OBJECT) -> Btf:
    """BTF of the kernel object. Raises SensorError when the object is missing."""
    return Btf(path)


@cache
def dtype(struct: str, path: Path = OBJECT) -> np.dtype[np.void]:
    """dtype of a struct of the kernel object, nested members flattened."""
    names: list[str] = []
    formats: list[str] = []
    offsets: list[int] = []
    types = btf(path)
    for member in types.members(struct):
        name = _RENAMED.get(member.name, member.name)
        # The lifecycle record's artifact is the second inode and device of the union.
        if name in names and name in ("inode", "device"):
            name = f"artifact_{name}"
        names.append(name)
        formats.append(member.format)
        offsets.append(member.offset)
    return np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": types.size(struct)})


if TYPE_CHECKING:
    SMALL: np.dtype[np.void]
    LARGE: np.dtype[np.void]


def __getattr__(name: str) -> np.dtype[np.void]:
    """``SMALL`` and ``LARGE`` are read when first asked for, so that the module imports without a built
    object."""
    if name == "SMALL":
        return dtype("mw_small")
    if name == "LARGE":
        return dtype("mw_large")
    raise AttributeError(name)


def joined(parts: Sequence[npt.NDArray[np.void]], kind: np.dtype[np.void]) -> npt.NDArray[np.void]:
    """One array of all parts. numpy's concatenate would pack a dtype whose members overlap, so it sees plain bytes."""
    made = np.empty(sum(map(len, parts)), kind)
    if parts:
        plain = f"V{kind.itemsize}"
        np.concatenate([part.view(plain) for part in parts], out=made.view(plain))
    return made


def texts(record: np.void) -> list[bytes]:
    """The texts of one record, by segment. For debugging and tests: batches are cut with array operations."""
    text = record["text"].tobytes()
    found, at = [], 0
    for length in record["seg"].tolist():
        found.append(text[at : at + length])
        at += length
    return found
