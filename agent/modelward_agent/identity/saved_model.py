"""TensorFlow's SavedModel: its assets, and what its outermost object is. Its variables lie beside it under names of their own."""

from __future__ import annotations

from modelward_agent.identity.header import Draft, Reader, parse_json
from modelward_agent.identity.keras_config import read_config
from modelward_agent.identity.protobuf import Kind, walk

# Members by number in saved_model.proto, meta_graph.proto and saved_object_graph.proto of TensorFlow.
_USER_OBJECT = Kind("user object", texts=(1, 3))
_OBJECT = Kind("object", texts=(13,))
_OBJECTS = Kind("object graph")
_ASSET = Kind("asset", texts=(2,))
_META_GRAPH = Kind("meta graph")
_SAVED_MODEL = Kind("saved model")
_OBJECT.inner = {4: _USER_OBJECT}
_OBJECTS.inner = {1: _OBJECT}
_META_GRAPH.inner = {6: _ASSET, 7: _OBJECTS}
_SAVED_MODEL.inner = {2: _META_GRAPH}

_IDENTIFIER, _METADATA, _FILE_NAME, _REGISTERED = 1, 3, 2, 13
_GENERIC = frozenset((b"_generic_user_object", b"signature_map"))


def read_saved_model(reader: Reader, head: bytes, draft: Draft) -> None:
    """Raises HeaderError and ValueError."""
    objects, metadata = 0, b""
    for kind, number, value, _ in walk(reader, _SAVED_MODEL):
        if kind is _OBJECTS and number == 1:
            objects += 1
        elif kind is _ASSET and number == _FILE_NAME and isinstance(value, bytes):
            draft.refer("assets/" + value.decode("utf-8", "surrogateescape"))
        elif objects != 1 or not isinstance(value, bytes):
            continue
        elif kind is _USER_OBJECT and number == _IDENTIFIER and value not in _GENERIC:
            draft.architecture = draft.architecture or value.decode("utf-8", "surrogateescape")
        elif kind is _USER_OBJECT and number == _METADATA:
            metadata = value
        elif kind is _OBJECT and number == _REGISTERED and value:
            draft.architecture = value.decode("utf-8", "surrogateescape")
    if metadata[:1] == b"{" and len(metadata) < reader.size:
        _keras(metadata, draft)


def _keras(metadata: bytes, draft: Draft) -> None:
    """What Keras 2 notes at its objects, cut off or not."""
    try:
        read_config(parse_json(metadata), draft)
    except ValueError:
        return
