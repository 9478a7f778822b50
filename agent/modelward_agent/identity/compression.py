"""Unpacking with a bound: a few bytes of an artifact may unpack to gigabytes."""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable
from typing import Protocol

from modelward_agent.identity.header import Budget, HeaderError

_CHUNK = 65536
_LZMA_MEMORY = 128 << 20


class _Unpacker(Protocol):
    """What the decompressors of bz2 and lzma have."""

    @property
    def eof(self) -> bool: ...

    def decompress(self, data: bytes, max_length: int = ...) -> bytes: ...


class _Zlib:
    """zlib's, in the same form."""

    def __init__(self, bits: int) -> None:
        self._inner = zlib.decompressobj(bits)
        self.eof = False

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        found = self._inner.decompress(self._inner.unconsumed_tail + data, max_length)
        self.eof = self._inner.eof
        return found


def _lzma() -> _Unpacker:
    return lzma.LZMADecompressor(memlimit=_LZMA_MEMORY)


_UNPACKERS: tuple[tuple[tuple[bytes, ...], Callable[[], _Unpacker]], ...] = (
    ((b"\x1f\x8b\x08",), lambda: _Zlib(31)),
    ((b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda"), lambda: _Zlib(15)),
    ((b"BZh",), bz2.BZ2Decompressor),
    ((b"\xfd7zXZ\0", b"\x5d\0\0"), _lzma),
)


def is_compressed(head: bytes) -> bool:
    """Whether it begins as joblib's compressed files do, of those that can be unpacked here."""
    return any(head.startswith(begins) for begins, _ in _UNPACKERS)


def unpack(head: bytes, data: bytes, most: int, budget: Budget) -> bytes:
    """At most ``most`` bytes of what a compressed file unpacks to, of which ``data`` is the begin.

    Raises:
        HeaderError: it is damaged.
    """
    make = next(make for begins, make in _UNPACKERS if head.startswith(begins))
    return _unpack(make(), data, most, budget)


def inflate(data: bytes, most: int, budget: Budget) -> bytes:
    """At most ``most`` bytes of what a member of a zip archive unpacks to.

    Raises:
        HeaderError: it is damaged.
    """
    return _unpack(_Zlib(-15), data, most, budget)


def _unpack(unpacker: _Unpacker, data: bytes, most: int, budget: Budget) -> bytes:
    parts: list[bytes] = []
    try:
        part = unpacker.decompress(data, _CHUNK)
        while part and most > 0:
            budget.spend(len(part))
            budget.step()
            parts.append(part[:most])
            most -= len(part)
            part = b"" if unpacker.eof or most <= 0 else unpacker.decompress(b"", _CHUNK)
    except (zlib.error, lzma.LZMAError, OSError, EOFError) as e:
        if not parts:
            raise HeaderError("the compressed data are damaged") from e
    return b"".join(parts)
