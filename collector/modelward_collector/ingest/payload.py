"""How large an Arrow IPC stream becomes when it is read: asked before it is, because a few kilobytes can claim gigabytes.

pyarrow allocates what each compressed buffer says of itself and has no limit of its own, so this reads the few numbers needed
from the messages' metadata (flatbuffers; Message.fbs and Schema.fbs of the Arrow format, version 1).
"""

from __future__ import annotations

import struct

import pyarrow as pa

_NOT_COMPRESSED = -1
MOST_BUFFERS = 4096
MOST_MESSAGES = 512


class PayloadError(ValueError):
    """The payload is not what it should be; the message says how, without repeating any of it."""


def decoded_bytes(data: bytes, limit: int) -> int:
    """Bytes that all buffers of the stream take once read.

    Raises:
        PayloadError: it is not an Arrow IPC stream, or takes more than ``limit``.
    """
    total = 0
    try:
        reader = pa.MessageReader.open_stream(pa.py_buffer(data))
        for _ in range(MOST_MESSAGES):
            try:
                message = reader.read_next_message()
            except StopIteration:
                return total
            if message.type in ("record batch", "dictionary"):
                total += _message_bytes(message.metadata.to_pybytes(), message.body, message.type)
            if total > limit:
                raise PayloadError(f"the payload takes more than {limit >> 20} MiB when it is read")
    except (pa.ArrowException, struct.error, OSError) as e:
        raise PayloadError("the payload is not a readable Arrow IPC stream") from e
    raise PayloadError(f"the payload has more than {MOST_MESSAGES} messages")


def _message_bytes(metadata: bytes, body: pa.Buffer, kind: str) -> int:
    message = _Table(metadata, _u32(metadata, 0))
    header = message.table(2)
    if kind == "dictionary":
        header = header.table(1)
    start, count = header.vector(2)
    if count > MOST_BUFFERS:
        raise PayloadError(f"the payload has more than {MOST_BUFFERS} buffers")
    compressed = header.has(3)
    size = 0
    for index in range(count):
        offset, length = struct.unpack_from("<qq", metadata, start + 16 * index)
        if offset < 0 or length < 0 or offset + length > body.size:
            raise PayloadError("a buffer of the payload lies outside of it")
        claimed = length
        if compressed and length >= 8:
            (said,) = struct.unpack("<q", body.slice(offset, 8).to_pybytes())
            claimed = length if said == _NOT_COMPRESSED else said
        if claimed < 0:
            raise PayloadError("a buffer of the payload has a negative size")
        size += claimed
    return size


class _Table:
    """One table of a flatbuffer: just enough to follow offsets. Every read is bounds-checked by struct."""

    def __init__(self, data: bytes, position: int) -> None:
        self._data = data
        self._position = position
        self._vtable = position - struct.unpack_from("<i", data, position)[0]
        if self._vtable < 0:
            raise struct.error("vtable outside")
        self._size = struct.unpack_from("<H", data, self._vtable)[0]

    def has(self, field: int) -> bool:
        return self._offset(field) != 0

    def table(self, field: int) -> _Table:
        place = self._place(field)
        return _Table(self._data, place + _u32(self._data, place))

    def vector(self, field: int) -> tuple[int, int]:
        place = self._place(field)
        start = place + _u32(self._data, place)
        return start + 4, _u32(self._data, start)

    def _offset(self, field: int) -> int:
        entry = 4 + 2 * field
        if entry + 2 > self._size:
            return 0
        offset: int = struct.unpack_from("<H", self._data, self._vtable + entry)[0]
        return offset

    def _place(self, field: int) -> int:
        offset = self._offset(field)
        if not offset:
            raise struct.error("field missing")
        return self._position + offset


def _u32(data: bytes, position: int) -> int:
    value: int = struct.unpack_from("<I", data, position)[0]
    return value
