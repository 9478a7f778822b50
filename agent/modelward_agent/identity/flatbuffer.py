"""Tables of a flatbuffer, by position: those that TFLite's models are made of."""

from __future__ import annotations

import struct

from modelward_agent.identity.header import HeaderError, Reader

_ITEMS = 65536
_STEPS = 4
"""Each look-up is some small reads of the file."""


class Table:
    """One table. A member that is not there is 0, no table, or empty."""

    def __init__(self, reader: Reader, at: int) -> None:
        """Raises HeaderError."""
        reader.budget.step(_STEPS)
        self._reader = reader
        self._at = at
        back = struct.unpack("<i", reader.at(at, 4))[0]
        self._members_at = at - back
        self._members = struct.unpack("<H", reader.at(self._members_at, 2))[0]

    @classmethod
    def root(cls, reader: Reader) -> Table:
        """The table that a flatbuffer begins with."""
        return cls(reader, _number(reader, 0))

    def number(self, member: int, kind: str = "<I") -> int:
        """A number, of a kind of module struct."""
        at = self._place(member)
        return int(struct.unpack(kind, self._reader.at(at, struct.calcsize(kind)))[0]) if at else 0

    def table(self, member: int) -> Table | None:
        """A table that is a member."""
        at = self._place(member)
        return Table(self._reader, at + _number(self._reader, at)) if at else None

    def tables(self, member: int) -> list[Table]:
        """Tables in a vector, at most 65,536 of them."""
        at, count = self._vector(member)
        return [Table(self._reader, place + _number(self._reader, place)) for place in range(at, at + 4 * min(count, _ITEMS), 4)]

    def numbers(self, member: int) -> list[int]:
        """32-bit numbers in a vector, at most 64 of them."""
        at, count = self._vector(member)
        return list(struct.unpack(f"<{min(count, 64)}i", self._reader.at(at, 4 * min(count, 64))))

    def data(self, member: int, most: int) -> bytes:
        """A text or bytes, the first ``most`` of them."""
        at, count = self._vector(member)
        return self._reader.at(at, min(count, most))

    def _vector(self, member: int) -> tuple[int, int]:
        at = self._place(member)
        if not at:
            return 0, 0
        at += _number(self._reader, at)
        return at + 4, _number(self._reader, at)

    def _place(self, member: int) -> int:
        """Where a member stands; 0: nowhere."""
        self._reader.budget.step(_STEPS)
        entry = 4 + 2 * member
        if entry + 2 > self._members:
            return 0
        offset = int(struct.unpack("<H", self._reader.at(self._members_at + entry, 2))[0])
        return self._at + offset if offset else 0


def _number(reader: Reader, at: int) -> int:
    if at > reader.size - 4:
        raise HeaderError("the header points outside the file")
    return int(struct.unpack("<I", reader.at(at, 4))[0])
