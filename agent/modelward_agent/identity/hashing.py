"""sha256 of a whole file, slowly: within a byte budget a second, and without pushing the server's pages
out of memory."""

from __future__ import annotations

import ctypes
import hashlib
import os
import time
from collections.abc import Callable

_CHUNK = 4 << 20
_CACHESTAT = 451
_WRITE_AND_WAIT = 7

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


class _Range(ctypes.Structure):
    _fields_ = (("offset", ctypes.c_uint64), ("length", ctypes.c_uint64))


class _CacheStat(ctypes.Structure):
    _fields_ = (
        ("cached", ctypes.c_uint64),
        ("dirty", ctypes.c_uint64),
        ("writeback", ctypes.c_uint64),
        ("evicted", ctypes.c_uint64),
        ("recently_evicted", ctypes.c_uint64),
    )


class FileChanged(Exception):
    """The file was written to while it was read: no digest of it would be true."""


def sha256(fd: int, *, bytes_per_s: int, progress: Callable[[int], None] = lambda _: None) -> str:
    """Digest of an open file, 64 hex digits.

    Args:
        progress: told the number of bytes read so far, after each chunk.

    Raises:
        FileChanged, OSError
    """
    before = os.fstat(fd)
    digest = hashlib.sha256()
    read, began = 0, time.monotonic()
    while True:
        was_cached = _is_cached(fd, read)
        # Written out, a page is protected: a process that has it mapped cannot write to it again without a new ctime.
        _libc.sync_file_range(fd, ctypes.c_int64(read), ctypes.c_int64(_CHUNK), _WRITE_AND_WAIT)
        chunk = os.pread(fd, _CHUNK, read)
        if not chunk:
            break
        digest.update(chunk)
        if not was_cached:
            os.posix_fadvise(fd, read, len(chunk), os.POSIX_FADV_DONTNEED)
        read += len(chunk)
        progress(read)
        ahead = read / bytes_per_s - (time.monotonic() - began)
        if ahead > 0:
            time.sleep(ahead)
    after = os.fstat(fd)
    if (before.st_size, before.st_mtime_ns, before.st_ctime_ns) != (
        after.st_size,
        after.st_mtime_ns,
        after.st_ctime_ns,
    ):
        raise FileChanged("was written to while it was read")
    return digest.hexdigest()


def _is_cached(fd: int, offset: int) -> bool:
    """Whether most of the next chunk was in memory already: then somebody uses it, and it stays. Linux
    6.5; else no."""
    span, found = _Range(offset, _CHUNK), _CacheStat()
    if _libc.syscall(_CACHESTAT, fd, ctypes.byref(span), ctypes.byref(found), 0) != 0:
        return False
    size = min(_CHUNK, max(0, os.fstat(fd).st_size - offset))
    return bool(found.cached * os.sysconf("SC_PAGESIZE") * 2 > size)
