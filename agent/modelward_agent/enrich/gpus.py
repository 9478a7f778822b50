"""Which GPU devices a process holds open, by the number of the device and not by the name of its file."""

from __future__ import annotations

import ctypes
import os
import re
import stat
from pathlib import Path

_DESCRIPTORS = 4096
_MOST = 64
_NVIDIA = 195
_NVIDIA_GPUS = 248
"""Minors from here on are the driver's own: nvidiactl 255, nvidia-modeset 254."""
_DRM, _RENDER = 226, range(128, 192)

_AT_STATX_DONT_SYNC, _AT_NO_AUTOMOUNT, _STATX_TYPE = 0x4000, 0x800, 0x1
_MODE, _RDEV_MAJOR, _RDEV_MINOR = 28, 128, 132
"""Offsets in struct statx."""

_libc = ctypes.CDLL(None, use_errno=True)


def held_gpus(pid: int, proc: Path = Path("/proc")) -> tuple[str, ...]:
    """GPUs whose device files a process has open: ``0`` for /dev/nvidia0, ``0/1/0`` for a MIG slice (GPU, GPU instance, compute
    instance), ``renderD128`` and ``kfd`` for those of other makers."""
    caps = _majors(proc, "nvidia-caps")
    kfd = _majors(proc, "kfd")
    slices = _slices(proc) if caps else {}
    found: dict[str, None] = {}
    try:
        with os.scandir(proc / str(pid) / "fd") as entries:
            for entry, _ in zip(entries, range(_DESCRIPTORS), strict=False):
                number = _device(entry.path)
                if number is not None and (name := _name(*number, caps, kfd, slices)):
                    found[name] = None
                if len(found) >= _MOST:
                    break
    except OSError:
        pass
    return tuple(sorted(found, key=_order))


def joined(gpus: list[tuple[str, ...]]) -> str:
    """GPUs of several processes in one text."""
    return ",".join(sorted({name for names in gpus for name in names}, key=_order)[:_MOST])


def _name(major: int, minor: int, caps: frozenset[int], kfd: frozenset[int], slices: dict[int, str]) -> str:
    if major == _NVIDIA:
        return str(minor) if minor < _NVIDIA_GPUS else ""
    if major in caps:
        return slices.get(minor, "")
    if major == _DRM and minor in _RENDER:
        return f"renderD{minor}"
    return "kfd" if major in kfd else ""


def _device(path: str) -> tuple[int, int] | None:
    """Numbers of the character device behind a descriptor; None for anything else.

    The file system is not asked, only what the kernel holds: a descriptor on one that hangs must not hang the reader.
    """
    room = ctypes.create_string_buffer(256)
    flags = _AT_STATX_DONT_SYNC | _AT_NO_AUTOMOUNT
    if _libc.statx(-100, ctypes.c_char_p(os.fsencode(path)), flags, _STATX_TYPE, room):
        return None
    told = room.raw
    if not stat.S_ISCHR(int.from_bytes(told[_MODE : _MODE + 2], "little")):
        return None
    major, minor = (int.from_bytes(told[at : at + 4], "little") for at in (_RDEV_MAJOR, _RDEV_MINOR))
    return major, minor


def _majors(proc: Path, name: str) -> frozenset[int]:
    """Numbers that the kernel gave a driver: they differ from boot to boot."""
    try:
        text = (proc / "devices").read_text("ascii", "replace")
    except OSError:
        return frozenset()
    characters = text.partition("Block devices")[0]
    return frozenset(int(number) for number in re.findall(rf"^ *(\d+) {re.escape(name)}$", characters, re.MULTILINE))


def _slices(proc: Path) -> dict[int, str]:
    """MIG compute instances by the minor of their capability file: ``gpu0/gi1/ci0/access 13``."""
    try:
        text = (proc / "driver/nvidia-caps/mig-minors").read_text("ascii", "replace")
    except OSError:
        return {}
    lines = re.findall(r"^gpu(\d+)/gi(\d+)/ci(\d+)/access (\d+)$", text, re.MULTILINE)
    return {int(minor): f"{gpu}/{instance}/{compute}" for gpu, instance, compute, minor in lines}


def _order(name: str) -> tuple[bool, list[int], str]:
    return not name[0].isdigit(), [int(number) for number in re.findall(r"\d+", name)], name
