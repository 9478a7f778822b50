"""Attributes of the root of an HDF5 file, where Keras keeps a model's configuration.

After "HDF5 File Format Specification Version 3.0" of the HDF Group. Read are attributes that stand in the root's object
header: texts of fixed length and texts in a global heap. Those in a fractal heap are not looked for.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from modelward_agent.identity.header import Draft, HeaderError, Reader, parse_json
from modelward_agent.identity.keras_config import read_config

_SUPERBLOCK = 128
_MESSAGES = 4096
_BLOCKS = 64
_BLOCK = 1 << 20
_VALUE = 8 << 20
_ATTRIBUTE, _CONTINUATION = 0x0C, 0x10
_FIXED_TEXT, _VARIABLE = 3, 9
_OF_KERAS = frozenset((b"keras_version", b"model_config", b"layer_names"))


def read_hdf5(reader: Reader, head: bytes, draft: Draft) -> None:
    """A Keras model's name and class; of another HDF5 file nothing. Raises HeaderError, ValueError and struct.error."""
    file = _Hdf5(reader, head)
    for name, kind, value in file.attributes():
        if name in _OF_KERAS:
            draft.format = "keras"
        if name == b"model_config":
            read_config(parse_json(file.text(kind, value)), draft)


class _Hdf5:
    def __init__(self, reader: Reader, head: bytes) -> None:
        self._reader = reader
        head = head.ljust(_SUPERBLOCK, b"\0")
        version = head[8]
        if version in (0, 1):
            offset_size, length_size = head[13], head[14]
            # Sizes and four addresses, then the root's symbol table entry: a name, then the address of its header.
            at = 24 + (4 if version else 0) + 4 * offset_size + offset_size
        elif version in (2, 3):
            offset_size, length_size = head[9], head[10]
            at = 12 + 3 * offset_size
        else:
            raise HeaderError(f"unknown HDF5 version {version}")
        if offset_size not in (4, 8) or length_size not in (4, 8):
            raise HeaderError("the header is damaged")
        self._offset, self._offset_size = ("<I" if offset_size == 4 else "<Q"), offset_size
        self._length, self._length_size = ("<I" if length_size == 4 else "<Q"), length_size
        self._root = self._address(head, at)

    def attributes(self) -> Iterator[tuple[bytes, bytes, bytes]]:
        """Names, types and values of the root's attributes, the two as they stand in the file."""
        begin = self._reader.at(self._root, 16)
        if begin[:4] == b"OHDR":
            messages = self._messages_2(begin)
        elif begin[0] == 1:
            messages = self._messages_1(begin)
        else:
            raise HeaderError("the header is damaged")
        for count, (kind, body) in enumerate(messages):
            if count >= _MESSAGES:
                raise HeaderError("the header has too many parts")
            if kind == _ATTRIBUTE:
                yield self._attribute(body)

    def _address(self, data: bytes, at: int) -> int:
        return int(struct.unpack_from(self._offset, data, at)[0])

    def _continued(self, body: bytes) -> tuple[int, int]:
        return self._address(body, 0), int(struct.unpack_from(self._length, body, self._offset_size)[0])

    def _block(self, address: int, length: int) -> bytes:
        if length > _BLOCK:
            raise HeaderError("the header is too large")
        return self._reader.at(address, length)

    def _messages_1(self, begin: bytes) -> Iterator[tuple[int, bytes]]:
        blocks = [(self._root + 16, int(struct.unpack_from("<I", begin, 8)[0]))]
        for turn in range(_BLOCKS):
            if turn >= len(blocks):
                return
            data, at = self._block(*blocks[turn]), 0
            while at + 8 <= len(data):
                self._reader.budget.step()
                kind, length = struct.unpack_from("<HH", data, at)
                body = data[at + 8 : at + 8 + length]
                at += 8 + length
                if kind == _CONTINUATION:
                    blocks.append(self._continued(body))
                yield kind, body
        raise HeaderError("the header has too many parts")

    def _messages_2(self, begin: bytes) -> Iterator[tuple[int, bytes]]:
        flags = begin[5]
        sized = 1 << (flags & 3)
        at = self._root + 6 + (16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0)
        length = int.from_bytes(self._reader.at(at, sized), "little")
        blocks = [(at + sized, length)]
        head = 6 if flags & 4 else 4
        for turn in range(_BLOCKS):
            if turn >= len(blocks):
                return
            data, at = self._block(*blocks[turn]), 0
            while at + head <= len(data):
                self._reader.budget.step()
                kind, size = data[at], int(struct.unpack_from("<H", data, at + 1)[0])
                body = data[at + head : at + head + size]
                at += head + size
                if kind == _CONTINUATION:
                    address, room = self._continued(body)
                    # A block begins with its own signature and ends with a checksum.
                    if room < 8 or self._reader.at(address, 4) != b"OCHK":
                        raise HeaderError("the header is damaged")
                    blocks.append((address + 4, room - 8))
                yield kind, body
        raise HeaderError("the header has too many parts")

    def _attribute(self, body: bytes) -> tuple[bytes, bytes, bytes]:
        version = body[0] if len(body) >= 9 else 0
        if version not in (1, 2, 3):
            raise HeaderError("the header is damaged")
        name_size, type_size, space_size = struct.unpack_from("<HHH", body, 2)
        at = 9 if version == 3 else 8
        # In the first version each part is filled up to a multiple of eight.
        step = 8 if version == 1 else 1
        name = body[at : at + name_size].rstrip(b"\0")
        at += -(-name_size // step) * step
        kind = body[at : at + type_size]
        at += (-(-type_size // step) + -(-space_size // step)) * step
        return name, kind, body[at:]

    def text(self, kind: bytes, value: bytes) -> bytes:
        """The text that an attribute of this type holds; empty when it holds none."""
        if len(kind) < 8:
            raise HeaderError("the header is damaged")
        form, size = kind[0] & 15, int(struct.unpack_from("<I", kind, 4)[0])
        if form == _FIXED_TEXT:
            return value[:size].rstrip(b"\0 ")
        if form == _VARIABLE and kind[1] & 15 == 1:
            length = int(struct.unpack_from("<I", value)[0])
            collection = self._address(value, 4)
            index = int(struct.unpack_from("<I", value, 4 + self._offset_size)[0])
            return self._from_heap(collection, index)[:length]
        return b""

    def _from_heap(self, address: int, index: int) -> bytes:
        """One object of a global heap collection."""
        begin = self._reader.at(address, 8 + self._length_size)
        size = int(struct.unpack_from(self._length, begin, 8)[0])
        if begin[:4] != b"GCOL":
            raise HeaderError("the header is damaged")
        at, end = address + 8 + self._length_size, min(address + size, self._reader.size)
        while at + 8 + self._length_size <= end:
            self._reader.budget.step()
            own = self._reader.at(at, 8 + self._length_size)
            number, length = struct.unpack_from("<H", own)[0], int(struct.unpack_from(self._length, own, 8)[0])
            at += 8 + self._length_size
            if number == index:
                return self._reader.at(at, min(length, _VALUE))
            if number == 0:
                break
            at += -(-length // 8) * 8
        raise HeaderError("the header points outside the file")
