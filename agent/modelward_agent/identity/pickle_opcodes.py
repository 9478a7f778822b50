"""The instructions of a pickle, told apart but not carried out."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from modelward_agent.identity.header import Cursor, HeaderError

_STEPS = 2
"""An instruction may leave a value behind, which costs memory too."""

TEXT = 1024
"""Longest text that is told; longer ones are left out."""

_NOTHING = b"(.012NQRabde}lo]su)t\x81\x85\x86\x87\x88\x89\x8f\x90\x91\x92\x93\x94\x97\x98"
_LINES = b"FILPSVgp"
_TWO_LINES = b"ci"
_NUMBERS = {b"J": "<i", b"K": "<B", b"M": "<H", b"h": "<B", b"j": "<I", b"q": "<B", b"r": "<I", b"\x80": "<B", b"\x82": "<B",
            b"\x83": "<H", b"\x84": "<i", b"\x95": "<Q"}  # fmt: skip
_TEXTS = {b"X": "<I", b"\x8c": "<B", b"\x8d": "<Q", b"T": "<i", b"U": "<B"}
_BYTES = {b"B": "<I", b"C": "<B", b"\x8e": "<Q", b"\x96": "<Q", b"\x8b": "<i"}
_LONG1, _BINFLOAT = 0x8A, ord("G")

Argument = int | bytes | tuple[bytes, bytes] | None


def _table() -> dict[int, tuple[int, struct.Struct | None]]:
    found: dict[int, tuple[int, struct.Struct | None]] = dict.fromkeys(_NOTHING, (0, None))
    found |= dict.fromkeys(_LINES, (1, None))
    found |= dict.fromkeys(_TWO_LINES, (2, None))
    for form, codes in ((3, _NUMBERS), (4, _TEXTS), (5, _BYTES)):
        found |= {code[0]: (form, struct.Struct(kind)) for code, kind in codes.items()}
    found[_LONG1] = (6, None)
    found[_BINFLOAT] = (7, None)
    return found


_OPCODES = _table()


def instructions(cursor: Cursor) -> Iterator[tuple[int, Argument]]:
    """Instructions with their arguments, without an end: who reads them stops at STOP, ``.``.

    Of a line the first 1,024 bytes are told; of longer texts, and of binary data, nothing.

    Raises:
        HeaderError: the next byte is no instruction, or its argument is cut off.
    """
    while True:
        cursor.budget.step(_STEPS)
        code = cursor.byte()
        try:
            form, kind = _OPCODES[code]
        except KeyError:
            raise HeaderError("the pickle is damaged") from None
        if form == 0:
            yield code, None
        elif form == 1:
            yield code, cursor.line(TEXT)
        elif form == 2:
            yield code, (cursor.line(TEXT), cursor.line(TEXT))
        elif form == 6:
            yield code, int.from_bytes(cursor.take(cursor.byte()), "little", signed=True)
        elif form == 7:
            cursor.skip(8)
            yield code, None
        else:
            assert kind is not None
            number: int = kind.unpack(cursor.take(kind.size))[0]
            if form == 3:
                yield code, number
            elif form == 5 or number > TEXT:
                cursor.skip(number)
                yield code, None
            elif number < 0:
                raise HeaderError("the pickle is damaged")
            else:
                yield code, cursor.take(number)
