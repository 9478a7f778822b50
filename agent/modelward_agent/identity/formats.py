"""What an artifact says of itself: its format by its first bytes, and a name where the format has one.

Reads a bounded part of the file and interprets headers alone. Nothing is unpickled, unpacked or executed.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from modelward_agent.identity.boosters import (
    is_lightgbm,
    is_xgboost_json,
    is_xgboost_ubjson,
    read_lightgbm,
    read_xgboost_json,
    read_xgboost_ubjson,
)
from modelward_agent.identity.compression import is_compressed
from modelward_agent.identity.gguf_header import read_gguf
from modelward_agent.identity.hdf5_header import read_hdf5
from modelward_agent.identity.header import Budget, Draft, Facts, HeaderError, Reader
from modelward_agent.identity.json_models import json_format, read_json_model
from modelward_agent.identity.onnx_header import is_onnx, read_onnx
from modelward_agent.identity.pickles import is_pickle, read_compressed, read_pickle
from modelward_agent.identity.safetensors_header import read_safetensors
from modelward_agent.identity.saved_model import read_saved_model
from modelward_agent.identity.tflite_header import read_tflite
from modelward_agent.identity.zip_models import read_zip

_HEAD = 4096


def read_facts(fd: int, size: int, file_name: bytes, budget: Budget | None = None) -> Facts:
    """Facts of an open artifact. Of a damaged or hostile header what was found before, and what is wrong with it."""
    reader = Reader(fd, size, budget)
    extension = file_name.rpartition(b".")[2].lower().decode("ascii", "replace")
    try:
        head = reader.at(0, min(size, _HEAD))
    except (OSError, HeaderError) as e:
        return Facts(format_by_extension(extension), problem=str(e))
    draft, read = _recognise(head, extension, file_name)
    if read is not None:
        try:
            read(reader, head, draft)
        except (OSError, ValueError, struct.error, RecursionError, MemoryError, OverflowError) as e:
            draft.problem = str(e) or type(e).__name__
    return draft.facts()


Read = Callable[[Reader, bytes, Draft], None]


def _recognise(head: bytes, extension: str, file_name: bytes) -> tuple[Draft, Read | None]:
    by_extension = format_by_extension(extension)
    for begins, name, read in _BY_MAGIC:
        if head.startswith(begins):
            return Draft(name), read
    if head[:8] == b"\x89HDF\r\n\x1a\n":
        return Draft("keras" if extension in ("h5", "keras", "hdf5") else "hdf5"), read_hdf5
    if head[4:8] == b"TFL3":
        return Draft("tflite"), read_tflite
    if head[8:9] == b"{" and (extension == "safetensors" or b'"dtype"' in head or b"__metadata__" in head):
        return Draft("safetensors"), read_safetensors
    if is_pickle(head):
        return Draft("joblib" if extension == "joblib" else "pickle"), read_pickle
    if file_name == b"saved_model.pb":
        return Draft("saved_model"), read_saved_model
    if by_json := json_format(file_name):
        return Draft(by_json), read_json_model
    for is_one, name, read in _BOOSTERS:
        if is_one(head):
            return Draft(name), read
    if is_compressed(head):
        return Draft(by_extension), read_compressed
    if is_onnx(head):
        return Draft("onnx"), read_onnx
    if by_extension in ("pickle", "joblib"):
        # The oldest pickles have no first byte of their own.
        return Draft(by_extension), read_pickle
    return Draft(by_extension), None


_BY_MAGIC: tuple[tuple[tuple[bytes, ...], str, Read | None], ...] = (
    ((b"GGUF", b"FUGG"), "gguf", read_gguf),
    ((b"tjgg", b"fmgg", b"lmgg", b"algg"), "ggml", None),
    ((b"PK\x03\x04",), "zip", read_zip),
    ((b"\x93NUMPY",), "numpy", None),
    ((b"ftrt", b"ptrt"), "tensorrt", None),
    ((b"CBM1",), "catboost", None),
)
_BOOSTERS: tuple[tuple[Callable[[bytes], bool], str, Read], ...] = (
    (is_xgboost_json, "xgboost", read_xgboost_json),
    (is_xgboost_ubjson, "xgboost", read_xgboost_ubjson),
    (is_lightgbm, "lightgbm", read_lightgbm),
)
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
