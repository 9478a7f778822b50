"""Reads the BTF of a compiled kernel object: sizes and offsets of its structs, values of its enums.

The agent's record layout and constants come from here, so they are those of the object that is loaded, and no
kernel is needed to know them.
Format: Documentation/bpf/btf.rst of the kernel.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

from modelward_agent.sensor.errors import SensorError

_INT, _PTR, _ARRAY, _STRUCT, _UNION, _ENUM, _FWD, _TYPEDEF, _VOLATILE, _CONST, _RESTRICT = range(1, 12)
_FUNC, _FUNC_PROTO, _VAR, _DATASEC, _FLOAT, _DECL_TAG, _TYPE_TAG, _ENUM64 = range(12, 20)
_SIGNED = 1


@dataclass(frozen=True, slots=True)
class Member:
    """A named member at its byte offset in the outermost struct."""

    name: str
    offset: int
    format: str
    """numpy format: ``<u8``, ``<i4``, ``u1``, ``(5,)<u2``, ``V160`` for text"""


@dataclass(frozen=True, slots=True)
class _Type:
    name: str
    kind: int
    vlen: int
    size: int
    at: int
    """offset of what follows the common header"""


class Btf:
    """Types of one object file."""

    def __init__(self, path: Path) -> None:
        try:
            data = path.read_bytes()
        except FileNotFoundError as e:
            raise SensorError(f"kernel object {path} is missing: run 'make bpf', or install the wheel, which carries it") from e
        try:
            self._parse(_section(data, ".BTF"))
        except (struct.error, IndexError, KeyError) as e:
            raise SensorError(f"kernel object {path} has no readable BTF: build it with clang -g ('make bpf')") from e

    def _parse(self, data: bytes) -> None:
        _magic, _version, _flags, length, type_off, type_len, str_off, str_len = struct.unpack_from("<HBBIIIII", data)
        self._data = data[length + type_off : length + type_off + type_len]
        strings = data[length + str_off : length + str_off + str_len]
        self._strings = strings
        self._types: list[_Type] = [_Type("", 0, 0, 0, 0)]
        at = 0
        while at < len(self._data):
            name, info, size = struct.unpack_from("<III", self._data, at)
            kind, vlen = info >> 24 & 0x1F, info & 0xFFFF
            self._types.append(_Type(self._string(name), kind, vlen, size, at + 12))
            at += 12 + _extra(kind, vlen)

    def _string(self, offset: int) -> str:
        return self._strings[offset : self._strings.index(b"\0", offset)].decode()

    def _resolve(self, number: int) -> _Type:
        found = self._types[number]
        while found.kind in (_TYPEDEF, _VOLATILE, _CONST, _RESTRICT, _TYPE_TAG):
            found = self._types[found.size]
        return found

    def enum(self, name: str) -> dict[str, int]:
        """Enumerators of ``enum name``, in order."""
        for t in self._types:
            if t.kind == _ENUM and t.name == name:
                pairs = (struct.unpack_from("<Ii", self._data, t.at + 8 * i) for i in range(t.vlen))
                return {self._string(n): v for n, v in pairs}
        raise KeyError(f"enum {name}")

    def size(self, name: str) -> int:
        """Bytes of ``struct name``."""
        return self._struct(name).size

    def members(self, name: str) -> list[Member]:
        """Members of ``struct name`` and of the structs and unions in it, each under its own C name."""
        return self._members(self._struct(name), 0)

    def _struct(self, name: str) -> _Type:
        for t in self._types:
            if t.kind == _STRUCT and t.name == name:
                return t
        raise KeyError(f"struct {name}")

    def _members(self, outer: _Type, base: int) -> list[Member]:
        found: list[Member] = []
        for i in range(outer.vlen):
            name, number, bits = struct.unpack_from("<III", self._data, outer.at + 12 * i)
            offset = base + (bits & 0xFFFFFF) // 8
            inner = self._resolve(number)
            if inner.kind in (_STRUCT, _UNION):
                found += self._members(inner, offset)
            else:
                found.append(Member(self._string(name), offset, self._format(inner)))
        return found

    def _format(self, t: _Type) -> str:
        if t.kind == _ARRAY:
            element, _index, count = struct.unpack_from("<III", self._data, t.at)
            inner = self._format(self._resolve(element))
            return f"V{count}" if inner in ("i1", "u1") and count > 40 else f"({count},){inner}"
        if t.kind == _INT:
            (info,) = struct.unpack_from("<I", self._data, t.at)
            letter = "i" if info >> 24 & _SIGNED else "u"
            return f"{letter}1" if t.size == 1 else f"<{letter}{t.size}"
        if t.kind in (_ENUM, _ENUM64):
            return f"<u{t.size}"
        if t.kind == _PTR:
            return "<u8"
        raise KeyError(f"type of kind {t.kind} in a record")


def _extra(kind: int, vlen: int) -> int:
    """Bytes that follow a type's common header."""
    per = {_STRUCT: 12, _UNION: 12, _ENUM: 8, _FUNC_PROTO: 8, _DATASEC: 12, _ENUM64: 12}
    return {_INT: 4, _ARRAY: 12, _VAR: 4, _DECL_TAG: 4}.get(kind, 0) + per.get(kind, 0) * vlen


def _section(elf: bytes, wanted: str) -> bytes:
    """Content of a section of a 64-bit little-endian ELF file."""
    if elf[:6] != b"\x7fELF\x02\x01":
        raise KeyError("not an ELF file")
    (table,) = struct.unpack_from("<Q", elf, 40)
    size, count, names = struct.unpack_from("<HHH", elf, 58)
    headers = [struct.unpack_from("<IIQQQQIIQQ", elf, table + size * i) for i in range(count)]
    strings = headers[names][4]
    for header in headers:
        start = strings + header[0]
        if elf[start : elf.index(b"\0", start)].decode() == wanted:
            return elf[header[4] : header[4] + header[5]]
    raise KeyError(wanted)
