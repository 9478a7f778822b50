"""The lowest priority that Linux has for a process: reading artifacts must not be felt by servers on the same host."""

from __future__ import annotations

import contextlib
import ctypes
import os

_IOPRIO_SET = {"x86_64": 251, "aarch64": 30, "riscv64": 30, "loongarch64": 30, "ppc64le": 273, "s390x": 282}
_PROCESS, _IDLE_CLASS = 1, 3 << 13

_libc = ctypes.CDLL(None, use_errno=True)


def yield_to_all() -> None:
    """Nice 19, and the disk only while nobody else wants it. glibc has no wrapper for ioprio_set(2)."""
    with contextlib.suppress(OSError):
        os.nice(19)
    number = _IOPRIO_SET.get(os.uname().machine)
    if number is not None:
        _libc.syscall(number, _PROCESS, 0, _IDLE_CLASS)
