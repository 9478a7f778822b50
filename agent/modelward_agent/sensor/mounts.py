"""Mounts the kernel file systems that the sensor needs, where the host has not; and takes away what it mounted."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

TRACEFS = Path("/sys/kernel/tracing")
BPFFS = Path("/sys/fs/bpf")
_CGROUP2 = (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified"))
_RUN = Path("/run/modelward")
_OWN_CGROUP2 = _RUN / "cgroup"
_MADE = _RUN / "mounts"
"""The mounts that an agent made, a line each: others are not ours to take away."""
_BPF_FS_MAGIC = 0xCAFE4A11


def prepare() -> None:
    """Mount all that a sensor may want, while this process still may. What cannot be had is told by the door that misses it."""
    tracefs()
    cgroup2()
    bpffs()


def tracefs() -> str | None:
    """Make ``/sys/kernel/tracing`` usable; returns why not, or None."""
    if (TRACEFS / "events").is_dir():
        return None
    if not TRACEFS.is_dir():
        return "this kernel has no tracefs (CONFIG_TRACING)"
    return _mount("tracefs", TRACEFS)


def bpffs() -> str | None:
    """Make ``/sys/fs/bpf`` usable, where what is pinned outlives the agent; returns why not, or None."""
    if not BPFFS.is_dir():
        return "this kernel has no bpf file system (CONFIG_BPF_SYSCALL)"
    # Without a mode everybody may write there, and hold the names of pins.
    return None if is_bpffs(BPFFS) else _mount("bpf", BPFFS, "mode=0700")


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


def unmount() -> list[str]:
    """Take away the mounts that an agent made and that nothing uses; returns them. What is in use is left and remembered."""
    libc = ctypes.CDLL(None, use_errno=True)
    removed: list[str] = []
    left: list[str] = []
    for target in _remembered():
        if os.path.ismount(target) and not (is_bpffs(Path(target)) and _pins(Path(target))):
            (left if libc.umount2(target.encode(), 0) else removed).append(target)
        elif os.path.ismount(target):
            left.append(target)
    if left:
        _MADE.write_text("".join(f"{target}\n" for target in left))
    else:
        _MADE.unlink(missing_ok=True)
    for directory in (_OWN_CGROUP2, _RUN):
        try:
            directory.rmdir()
        except OSError:
            break  # there is none, or it is in use
    return removed


def _mount(kind: str, target: Path, options: str = "") -> str | None:
    """None when mounted, else why not."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"nodev", str(target).encode(), kind.encode(), 0, options.encode() or None):
        return f"cannot mount {kind} at {target}: {os.strerror(ctypes.get_errno())}"
    try:
        _RUN.mkdir(mode=0o755, exist_ok=True)
        with _MADE.open("a", encoding="utf-8") as made:
            made.write(f"{target}\n")
    except OSError:
        pass  # it stays mounted, which harms nobody
    return None


def _remembered() -> list[str]:
    try:
        lines = _MADE.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    ours = {str(TRACEFS), str(BPFFS), str(_OWN_CGROUP2)}
    return [line for line in dict.fromkeys(lines) if line in ours]


class _StatFs(ctypes.Structure):
    """The head of struct statfs."""

    _fields_ = (("f_type", ctypes.c_long), ("rest", ctypes.c_char * 256))


def _pins(path: Path) -> bool:
    """Whether anybody pinned something: names with a dot are the kernel's own."""
    return any("." not in entry.name for entry in path.iterdir())


def is_bpffs(path: Path) -> bool:
    """Whether a folder is in a bpf file system."""
    found = _StatFs()
    libc = ctypes.CDLL(None, use_errno=True)
    failed = libc.statfs(os.fsencode(path), ctypes.byref(found))
    return not failed and int(found.f_type) & 0xFFFFFFFF == _BPF_FS_MAGIC
