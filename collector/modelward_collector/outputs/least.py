"""What a process that talks to a stranger gives up first: it needs the store's socket and the network, no more."""

from __future__ import annotations

import ctypes
from pathlib import Path

_PR_SET_DUMPABLE, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT = 4, 24, 38, 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_CAPABILITY_VERSION_3 = 0x20080522
_SYS_CAPSET = 126
"""x86-64 (asm/unistd_64.h)."""

_LAST_CAPABILITY = 63

_libc = ctypes.CDLL(None, use_errno=True)


def give_up_privileges() -> None:
    """No capability, none to be gained by a program run, no core file and no look into this process's memory."""
    for capability in range(_LAST_CAPABILITY + 1):
        # EINVAL beyond those that this kernel knows, EPERM without CAP_SETPCAP: then there is little to drop.
        _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
    _libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    nothing = (ctypes.c_uint32 * 6)()
    # A hardened unit forbids the call, to a process that has no capability anyway.
    if _libc.syscall(_SYS_CAPSET, header, nothing) != 0 and _permitted():
        raise OSError(ctypes.get_errno(), "capset")
    if _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "no_new_privs")
    _libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def _permitted() -> int:
    """The capabilities that this process holds or may take."""
    status = Path("/proc/self/status").read_text("ascii")
    return next(int(line.split()[1], 16) for line in status.splitlines() if line.startswith("CapPrm:"))
