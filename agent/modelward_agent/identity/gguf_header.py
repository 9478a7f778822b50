"""The metadata at the start of a GGUF file."""

from __future__ import annotations

import struct

from modelward_agent.identity.header import NAME, Facts, HeaderError, Reader

_MOST = 4 << 20
_WANTED = frozenset((b"general.name", b"general.basename", b"general.version", b"general.architecture"))
_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_STRING, _ARRAY = 8, 9


class _Gguf:
    """Walks the key-value part of a GGUF file, which stands before everything else."""

    def __init__(self, data: bytes, order: str, wide: bool) -> None:
        self._data = data
        self._order = order
        self._length = "Q" if wide else "I"
        self.position = 8

    def number(self, kind: str) -> int:
        value = struct.unpack_from(self._order + kind, self._data, self.position)[0]
        self.position += struct.calcsize(self._order + kind)
        return int(value)

    def length(self) -> int:
        return self.number(self._length)

    def text(self) -> bytes:
        length = self.length()
        self._need(length)
        start = self.position
        self.position += length
        return self._data[start : start + length]

    def skip(self, kind: int, depth: int = 0) -> None:
        if kind == _STRING:
            self.text()
        elif kind == _ARRAY and depth < 4:
            of, count = self.number("I"), self.length()
            if of in _SIZES:
                self._need(count * _SIZES[of])
                self.position += count * _SIZES[of]
            else:
                self._need(count * 4)
                for _ in range(count):
                    self.skip(of, depth + 1)
        elif kind in _SIZES:
            self._need(_SIZES[kind])
            self.position += _SIZES[kind]
        else:
            raise HeaderError(f"unknown value type {kind}")

    def _need(self, length: int) -> None:
        if length > len(self._data) - self.position:
            raise HeaderError("the metadata is cut off or too large")


def read_gguf(reader: Reader, head: bytes) -> Facts:
    """Name and version of a GGUF file, of either byte order. Raises HeaderError and struct.error."""
    order = "<" if struct.unpack_from("<I", head, 4)[0] < 65536 else ">"
    version = struct.unpack_from(order + "I", head, 4)[0]
    if not 1 <= version <= 3:
        raise HeaderError(f"unknown GGUF version {version}")
    walk = _Gguf(reader.at(0, min(reader.size, _MOST)), order, version > 1)
    walk.length()
    found: dict[bytes, str] = {}
    problem = ""
    try:
        for _ in range(min(walk.length(), 65536)):
            key, kind = walk.text(), walk.number("I")
            if kind == _STRING and key in _WANTED:
                found[key] = walk.text()[: NAME * 4].decode("utf-8", "surrogateescape")[:NAME]
            else:
                walk.skip(kind)
    except (HeaderError, struct.error) as e:
        # A large vocabulary may reach beyond what is read: what came before it counts.
        problem = str(e) if b"general.architecture" not in found else ""
    name = found.get(b"general.name") or found.get(b"general.basename") or ""
    return Facts("gguf", name, found.get(b"general.version", ""), problem=problem)
