"""What is identified, and what is found."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Artifact:
    """The file whose open began a model instance, as the kernel reported it."""

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


@dataclass(frozen=True, slots=True)
class Identity:
    """A model, as far as it is known; texts are escaped. Nothing known of a part: empty."""

    id: str = ""
    revision: str = ""
    digest: str = ""
    """sha256 of the artifact, 64 hex digits."""
    format: str = ""
    source: str = ""
    """hf_cache, ollama, folder or file."""
    path: str = ""
