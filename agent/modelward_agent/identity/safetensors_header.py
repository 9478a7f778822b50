"""The JSON at the start of a safetensors file: what trainers note beside the tensors, and how the tensors are stored."""

from __future__ import annotations

import struct
from math import prod

from modelward_agent.identity import dtypes
from modelward_agent.identity.header import Draft, HeaderError, Reader, parse_json, text

_MOST = 16 << 20
_NAMES = ("modelspec.title", "general.name", "model_name", "name", "ss_output_name")
_BASES = ("base_model", "modelspec.base_model", "ss_base_model", "ss_sd_model_name")
_DIMENSIONS = 64


def read_safetensors(reader: Reader, head: bytes, draft: Draft) -> None:
    """Raises HeaderError, ValueError, struct.error and RecursionError."""
    length = struct.unpack_from("<Q", head)[0]
    if length > _MOST:
        raise HeaderError("the header is too large")
    told = parse_json(reader.at(8, length))
    if not isinstance(told, dict):
        raise HeaderError("the header is damaged")
    metadata = told.pop("__metadata__", None)
    if isinstance(metadata, dict):
        draft.name = next((name for key in _NAMES if (name := text(metadata.get(key)))), "")
        draft.base = next((name for key in _BASES if (name := text(metadata.get(key)))), "")
        draft.architecture = text(metadata.get("modelspec.architecture"))
    weights = dtypes.Weights()
    for tensor in told.values():
        dtype, shape = (tensor.get("dtype"), tensor.get("shape")) if isinstance(tensor, dict) else (None, None)
        if isinstance(dtype, str) and isinstance(shape, list) and len(shape) <= _DIMENSIONS:
            weights.add(dtype, prod(size if isinstance(size, int) else 0 for size in shape))
    draft.quantization = weights.most()
