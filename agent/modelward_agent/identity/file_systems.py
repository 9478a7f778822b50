"""What the file system of an opened file says of it: its device numbers, who may serve it, through which mount it was found.

A reference is any descriptor of the file, O_PATH too.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

_MOUNTS = 8 << 20
"""Bytes read of a process's list of mounts."""

# File systems whose st_dev is not the s_dev of the superblock: there the inode alone is compared.
_OWN_DEVICES = frozenset((0x9123683E, 0x794C7630))  # btrfs, overlayfs

_FUSE, _OVERLAY = 0x65735546, 0x794C7630
_IN_MEMORY = frozenset((0x01021994, 0x858458F6, 0x958458F6))  # tmpfs, ramfs, hugetlbfs

_libc = ctypes.CDLL(None, use_errno=True)


def has_own_devices(reference: int) -> bool:
    """Whether its file system shows other device numbers than the kernel's records have."""
    return _file_system(reference) in _OWN_DEVICES


def lives_in_memory(reference: int) -> bool:
    """Whether its file system never writes pages out: then it does not see either that a mapped one is written to again."""
    return _file_system(reference) in _IN_MEMORY


def is_served_by_workload(reference: int, pid: int, proc: Path = Path("/proc")) -> bool:
    """Whether a file lies on a FUSE file system that root of this host did not mount, or on an overlay that is no mount of the
    host's and may lie over one: whoever serves it may show each reader another content.

    The mount's ``user_id`` is read in the user namespace of whoever mounted it. In the mount namespace of a process of the
    host's own user namespace, 0 is root of the host.
    """
    system = _file_system(reference)
    if system == _OVERLAY:
        return not _is_of_host(reference, pid, proc)
    if system != _FUSE:
        return False
    about = os.fstat(reference)
    number = b"%d:%d" % (os.major(about.st_dev), os.minor(about.st_dev))
    for own in (proc / str(pid), Path("/proc/self")):
        try:
            if os.readlink(own / "ns/user") != os.readlink("/proc/self/ns/user"):
                return True
            mounts = _mounts(own)
        except OSError:
            continue
        for fields in mounts:
            if fields[2] == number:
                return b"user_id=0" not in fields[-1].split(b",")
    return True


def mount_of(reference: int) -> bytes:
    """Number of the mount through which a file was found; empty when the kernel does not say."""
    try:
        told = Path(f"/proc/self/fdinfo/{reference}").read_bytes().split()
        return told[told.index(b"mnt_id:") + 1]
    except (OSError, ValueError, IndexError):
        return b""


def _is_of_host(reference: int, pid: int, proc: Path) -> bool:
    """Whether a file's mount, by the number of its device, is one of the host's too."""
    number, devices, host = mount_of(reference), set(), set()
    for own in (proc / str(pid), Path("/proc/self"), Path("/proc/1")):
        try:
            mounts = _mounts(own)
        except OSError:
            continue
        devices |= {fields[2] for fields in mounts if fields[0] == number}
        host |= {fields[2] for fields in mounts if own.parent != proc or own.name != str(pid)}
    return bool(devices & host)


def _mounts(own: Path) -> list[list[bytes]]:
    """Fields of each mount that a process sees, a bounded part of them. Raises OSError."""
    with open(own / "mountinfo", "rb") as file:
        mounts = [line.split(b" ") for line in file.read(_MOUNTS).splitlines()]
    return [fields for fields in mounts if len(fields) > 9]


def _file_system(fd: int) -> int:
    """The type of the file system, as statfs(2) names it."""
    room = ctypes.create_string_buffer(256)
    if _libc.fstatfs(fd, room) != 0:
        return 0
    return ctypes.c_ulong.from_buffer(room).value & 0xFFFFFFFF
