"""The metadata at the start of a GGUF file."""

from __future__ import annotations

import struct

from modelward_agent.identity.header import NAME, Cursor, Draft, HeaderError, Reader

_TEXTS = frozenset((
    b"general.name", b"general.basename", b"general.version", b"general.architecture", b"general.type", b"adapter.type",
    b"general.base_model.0.name", b"general.base_model.0.repo_url",
))  # fmt: skip
_NUMBERS = frozenset((b"general.file_type", b"split.count"))
_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_WHOLE = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 7: "B", 10: "Q", 11: "q"}
_STRING, _ARRAY = 8, 9
_KEY = 65535
_GUESSED = 1024

FILE_TYPES = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S", 12: "Q3_K_M",
    13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K", 19: "IQ2_XXS", 20: "IQ2_XS",
    21: "Q2_K_S", 22: "IQ3_XS", 23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL", 26: "IQ3_S", 27: "IQ3_M", 28: "IQ2_S", 29: "IQ2_M",
    30: "IQ4_XS", 31: "IQ1_M", 32: "BF16", 36: "TQ1_0", 37: "TQ2_0", 38: "MXFP4_MOE", 39: "NVFP4", 40: "Q1_0",
}  # fmt: skip
"""What general.file_type says, as llama.cpp names it. 1,024 is added where it was guessed from the tensors."""


class _Gguf:
    """Walks the key-value part of a GGUF file, which stands before everything else."""

    def __init__(self, cursor: Cursor, order: str, wide: bool) -> None:
        self._cursor = cursor
        self._order = order
        self._length = order + ("Q" if wide else "I")

    def number(self, kind: str = "I") -> int:
        return self._cursor.number(self._order + kind)

    def length(self) -> int:
        return self._cursor.number(self._length)

    def text(self, kept: int) -> bytes:
        length = self.length()
        found = self._cursor.take(min(length, kept))
        self._cursor.skip(length - len(found))
        return found

    def skip(self, kind: int, depth: int = 0) -> None:
        self._cursor.budget.step()
        if kind == _STRING:
            self._cursor.skip(self.length())
        elif kind == _ARRAY and depth < 4:
            of, count = self.number(), self.length()
            if of in _SIZES:
                self._cursor.skip(count * _SIZES[of])
                return
            if count > self._cursor.left:
                raise HeaderError("the metadata is cut off or too large")
            for _ in range(count):
                self.skip(of, depth + 1)
        elif kind in _SIZES:
            self._cursor.skip(_SIZES[kind])
        else:
            raise HeaderError(f"unknown value type {kind}")


def read_gguf(reader: Reader, head: bytes, draft: Draft) -> None:
    """Name, version, architecture and quantisation of a GGUF file of either byte order. Raises HeaderError and struct.error."""
    order = "<" if struct.unpack_from("<I", head, 4)[0] < 65536 else ">"
    version = struct.unpack_from(order + "I", head, 4)[0]
    if not 1 <= version <= 3:
        raise HeaderError(f"unknown GGUF version {version}")
    walk = _Gguf(Cursor(reader, 8), order, version > 1)
    walk.length()
    texts: dict[bytes, str] = {}
    numbers: dict[bytes, int] = {}
    try:
        for _ in range(walk.length()):
            key, kind = walk.text(_KEY), walk.number()
            if kind == _STRING and key in _TEXTS:
                texts[key] = walk.text(NAME * 4).decode("utf-8", "surrogateescape")[:NAME]
            elif kind in _WHOLE and key in _NUMBERS:
                numbers[key] = walk.number(_WHOLE[kind])
            else:
                walk.skip(kind)
    finally:
        _tell(texts, numbers, draft)


def _tell(texts: dict[bytes, str], numbers: dict[bytes, int], draft: Draft) -> None:
    draft.name = texts.get(b"general.name") or texts.get(b"general.basename") or ""
    draft.revision = texts.get(b"general.version", "")
    draft.architecture = texts.get(b"general.architecture", "")
    if texts.get(b"general.type") == "adapter":
        draft.base = texts.get(b"general.base_model.0.name") or texts.get(b"general.base_model.0.repo_url") or draft.architecture
        draft.architecture = texts.get(b"adapter.type", "adapter").upper()
    draft.quantization = FILE_TYPES.get(numbers.get(b"general.file_type", -1) & ~_GUESSED, "")
    draft.shards = max(0, min(numbers.get(b"split.count", 0), 0xFFFF))
