"""Mounts the kernel file systems that the sensor needs, where the host has not."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

TRACEFS = Path("/sys/kernel/tracing")
BPFFS = Path("/sys/fs/bpf")
_CGROUP2 = (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified"))
_OWN_CGROUP2 = Path("/run/modelward/cgroup")


def _mount(kind: str, target: Path) -> str | None:
    """None when mounted, else why not."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"nodev", str(target).encode(), kind.encode(), 0, None):
        return f"cannot mount {kind} at {target}: {os.strerror(ctypes.get_errno())}"
    return None


def tracefs() -> str | None:
    """Make ``/sys/kernel/tracing`` usable; returns why not, or None."""
    if (TRACEFS / "events").is_dir():
        return None
    if not TRACEFS.is_dir():
        return "this kernel has no tracefs (CONFIG_TRACING)"
    return _mount("tracefs", TRACEFS)


def cgroup2() -> Path | str:
    """The root of the unified cgroup hierarchy, mounted beside version 1 if need be; or, as text, why there
    is none."""
    for directory in (*_CGROUP2, _OWN_CGROUP2):
        # Only version 2 has this file, and only below or at its root.
        if (directory / "cgroup.procs").is_file() and (directory / "cgroup.controllers").is_file():
            return directory
    try:
        _OWN_CGROUP2.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        return f"cannot make {_OWN_CGROUP2}: {e.strerror}"
    return _mount("cgroup2", _OWN_CGROUP2) or _OWN_CGROUP2
