"""What is identified, and what is found."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from modelward_proto.text import escape, is_inert

_LONGEST = 256
_DIGEST = re.compile(r"[0-9a-f]{64}\Z")


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file that a model instance opened, as the kernel reported it. The first one began it."""

    instance: int
    pid: int
    start_ns: int
    """Start time of the process: a reused pid is another process."""
    path: bytes
    """Resolved path, raw."""
    asked: bytes
    """Path as the process gave it; empty when equal to ``path``."""
    device: int
    """Kernel's s_dev: major << 20 | minor."""
    inode: int
    time_ns: int
    header: bytes = field(default=b"", repr=False)
    """Header of the kernel record: process, workload and phase of the identity record are copied from it."""
    workload: str = ""
    """Whose it is, where workloads share what there is: ``workload.id``."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A model, as far as it is known; texts are escaped and bounded. Nothing known of a part: empty."""

    id: str = ""
    revision: str = ""
    digest: str = ""
    """sha256 of the artifact as it was read, 64 hex digits. Of several files: of their sorted digests, joined by line feeds.
    Never what a cache's name says of a file: whoever writes the file chooses that name."""
    format: str = ""
    source: str = ""
    """hf_cache, ollama, triton, folder or file."""
    architecture: str = ""
    quantization: str = ""
    base: str = ""
    """Of an adapter: the model that it is made for."""
    path: str = ""


def told_identity(path: bytes, told: object) -> Identity:
    """An identity that came as JSON through a process or a file. Whatever was told becomes bounded, inert
    text."""
    members = told if isinstance(told, dict) else {}
    digest = members.get("digest")
    return Identity(
        id=_text(members.get("id")),
        revision=_text(members.get("revision")),
        digest=digest if isinstance(digest, str) and _DIGEST.match(digest) else "",
        format=_text(members.get("format")),
        source=_text(members.get("source")),
        architecture=_text(members.get("architecture")),
        quantization=_text(members.get("quantization")),
        base=_text(members.get("base")),
        path=escape(path),
    )


def _text(value: object) -> str:
    if not isinstance(value, str):
        return ""
    value = value[:_LONGEST]
    return value if is_inert(value) else escape(value.encode("utf-8", "surrogatepass"))
