"""What an artifact says of itself: its format by its first bytes, and a name where the format has one.

Reads a bounded part of the file and interprets headers alone. Nothing is unpickled, unpacked or executed.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass

_HEAD = 4096
_GGUF_MOST = 4 << 20
_SAFETENSORS_MOST = 16 << 20
_ZIP_DIRECTORY = 1 << 20
_NAME = 256


@dataclass(frozen=True, slots=True)
class Facts:
    """``format`` is never empty; ``name`` and ``revision`` are what the file claims, unchecked."""

    format: str
    name: str = ""
    revision: str = ""
    problem: str = ""
    """Why the header could not be read to its end."""


class HeaderError(ValueError):
    """A header is cut off, too large or not what its format allows."""


class Reader:
    """Random access with a budget, so that no header can make us read the whole file."""

    def __init__(self, fd: int, size: int, budget: int = 32 << 20) -> None:
        self._fd = fd
        self.size = size
        self._budget = budget

    def at(self, offset: int, length: int) -> bytes:
        """Exactly ``length`` bytes.

        Raises:
            HeaderError: the file ends before, or the budget is spent.
        """
        if offset < 0 or length < 0 or offset + length > self.size:
            raise HeaderError("the header points outside the file")
        self._budget -= length
        if self._budget < 0:
            raise HeaderError("the header is too large")
        parts: list[bytes] = []
        while length:
            part = os.pread(self._fd, length, offset)
            if not part:
                raise HeaderError("the file is cut off")
            parts.append(part)
            offset += len(part)
            length -= len(part)
        return b"".join(parts)


def read_facts(fd: int, size: int, file_name: bytes) -> Facts:
    """Facts of an open artifact. A header that is damaged or hostile leaves the format alone, with the
    problem said."""
    reader = Reader(fd, size)
    extension = file_name.rpartition(b".")[2].lower().decode("ascii", "replace")
    try:
        head = reader.at(0, min(size, _HEAD))
    except (OSError, HeaderError) as e:
        return Facts(format_by_extension(extension), problem=str(e))
    name, read = _recognise(head, extension, file_name)
    if read is None:
        return Facts(name)
    try:
        return read(reader, head)
    except (OSError, ValueError, struct.error, RecursionError, MemoryError, OverflowError) as e:
        return Facts(name, problem=str(e) or type(e).__name__)


Read = Callable[[Reader, bytes], Facts]


def _recognise(head: bytes, extension: str, file_name: bytes) -> tuple[str, Read | None]:
    if head[:4] in (b"GGUF", b"FUGG"):
        return "gguf", _gguf
    if head[:4] in (b"tjgg", b"fmgg", b"lmgg", b"algg"):
        return "ggml", None
    if head[:4] == b"PK\x03\x04":
        return "zip", _zip
    if head[:8] == b"\x89HDF\r\n\x1a\n":
        return ("keras" if extension in ("h5", "keras", "hdf5") else "hdf5"), None
    if head[:6] == b"\x93NUMPY":
        return "numpy", None
    if head[4:8] == b"TFL3":
        return "tflite", None
    if head[8:9] == b"{" and (extension == "safetensors" or b'"dtype"' in head or b"__metadata__" in head):
        return "safetensors", _safetensors
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return _pickle(head, extension), None
    if extension == "joblib" and head[:2] in _COMPRESSED:
        return "joblib", None
    if file_name == b"saved_model.pb":
        return "saved_model", None
    if _is_onnx(head):
        return "onnx", None
    return format_by_extension(extension), None


_COMPRESSED = (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda", b"\x1f\x8b", b"BZ", b"\xfd7", b"\x04\x22")
_EXTENSIONS = {
    "safetensors": "safetensors",
    "gguf": "gguf",
    "onnx": "onnx",
    "ort": "onnx",
    "pt": "torch",
    "pth": "torch",
    "ckpt": "torch",
    "bin": "torch",
    "pkl": "pickle",
    "pickle": "pickle",
    "joblib": "joblib",
    "keras": "keras",
    "h5": "keras",
    "pb": "saved_model",
    "tflite": "tflite",
    "npz": "numpy",
    "npy": "numpy",
    "mar": "torchserve",
    "ubj": "xgboost",
    "cbm": "catboost",
    "engine": "tensorrt",
    "plan": "tensorrt",
    "msgpack": "flax",
    "llamafile": "llamafile",
    "skops": "skops",
    "nemo": "nemo",
}


def format_by_extension(extension: str) -> str:
    """The format that a file's ending tells, for a file that cannot be read or says nothing itself."""
    return _EXTENSIONS.get(extension, "unknown")


def _pickle(head: bytes, extension: str) -> str:
    if b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19" in head[:32]:
        return "torch"
    if extension == "joblib" or b"joblib" in head:
        return "joblib"
    return "pickle"


def _safetensors(reader: Reader, head: bytes) -> Facts:
    length = struct.unpack_from("<Q", head)[0]
    if length > _SAFETENSORS_MOST:
        return Facts("safetensors", problem="the header is too large")
    told = json.loads(reader.at(8, length))
    metadata = told.get("__metadata__") if isinstance(told, dict) else None
    if not isinstance(metadata, dict):
        return Facts("safetensors")
    for key in ("modelspec.title", "general.name", "model_name", "name"):
        if isinstance(value := metadata.get(key), str) and value:
            return Facts("safetensors", value[:_NAME])
    return Facts("safetensors")


_GGUF_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
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
            if of in _GGUF_SIZES:
                self._need(count * _GGUF_SIZES[of])
                self.position += count * _GGUF_SIZES[of]
            else:
                self._need(count * 4)
                for _ in range(count):
                    self.skip(of, depth + 1)
        elif kind in _GGUF_SIZES:
            self._need(_GGUF_SIZES[kind])
            self.position += _GGUF_SIZES[kind]
        else:
            raise HeaderError(f"unknown value type {kind}")

    def _need(self, length: int) -> None:
        if length > len(self._data) - self.position:
            raise HeaderError("the metadata is cut off or too large")


def _gguf(reader: Reader, head: bytes) -> Facts:
    order = "<" if struct.unpack_from("<I", head, 4)[0] < 65536 else ">"
    version = struct.unpack_from(order + "I", head, 4)[0]
    if not 1 <= version <= 3:
        raise HeaderError(f"unknown GGUF version {version}")
    walk = _Gguf(reader.at(0, min(reader.size, _GGUF_MOST)), order, version > 1)
    walk.length()
    found: dict[bytes, str] = {}
    problem = ""
    try:
        for _ in range(min(walk.length(), 65536)):
            key, kind = walk.text(), walk.number("I")
            if kind == _STRING and key in _WANTED:
                found[key] = walk.text()[: _NAME * 4].decode("utf-8", "surrogateescape")[:_NAME]
            else:
                walk.skip(kind)
    except (HeaderError, struct.error) as e:
        # A large vocabulary may reach beyond what is read: what came before it counts.
        problem = str(e) if b"general.architecture" not in found else ""
    name = found.get(b"general.name") or found.get(b"general.basename") or ""
    return Facts("gguf", name, found.get(b"general.version", ""), problem)


_WANTED = frozenset((b"general.name", b"general.basename", b"general.version", b"general.architecture"))


def _zip(reader: Reader, head: bytes) -> Facts:
    names = set(_zip_names(reader))
    last = {name.rpartition("/")[2] for name in names}
    if "data.pkl" in last:
        return Facts("torchscript" if "constants.pkl" in last else "torch")
    if {"config.json", "metadata.json", "model.weights.h5"} <= names:
        return Facts("keras")
    if "MAR-INF/MANIFEST.json" in names:
        return Facts("torchserve")
    if "schema.json" in names:
        return Facts("skops")
    if names and all(name.endswith(".npy") for name in names):
        return Facts("numpy")
    return Facts("zip")


def _zip_names(reader: Reader) -> list[str]:
    """Names in the central directory, which stands at the end of the file."""
    tail_at = max(0, reader.size - 65_557)
    tail = reader.at(tail_at, reader.size - tail_at)
    end = tail.rfind(b"PK\x05\x06")
    if end < 0:
        raise HeaderError("the archive has no directory")
    length, offset = struct.unpack_from("<II", tail, end + 12)
    locator = tail.rfind(b"PK\x06\x07", 0, end)
    if offset == 0xFFFFFFFF and locator >= 0:
        record = reader.at(struct.unpack_from("<Q", tail, locator + 8)[0], 56)
        length, offset = struct.unpack_from("<QQ", record, 40)
    directory = reader.at(offset, min(length, _ZIP_DIRECTORY, max(0, reader.size - offset)))
    names: list[str] = []
    at = 0
    while directory[at : at + 4] == b"PK\x01\x02" and len(names) < 8192 and at + 46 <= len(directory):
        name, extra, comment = struct.unpack_from("<HHH", directory, at + 28)
        names.append(directory[at + 46 : at + 46 + name].decode("utf-8", "replace"))
        at += 46 + name + extra + comment
    return names


_ONNX_NUMBERS, _ONNX_TEXTS = (1, 5), (2, 3, 4, 6, 7, 8, 14, 20, 25)
_ONNX_GRAPH, _ONNX_IMPORTS = 7, 8


def _is_onnx(head: bytes) -> bool:
    """Whether it begins like an ONNX ModelProto: version and producer, then the graph or the operator
    sets."""
    at, fields = 0, 0
    while at < len(head) and fields < 16:
        tag, at = _varint(head, at)
        value, at = _varint(head, at)
        field, wire = tag >> 3, tag & 7
        if value < 0 or not ((wire == 0 and field in _ONNX_NUMBERS) or (wire == 2 and field in _ONNX_TEXTS)):
            return False
        if field in (_ONNX_GRAPH, _ONNX_IMPORTS):
            return fields > 0
        if wire == 2:
            at += value
        fields += 1
    return False


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 64, 7):
        if at >= len(data):
            return -1, len(data)
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    return -1, len(data)
