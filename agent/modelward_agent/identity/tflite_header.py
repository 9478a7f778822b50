"""TFLite: the name in a model's metadata, and how its weights are stored."""

from __future__ import annotations

from math import prod

from modelward_agent.identity import dtypes
from modelward_agent.identity.flatbuffer import Table
from modelward_agent.identity.header import NAME, Draft, Reader, Unpacked

_METADATA = 1 << 20
# Members by number in TFLite's schema.fbs and metadata_schema.fbs.
_SUBGRAPHS, _BUFFERS, _METADATA_LIST = 2, 4, 6
_TENSORS = 0
_SHAPE, _TYPE, _BUFFER = 0, 1, 2
_DATA, _OFFSET = 0, 1
_LIST_NAME, _LIST_BUFFER = 0, 1
_MODEL_NAME, _MODEL_VERSION = 0, 2


def read_tflite(reader: Reader, head: bytes, draft: Draft) -> None:
    """Raises HeaderError and struct.error."""
    model = Table.root(reader)
    buffers = model.tables(_BUFFERS)
    filled = [bool(buffer.data(_DATA, 1)) or buffer.number(_OFFSET, "<Q") > 1 for buffer in buffers]
    for each in model.tables(_METADATA_LIST):
        if each.data(_LIST_NAME, NAME) == b"TFLITE_METADATA" and (number := each.number(_LIST_BUFFER)) < len(buffers):
            told = Table.root(Unpacked(buffers[number].data(_DATA, _METADATA), reader.budget))
            draft.name, draft.revision = _text(told, _MODEL_NAME), _text(told, _MODEL_VERSION)
    weights = dtypes.Weights()
    for graph in model.tables(_SUBGRAPHS):
        for tensor in graph.tables(_TENSORS):
            number = tensor.number(_BUFFER)
            if number < len(filled) and filled[number]:
                weights.add(dtypes.TFLITE.get(tensor.number(_TYPE, "<B"), ""), prod(tensor.numbers(_SHAPE)))
    draft.quantization = weights.most()


def _text(table: Table, member: int) -> str:
    return table.data(member, NAME).decode("utf-8", "surrogateescape")
