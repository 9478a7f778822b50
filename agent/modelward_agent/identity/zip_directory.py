"""The directory of a zip archive: torch, Keras and others keep their models in archives, told apart by names."""

from __future__ import annotations

import struct

from modelward_agent.identity.header import Facts, HeaderError, Reader

_DIRECTORY = 1 << 20


def read_zip(reader: Reader, head: bytes) -> Facts:
    """Which of the formats that are zip archives it is, by the names in it. Raises HeaderError and struct.error."""
    names = set(_names(reader))
    last = {name.rpartition("/")[2] for name in names}
    if "data.pkl" in last:
        return Facts("torchscript" if "constants.pkl" in last else "torch")
    if {"config.json", "metadata.json", "model.weights.h5"} <= names:
        return Facts("keras")
    if "MAR-INF/MANIFEST.json" in names:
        return Facts("torchserve")
    if "schema.json" in names:
        return Facts("skops")
    if names and all(name.endswith(".npy") for name in names):
        return Facts("numpy")
    return Facts("zip")


def _names(reader: Reader) -> list[str]:
    """Names in the central directory, which stands at the end of the file."""
    tail_at = max(0, reader.size - 65_557)
    tail = reader.at(tail_at, reader.size - tail_at)
    end = tail.rfind(b"PK\x05\x06")
    if end < 0:
        raise HeaderError("the archive has no directory")
    length, offset = struct.unpack_from("<II", tail, end + 12)
    locator = tail.rfind(b"PK\x06\x07", 0, end)
    if offset == 0xFFFFFFFF and locator >= 0:
        record = reader.at(struct.unpack_from("<Q", tail, locator + 8)[0], 56)
        length, offset = struct.unpack_from("<QQ", record, 40)
    directory = reader.at(offset, min(length, _DIRECTORY, max(0, reader.size - offset)))
    names: list[str] = []
    at = 0
    while directory[at : at + 4] == b"PK\x01\x02" and len(names) < 8192 and at + 46 <= len(directory):
        name, extra, comment = struct.unpack_from("<HHH", directory, at + 28)
        names.append(directory[at + 46 : at + 46 + name].decode("utf-8", "replace"))
        at += 46 + name + extra + comment
    return names
