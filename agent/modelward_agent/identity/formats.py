"""What an artifact says of itself: its format by its first bytes, and a name where the format has one.

Reads a bounded part of the file and interprets headers alone. Nothing is unpickled, unpacked or executed.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable

from modelward_agent.identity.gguf_header import read_gguf
from modelward_agent.identity.header import NAME, Facts, HeaderError, Reader
from modelward_agent.identity.zip_directory import read_zip

_HEAD = 4096
_SAFETENSORS_MOST = 16 << 20


def read_facts(fd: int, size: int, file_name: bytes) -> Facts:
    """Facts of an open artifact. Of a damaged or hostile header there is the format, and what is wrong with it."""
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
        return "gguf", read_gguf
    if head[:4] in (b"tjgg", b"fmgg", b"lmgg", b"algg"):
        return "ggml", None
    if head[:4] == b"PK\x03\x04":
        return "zip", read_zip
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
            return Facts("safetensors", value[:NAME])
    return Facts("safetensors")


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
