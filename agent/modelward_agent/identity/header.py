"""Bounded reading of a file's header, and what headers tell."""

from __future__ import annotations

import json
import os
import struct
from dataclasses import dataclass, field

NAME = 256
"""Longest name that is taken from a header."""

_REFERENCES = 512
_REFERENCES_BYTES = 32768


@dataclass(frozen=True, slots=True)
class Facts:
    """``format`` is never empty; everything else is what the file claims, unchecked, and empty where it says nothing."""

    format: str
    name: str = ""
    """Empty too where the file has the name that every model of its kind has: then its path names it better."""
    revision: str = ""
    architecture: str = ""
    quantization: str = ""
    base: str = ""
    problem: str = ""
    """Why the header could not be read to its end, or what in it was not believed."""
    references: tuple[str, ...] = ()
    """Files that the artifact names as parts of the model: relative to its folder and inside it, without ``..``."""
    shards: int = 0
    """Into how many files the model is split, as the artifact says; 0: not said."""


class HeaderError(ValueError):
    """A header is cut off, too large or not what its format allows."""


@dataclass(slots=True)
class Draft:
    """Facts while they are gathered: what was found before a header turned out to be damaged stays."""

    format: str
    name: str = ""
    revision: str = ""
    architecture: str = ""
    quantization: str = ""
    base: str = ""
    problem: str = ""
    references: dict[str, None] = field(default_factory=dict)
    shards: int = 0
    _room: int = _REFERENCES_BYTES

    def refer(self, name: str) -> None:
        """Add a file that the artifact names, unless it lies outside the artifact's folder or there are too many."""
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if not parts:
            return
        if name.startswith("/") or ".." in parts or "\0" in name or not _is_file_name(name):
            self.problem = "names files outside its folder"
            return
        inside = "/".join(parts)
        if inside in self.references:
            return
        room = self._room - len(json.dumps(inside))
        if len(self.references) >= _REFERENCES or room < 0:
            self.problem = "names too many files"
            return
        self._room = room
        self.references[inside] = None

    def facts(self) -> Facts:
        """What was found, bounded."""
        return Facts(
            self.format,
            self.name[:NAME],
            self.revision[:NAME],
            self.architecture[:NAME],
            self.quantization[:NAME],
            self.base[:NAME],
            self.problem[:NAME],
            tuple(self.references),
            self.shards,
        )


def _is_file_name(name: str) -> bool:
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        return False
    return True


def text(value: object) -> str:
    """A name out of a header, when it is one; else nothing."""
    return value[:NAME] if isinstance(value, str) else ""


class Budget:
    """What reading one artifact may cost, whatever lies inside what: bytes read or inflated, and steps taken."""

    def __init__(self, read: int = 32 << 20, steps: int = 2_000_000) -> None:
        self.read = read
        self.steps = steps

    def spend(self, read: int) -> None:
        """Raises HeaderError when more is read than any honest header needs."""
        self.read -= read
        if self.read < 0:
            raise HeaderError("the header is too large")

    def step(self, count: int = 1) -> None:
        """Raises HeaderError when a header has more parts than any honest one."""
        self.steps -= count
        if self.steps < 0:
            raise HeaderError("the header has too many parts")


class Reader:
    """Random access with a budget, so that no header can make us read the whole file."""

    def __init__(self, fd: int, size: int, budget: Budget | None = None) -> None:
        self._fd = fd
        self.size = size
        self.budget = budget or Budget()

    def at(self, offset: int, length: int) -> bytes:
        """Exactly ``length`` bytes.

        Raises:
            HeaderError: the file ends before, or the budget is spent.
        """
        if offset < 0 or length < 0 or offset + length > self.size:
            raise HeaderError("the header points outside the file")
        self.budget.spend(length)
        return self._read(offset, length)

    def _read(self, offset: int, length: int) -> bytes:
        parts: list[bytes] = []
        while length:
            part = os.pread(self._fd, length, offset)
            if not part:
                raise HeaderError("the file is cut off")
            parts.append(part)
            offset += len(part)
            length -= len(part)
        return b"".join(parts)


class Unpacked(Reader):
    """The same for bytes that were unpacked from an artifact, on the artifact's budget."""

    def __init__(self, data: bytes, budget: Budget) -> None:
        super().__init__(-1, len(data), budget)
        self._data = data

    def _read(self, offset: int, length: int) -> bytes:
        return self._data[offset : offset + length]


_SMALL, _LARGE = 4096, 65536


class Cursor:
    """Goes forward through a part of an artifact; what is skipped is not read."""

    def __init__(self, reader: Reader, start: int = 0, end: int | None = None) -> None:
        self.budget = reader.budget
        self._reader = reader
        self._end = reader.size if end is None else min(end, reader.size)
        self._window = b""
        self._at = 0
        self._base = start
        self._next = _SMALL

    @property
    def position(self) -> int:
        """Offset in the artifact of the next byte."""
        return self._base + self._at

    @property
    def left(self) -> int:
        """Bytes up to the end of the part."""
        return self._end - self.position

    def take(self, length: int) -> bytes:
        """The next ``length`` bytes. Raises HeaderError when there are fewer."""
        if self._at + length > len(self._window):
            self._fill(length)
        found = self._window[self._at : self._at + length]
        self._at += length
        return found

    def byte(self) -> int:
        """The next byte."""
        if self._at >= len(self._window):
            self._fill(1)
        self._at += 1
        return self._window[self._at - 1]

    def peek(self) -> bytes:
        """The next byte, without going over it."""
        found = self.take(1)
        self._at -= 1
        return found

    def number(self, kind: str) -> int:
        """The next number, of a kind of module struct with its byte order."""
        return int(struct.unpack(kind, self.take(struct.calcsize(kind)))[0])

    def skip(self, length: int) -> None:
        """Leave out ``length`` bytes."""
        if length < 0 or length > self.left:
            raise HeaderError("the header points outside the file")
        if self._at + length <= len(self._window):
            self._at += length
        else:
            self._base, self._window, self._at, self._next = self.position + length, b"", 0, _SMALL

    def line(self, kept: int) -> bytes:
        """The text up to the next line feed, which is left out; at most ``kept`` bytes of it are given back."""
        found = b""
        while True:
            if self._at >= len(self._window):
                self._fill(1)
            self.budget.step()
            end = self._window.find(b"\n", self._at)
            stop = len(self._window) if end < 0 else end
            if len(found) < kept:
                found += self._window[self._at : min(stop, self._at + kept - len(found))]
            self._at = stop
            if end >= 0:
                self._at += 1
                return found

    def _fill(self, length: int) -> None:
        position = self.position
        if length < 0 or length > self._end - position:
            raise HeaderError("the header points outside the file" if length < 0 else "the header is cut off")
        wanted = min(max(length, self._next), self._end - position)
        self._window = self._reader.at(position, wanted)
        self._base, self._at = position, 0
        self._next = min(self._next * 2, _LARGE)


def parse_json(data: bytes) -> object:
    """A JSON value. Raises ValueError and RecursionError."""
    value: object = json.loads(data)
    return value


def member(value: object, *names: str) -> object:
    """What lies in a JSON value below these names; None when there is nothing."""
    for name in names:
        if not isinstance(value, dict):
            return None
        value = value.get(name)
    return value
