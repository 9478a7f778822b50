"""Pickles as they lie in files: plain, of joblib with arrays between, compressed, several in a row as torch once wrote them."""

from __future__ import annotations

from modelward_agent.identity.compression import unpack
from modelward_agent.identity.header import Cursor, Draft, Reader, Unpacked
from modelward_agent.identity.pickle_scan import PickleScan
from modelward_agent.identity.pickle_values import class_of

_PACKED = 8 << 20
_UNPACKED = 16 << 20
_TORCH = b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"
"""The number that an old torch file begins with, as pickle writes it."""
_TORCH_BEFORE = 3
"""Such a file holds that number, a version and what the machine was like before the model."""


def is_pickle(head: bytes) -> bool:
    """Whether it begins as pickles of protocol 2 and later do."""
    return head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")


def read_pickle(reader: Reader, head: bytes, draft: Draft) -> None:
    """The class of what a pickle holds. Raises HeaderError and ValueError."""
    before = _TORCH_BEFORE if head[2:14] == _TORCH else 0
    if before:
        draft.format = "torch"
    scan = PickleScan(Cursor(reader))
    try:
        for _ in range(before):
            scan.run()
        draft.architecture = class_of(scan.run())
    except (ValueError, OSError):
        draft.architecture = scan.so_far()
        raise
    finally:
        if draft.format == "pickle" and any(name.startswith("joblib.numpy_pickle.") for name in scan.names):
            draft.format = "joblib"


def read_compressed(reader: Reader, head: bytes, draft: Draft) -> None:
    """The same of a compressed pickle; what else is compressed is left to its ending. Raises HeaderError and ValueError."""
    data = unpack(head, reader.at(0, min(reader.size, _PACKED)), _UNPACKED, reader.budget)
    if is_pickle(data):
        draft.format = "pickle" if draft.format == "unknown" else draft.format
        read_pickle(Unpacked(data, reader.budget), data, draft)
