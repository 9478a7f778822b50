"""Model files for the identity tests: small, written by the formats' own libraries where there are any."""

from __future__ import annotations

import json
import os
import struct
import zipfile
from pathlib import Path

import gguf
import numpy as np
from modelward_agent.enrich.proc_files import ProcFiles
from modelward_agent.identity.artifact import Artifact
from modelward_agent.identity.formats import Facts, read_facts
from modelward_agent.identity.header import Budget


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def facts_of(path: Path, name: bytes | None = None, *, budget: Budget | None = None) -> Facts:
    """What the agent reads out of a file, under its own name or another."""
    fd = os.open(path, os.O_RDONLY)
    try:
        return read_facts(fd, os.fstat(fd).st_size, os.fsencode(path.name) if name is None else name, budget)
    finally:
        os.close(fd)


def number(member: int, value: int) -> bytes:
    """A number as protobuf writes it."""
    return _varint(member << 3) + _varint(value)


def message(member: int, data: bytes) -> bytes:
    """A message, text or bytes as protobuf writes it."""
    return _varint(member << 3 | 2) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes([*found, value])


def write_gguf(path: Path, name: str = "Tiny Llama", *, vocabulary: int = 10) -> Path:
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_token_list([b"token%d" % number for number in range(vocabulary)])
    writer.add_uint32("llama.context_length", 128)
    writer.add_name(name)
    writer.add_version("v7")
    writer.add_tensor("x", np.zeros(8, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_safetensors(path: Path, **metadata: str) -> Path:
    header = json.dumps(
        {"__metadata__": metadata, "w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}
    ).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(8))
    return path


def write_torch(path: Path) -> Path:
    """What torch.save writes: an uncompressed archive with the pickle in it."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}.")
        archive.writestr("archive/byteorder", b"little")
        archive.writestr("archive/version", b"3\n")
    return path


def artifact(path: Path, instance: int = 1, *, pid: int | None = None, asked: bytes = b"") -> Artifact:
    """As the kernel reports an open of ``path`` by this process (or by ``pid``)."""
    about = path.stat()
    pid = os.getpid() if pid is None else pid
    return Artifact(
        instance=instance,
        pid=pid,
        start_ns=ProcFiles(Path("/proc")).key(pid)[1],
        path=os.fsencode(path),
        asked=asked,
        device=os.major(about.st_dev) << 20 | os.minor(about.st_dev),
        inode=about.st_ino,
        time_ns=1,
    )
