"""A file system with one file, spoken over /dev/fuse by this process: what a workload with a mount of its own can do.

The kernel's protocol (``linux/fuse.h``) is small enough for one file, and no binding for it is among the project's packages.
"""

from __future__ import annotations

import ctypes
import os
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_LOOKUP, _FORGET, _GETATTR, _OPEN, _READ, _STATFS, _RELEASE, _FLUSH, _INIT, _DESTROY = 1, 2, 3, 14, 15, 17, 18, 25, 26, 38
_MNT_DETACH = 2

_libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def mounted(folder: Path, name: bytes, size: int, content: Callable[[int, int], bytes | None], user: int = 0) -> Iterator[Path]:
    """Mount a file system at ``folder``; the path of its only file.

    Args:
        content: bytes at (offset, length); None never answers.
        user: as whom the mount is shown.

    Raises:
        OSError: FUSE is not there, or may not be mounted.
    """
    device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    options = f"fd={device},rootmode=40000,user_id={user},group_id=0,allow_other".encode()
    if _libc.mount(b"test", os.fsencode(folder), b"fuse.test", 0, options) != 0:
        number = ctypes.get_errno()
        os.close(device)
        raise OSError(number, os.strerror(number))
    thread = threading.Thread(target=_serve, args=(device, name, size, content), daemon=True)
    thread.start()
    try:
        yield folder / os.fsdecode(name)
    finally:
        # Whoever waits for an answer is let go once nothing has the device open, the thread in its read neither.
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        os.dup2(null, device, inheritable=False)
        with suppress(OSError):
            os.stat(folder / "wake up")
        thread.join(10)
        _libc.umount2(os.fsencode(folder), _MNT_DETACH)
        os.close(device)
        os.close(null)


def _attributes(node: int, size: int) -> bytes:
    """struct fuse_attr of the root folder (1) or the file."""
    mode, links = (0o040755, 2) if node == 1 else (0o100644, 1)
    times = (1_000_000_000,) * 3
    return struct.pack("=6Q10I", node, size, 1, *times, 0, 0, 0, mode, links, 0, 0, 0, 4096, 0)


def _serve(device: int, name: bytes, size: int, content: Callable[[int, int], bytes | None]) -> None:
    while True:
        try:
            request = os.read(device, 1 << 20)
        except OSError:
            return
        if not request:
            return
        _, opcode, unique, node = struct.unpack_from("=IIQQ", request)
        body = request[40:]
        error, answer = 0, b""
        if opcode == _INIT:
            answer = struct.pack("=IIIIHHIIHHI7I", 7, 31, 1 << 17, 0, 16, 16, 1 << 17, 1, 0, 0, 0, *[0] * 7)
        elif opcode == _LOOKUP and body.rstrip(b"\0") == name:
            answer = struct.pack("=4Q2I", 2, 1, 0, 0, 0, 0) + _attributes(2, size)
        elif opcode == _LOOKUP:
            error = -2
        elif opcode == _GETATTR:
            answer = struct.pack("=QII", 0, 0, 0) + _attributes(node, size)
        elif opcode == _OPEN:
            answer = struct.pack("=QII", 1, 0, 0)
        elif opcode == _READ:
            _, offset, length = struct.unpack_from("=QQI", body)
            read = content(offset, length)
            if read is None:
                continue
            answer = read
        elif opcode == _STATFS:
            answer = struct.pack("=5Q4I6I", 1, 1, 1, 1, 1, 4096, 255, 4096, 0, *[0] * 6)
        elif opcode in (_FORGET, _DESTROY):
            continue
        elif opcode not in (_RELEASE, _FLUSH):
            error = -38
        try:
            os.write(device, struct.pack("=IiQ", 16 + len(answer), error, unique) + answer)
        except OSError:
            return
