"""The tables of an ELF file that name things: hash tables of the dynamic linker, and sections. All reads are bounded."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass

SYMBOL = struct.Struct("<IBBHQQ")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL_TABLE = 2
_SECTIONS = 65536
_CHAIN = 4096
"""Symbols of one bucket: a real one has less than ten."""
_WHOLE_TABLE = 160 << 20
"""Bytes of a symbol table, and of its names, that are read as a whole: a debug build of torch has about 100 MB."""
_NAMES = 1 << 20


class ElfError(Exception):
    """What is asked for cannot be found in this file. The message continues a sentence on it."""


class Source:
    """Bytes by offset: of a descriptor, or of memory."""

    def __init__(self, what: int | bytes) -> None:
        self._what = what
        self.size = len(what) if isinstance(what, bytes) else os.fstat(what).st_size

    def read(self, at: int, length: int) -> bytes:
        """All of it.

        Raises:
            ElfError: it is not all in the file.
        """
        if at < 0 or length < 0 or at + length > self.size:
            raise ElfError("points outside itself")
        if isinstance(self._what, bytes):
            return self._what[at:at + length]
        try:
            data = os.pread(self._what, length, at)
        except OSError as e:
            raise ElfError(f"cannot be read: {e.strerror}") from e
        if len(data) != length:
            raise ElfError("became shorter")
        return data


class GnuHash:
    """The table that linkers write since 2006: a Bloom filter, buckets, and chains of hashes that end at an odd one."""

    def __init__(self, source: Source, at: int) -> None:
        """Raises ElfError."""
        self._source = source
        self._buckets, self._first, self._words, self._shift = struct.unpack("<4I", source.read(at, 16))
        if not self._buckets or not self._words:
            raise ElfError("has an empty hash table")
        self._bloom_at = at + 16
        self._buckets_at = self._bloom_at + self._words * 8
        self._chains_at = self._buckets_at + self._buckets * 4

    def symbols(self, name: bytes) -> Iterator[int]:
        """Numbers of the symbols that may have that name. Raises ElfError."""
        value = 5381
        for byte in name:
            value = (value * 33 + byte) & 0xFFFFFFFF
        word, = struct.unpack("<Q", self._source.read(self._bloom_at + value // 64 % self._words * 8, 8))
        if not word >> value % 64 & 1 or not word >> (value >> self._shift % 32) % 64 & 1:
            return
        number, = struct.unpack("<I", self._source.read(self._buckets_at + value % self._buckets * 4, 4))
        if number < self._first:
            return
        for index in range(number, number + _CHAIN):
            chained, = struct.unpack("<I", self._source.read(self._chains_at + (index - self._first) * 4, 4))
            if chained | 1 == value | 1:
                yield index
            if chained & 1:
                return


class OldHash:
    """The table of System V."""

    def __init__(self, source: Source, at: int) -> None:
        """Raises ElfError."""
        self._source = source
        self._buckets, self._chains = struct.unpack("<2I", source.read(at, 8))
        if not self._buckets:
            raise ElfError("has an empty hash table")
        self._buckets_at = at + 8
        self._chains_at = self._buckets_at + self._buckets * 4

    def symbols(self, name: bytes) -> Iterator[int]:
        """Numbers of the symbols that may have that name. Raises ElfError."""
        value = 0
        for byte in name:
            value = (value << 4) + byte
            high = value & 0xF0000000
            value = (value ^ high >> 24) & ~high & 0xFFFFFFFF
        number, = struct.unpack("<I", self._source.read(self._buckets_at + value % self._buckets * 4, 4))
        for _ in range(_CHAIN):
            if number == 0 or number >= self._chains:
                return
            yield number
            number, = struct.unpack("<I", self._source.read(self._chains_at + number * 4, 4))


@dataclass(frozen=True, slots=True)
class _Section:
    name: int
    kind: int
    at: int
    length: int
    link: int


class Sections:
    """What the linker wrote for debuggers; stripping takes it away."""

    def __init__(self, source: Source) -> None:
        """Raises ElfError."""
        self._source = source
        head = source.read(0, 64)
        at, = struct.unpack_from("<Q", head, 40)
        size, count, self._names = struct.unpack_from("<3H", head, 58)
        self._sections: list[_Section] = []
        if at == 0 or size != _SECTION.size:
            return
        if count == 0:
            # More than fit into the header: then the first section says.
            count = _SECTION.unpack(source.read(at, size))[5]
        if count > _SECTIONS:
            raise ElfError("has too many sections")
        for name, kind, _, _, offset, length, link, *_ in _SECTION.iter_unpack(source.read(at, count * size)):
            self._sections.append(_Section(name, kind, offset, length, link))

    def symbols(self) -> tuple[bytes, bytes]:
        """The symbol table and its names; both empty when there is none.

        Raises:
            ElfError: it is too large.
        """
        for section in self._sections:
            if section.kind == _SYMBOL_TABLE and section.link < len(self._sections):
                names = self._sections[section.link]
                if section.length > _WHOLE_TABLE or names.length > _WHOLE_TABLE:
                    raise ElfError("has too large a symbol table")
                return self._source.read(section.at, section.length), self._source.read(names.at, names.length)
        return b"", b""

    def contents(self, name: bytes, most: int) -> bytes:
        """Of the section of that name; empty when there is none, or it is longer than ``most``. Raises ElfError."""
        if self._names >= len(self._sections):
            return b""
        about = self._sections[self._names]
        names = self._source.read(about.at, min(about.length, _NAMES))
        for section in self._sections:
            if names[section.name:section.name + len(name) + 1] == name + b"\0" and section.length <= most:
                return self._source.read(section.at, section.length)
        return b""
