"""A zip archive's directory and its small members, of which formats are told apart and named."""

from __future__ import annotations

import struct
from typing import NamedTuple

from modelward_agent.identity.compression import inflate
from modelward_agent.identity.header import Cursor, HeaderError, Reader, Unpacked

_DIRECTORY = 8 << 20
_NAMES = 65536
_STORED, _DEFLATED, _ENCRYPTED = 0, 8, 1
_ELSEWHERE = 0xFFFFFFFF


class Entry(NamedTuple):
    """One member, as the directory tells it."""

    method: int
    flags: int
    packed: int
    """Bytes that it takes in the archive."""
    size: int
    offset: int
    """Where its own header stands."""


class Archive:
    """The members of an archive by their names; of two with one name the last counts."""

    def __init__(self, reader: Reader) -> None:
        """Raises HeaderError, struct.error: it has no directory, or a damaged one."""
        self._reader = reader
        self.entries: dict[str, Entry] = {}
        directory = self._directory()
        at = 0
        while directory[at : at + 4] == b"PK\x01\x02" and len(self.entries) < _NAMES and at + 46 <= len(directory):
            reader.budget.step()
            flags, method = struct.unpack_from("<HH", directory, at + 8)
            packed, size, name, extra, comment = struct.unpack_from("<IIHHH", directory, at + 20)
            offset = struct.unpack_from("<I", directory, at + 42)[0]
            told = directory[at + 46 : at + 46 + name].decode("utf-8", "replace")
            more = directory[at + 46 + name : at + 46 + name + extra]
            size, packed, offset = _wide(more, size, packed, offset)
            self.entries[told] = Entry(method, flags, packed, size, offset)
            at += 46 + name + extra + comment

    def read(self, name: str, most: int) -> bytes:
        """The first ``most`` bytes of a member, unpacked.

        Raises:
            HeaderError: there is none, it is encrypted, damaged or packed in another way than deflate.
        """
        entry = self._entry(name)
        start = self._start(entry)
        if entry.method == _STORED:
            return self._reader.at(start, min(entry.size, most))
        if entry.method != _DEFLATED:
            raise HeaderError("a member of the archive is compressed in an unknown way")
        return inflate(self._reader.at(start, min(entry.packed, most)), most, self._reader.budget)

    def cursor(self, name: str, most: int) -> Cursor:
        """The same to go forward through; what is stored as it is, in its whole length, and read only so far as it is needed."""
        entry = self._entry(name)
        if entry.method != _STORED:
            return Cursor(Unpacked(self.read(name, most), self._reader.budget))
        start = self._start(entry)
        return Cursor(self._reader, start, start + entry.size)

    def _entry(self, name: str) -> Entry:
        entry = self.entries.get(name)
        if entry is None:
            raise HeaderError("a member of the archive is missing")
        if entry.flags & _ENCRYPTED:
            raise HeaderError("the archive is encrypted")
        return entry

    def _start(self, entry: Entry) -> int:
        own = self._reader.at(entry.offset, 30)
        if own[:4] != b"PK\x03\x04":
            raise HeaderError("the archive's directory is damaged")
        name, extra = struct.unpack_from("<HH", own, 26)
        return int(entry.offset + 30 + name + extra)

    def _directory(self) -> bytes:
        """It stands at the end of the file, and is found by what stands behind it."""
        reader = self._reader
        tail_at = max(0, reader.size - 65_557)
        tail = reader.at(tail_at, reader.size - tail_at)
        end = tail.rfind(b"PK\x05\x06")
        if end < 0:
            raise HeaderError("the archive has no directory")
        length, offset = struct.unpack_from("<II", tail, end + 12)
        locator = tail.rfind(b"PK\x06\x07", 0, end)
        if offset == _ELSEWHERE and locator >= 0:
            record = reader.at(struct.unpack_from("<Q", tail, locator + 8)[0], 56)
            length, offset = struct.unpack_from("<QQ", record, 40)
        return reader.at(offset, min(length, _DIRECTORY, max(0, reader.size - offset)))


def _wide(extra: bytes, size: int, packed: int, offset: int) -> tuple[int, int, int]:
    """Sizes and place of a member; where they need 64 bits they stand in its extra field."""
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, at)
        if kind == 1:
            wide = iter(struct.unpack_from(f"<{min(length, len(extra) - at - 4) // 8}Q", extra, at + 4))
            size, packed, offset = (next(wide, _ELSEWHERE) if value == _ELSEWHERE else value for value in (size, packed, offset))
            break
        at += 4 + length
    return size, packed, offset
