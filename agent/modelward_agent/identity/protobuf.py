"""A walk over a protobuf message by its wire format: goes into the messages that are wanted, leaves out the rest unread.

The generated parsers of ONNX and TensorFlow would need the whole file in memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from modelward_agent.identity.header import Cursor, HeaderError, Reader

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_DEPTH = 64
_TEXT = 4096


class Kind:
    """A kind of message: which members are messages to go into, and which are texts to be told."""

    def __init__(self, name: str, texts: tuple[int, ...] = ()) -> None:
        self.name = name
        self.texts = frozenset(texts)
        self.inner: Mapping[int, Kind] = {}


class Member(NamedTuple):
    """One member. Of a message that was gone into ``value`` is None at its begin; at its end, ``number`` is 0."""

    kind: Kind
    number: int
    value: int | bytes | None
    depth: int
    """How many messages it lies in; a member of the outermost has 1."""


def walk(reader: Reader, kind: Kind, start: int = 0) -> Iterator[Member]:
    """Members of a message of this kind that reaches to the end of the artifact, those of inner messages in their place.

    Of texts at most 4,096 bytes are told; numbers that are not varints, and what is not in a kind's table, are left out.

    Raises:
        HeaderError: it is not a message, or is nested too deeply or too large.
    """
    cursor = Cursor(reader, start)
    ends = [reader.size]
    kinds = [kind]
    while True:
        while ends and cursor.position == ends[-1]:
            yield Member(kinds[-1], 0, None, len(ends))
            ends.pop()
            kinds.pop()
        if not ends:
            return
        cursor.budget.step()
        now, room = kinds[-1], ends[-1]
        tag = varint(cursor)
        number, wire = tag >> 3, tag & 7
        if wire == VARINT:
            yield Member(now, number, varint(cursor), len(ends))
        elif wire in (FIXED64, FIXED32):
            cursor.skip(8 if wire == FIXED64 else 4)
        elif wire != BYTES:
            raise HeaderError("the header is damaged")
        else:
            length = varint(cursor)
            if length > room - cursor.position:
                raise HeaderError("the header is cut off")
            if number in now.inner:
                if len(ends) >= _DEPTH:
                    raise HeaderError("the header is nested too deeply")
                yield Member(now, number, None, len(ends))
                ends.append(cursor.position + length)
                kinds.append(now.inner[number])
                continue
            if number in now.texts:
                kept = cursor.take(min(length, _TEXT))
                cursor.skip(length - len(kept))
                yield Member(now, number, kept, len(ends))
            else:
                cursor.skip(length)
        if cursor.position > room:
            raise HeaderError("the header is damaged")


def varint(cursor: Cursor) -> int:
    """A number in base 128, at most 64 bits. Raises HeaderError."""
    value = 0
    for shift in range(0, 70, 7):
        byte = cursor.byte()
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF
    raise HeaderError("the header is damaged")


def packed(data: bytes) -> list[int]:
    """Varints one after another; a last one that is cut off is left out."""
    found: list[int] = []
    value = shift = 0
    for byte in data:
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            found.append(value & 0xFFFF_FFFF_FFFF_FFFF)
            value = shift = 0
    return found
