"""ONNX: the graph's name, how its weights are stored, and the files in which they lie when they are too large for one message."""

from __future__ import annotations

from modelward_agent.identity import dtypes
from modelward_agent.identity.header import Draft, Reader
from modelward_agent.identity.protobuf import Kind, packed, walk

_GENERIC = frozenset((
    "", "main", "main_graph", "graph", "model", "torch_jit", "torch-jit-export", "tf2onnx", "tf2onnx__xla", "jax_export",
    "onnx", "default",
))  # fmt: skip
"""Names that exporters give to every graph."""

# Members by number in onnx.proto.
_ENTRY = Kind("entry", texts=(1, 2))
_TENSOR = Kind("tensor", texts=(1,))
_SPARSE = Kind("sparse")
_ATTRIBUTE = Kind("attribute")
_NODE = Kind("node")
_GRAPH = Kind("graph", texts=(2,))
_FUNCTION = Kind("function")
_TRAINING = Kind("training")
_MODEL = Kind("model")
_TENSOR.inner = {13: _ENTRY}
_SPARSE.inner = {1: _TENSOR, 2: _TENSOR}
_ATTRIBUTE.inner = {5: _TENSOR, 6: _GRAPH, 10: _TENSOR, 11: _GRAPH, 22: _SPARSE, 23: _SPARSE}
_NODE.inner = {5: _ATTRIBUTE}
_GRAPH.inner = {1: _NODE, 5: _TENSOR, 15: _SPARSE}
_FUNCTION.inner = {7: _NODE, 11: _ATTRIBUTE}
_TRAINING.inner = {1: _GRAPH, 2: _GRAPH}
_MODEL.inner = {7: _GRAPH, 20: _TRAINING, 25: _FUNCTION}

_VERSION, _NAME, _DIMS, _DATA_TYPE, _KEY, _VALUE = 5, 2, 1, 2, 1, 2
_DIMENSIONS = 64


class _Tensor:
    """What one tensor says of itself, as its members come by."""

    def __init__(self) -> None:
        self._dtype = 0
        self._numbers = 1
        self._dimensions = 0

    def member(self, number: int, value: int | bytes) -> None:
        if number == _DATA_TYPE and isinstance(value, int):
            self._dtype = value
        elif number == _DIMS:
            for size in packed(value) if isinstance(value, bytes) else [value]:
                self._dimensions += 1
                # More dimensions than any tensor has would make the product a number of megabytes.
                self._numbers = self._numbers * size if self._dimensions <= _DIMENSIONS else 0

    def count(self, weights: dtypes.Weights) -> None:
        weights.add(dtypes.ONNX.get(self._dtype, ""), self._numbers)


def read_onnx(reader: Reader, head: bytes, draft: Draft) -> None:
    """Raises HeaderError."""
    weights, tensor = dtypes.Weights(), _Tensor()
    entry: dict[int, bytes] = {}
    try:
        for kind, number, value, depth in walk(reader, _MODEL):
            if kind is _TENSOR and number == 0:
                tensor.count(weights)
                tensor = _Tensor()
            elif kind is _TENSOR and value is not None:
                tensor.member(number, value)
            elif kind is _ENTRY and number == 0:
                if entry.get(_KEY) == b"location":
                    draft.refer(entry.get(_VALUE, b"").decode("utf-8", "surrogateescape"))
                entry.clear()
            elif kind is _ENTRY and isinstance(value, bytes):
                entry[number] = value
            elif kind is _GRAPH and number == _NAME and depth == 2 and isinstance(value, bytes):
                name = value.decode("utf-8", "surrogateescape")
                draft.name = "" if name in _GENERIC else name
            elif kind is _MODEL and number == _VERSION and isinstance(value, int) and 0 < value < 1 << 63:
                draft.revision = str(value)
    finally:
        draft.quantization = weights.most()


_ONNX_NUMBERS, _ONNX_TEXTS = (1, 5), (2, 3, 4, 6, 7, 8, 14, 20, 25)
_ONNX_GRAPH, _ONNX_IMPORTS = 7, 8


def is_onnx(head: bytes) -> bool:
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
