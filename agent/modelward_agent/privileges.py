"""What each process of the agent may still do once it has started: capabilities, bounding set, no new privileges, no core.

prctl(2) and capset(2) are called through ctypes: the Python bindings for them (python-prctl, pyprctl, pycaps) have had no release
since 2021 and do not know CAP_BPF. All of this is held per *thread*: call it before a process starts its first one.

Loading and attaching programs wants CAP_BPF and CAP_PERFMON, which Linux has since 5.8, not CAP_SYS_ADMIN, but for probes before
Linux 6.6; what each set is for stands beside it.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path


class Cap(IntEnum):
    """Capabilities that the agent has a use for, by their number in ``linux/capability.h``."""

    DAC_READ_SEARCH = 2
    KILL = 5
    SETGID = 6
    SETUID = 7
    SETPCAP = 8
    NET_ADMIN = 12
    SYS_PTRACE = 19
    SYS_ADMIN = 21
    PERFMON = 38
    BPF = 39
    CHECKPOINT_RESTORE = 40


SENDER = frozenset({
    Cap.SYS_PTRACE,          # /proc/PID/exe and /proc/PID/root of processes of other users
    Cap.DAC_READ_SEARCH,     # artifacts and keys that only their owner may read
    Cap.CHECKPOINT_RESTORE,  # /proc/PID/map_files: artifacts that are mapped and have no path any more
    Cap.SETUID, Cap.SETGID,  # the reader of an artifact becomes nobody
    Cap.SETPCAP,             # and empties its bounding set first
    Cap.KILL,                # and is ended when it hangs
})
"""Kept by the sender: nothing of BPF, of the network or of the system's set-up."""

DRAINER_AT_WORK = frozenset({Cap.BPF, Cap.PERFMON})
"""In force in the drainer while it drains: running and attaching programs, reading their maps."""

PROBES = frozenset({
    Cap.SYS_PTRACE, Cap.CHECKPOINT_RESTORE,  # which libraries a process has mapped, and those files
    Cap.DAC_READ_SEARCH,                     # that only their owner may read
    Cap.KILL,                                # whoever looks into them, when that hangs
})
"""Borrowed by the drainer's thread that attaches probes, while it looks at processes."""

PROBES_ONE_BY_ONE = PROBES | {Cap.SYS_ADMIN}
"""The same where probes are perf events: kernel/events/core.c, perf_uprobe_event_init()."""

DRAINER = DRAINER_AT_WORK | SENDER | {
    Cap.NET_ADMIN,           # programs on connects belong to the network
}
"""Kept by the drainer, for the hooks that it opens again after a pause and for the senders that it starts."""

_SET_DUMPABLE, _CAPBSET_READ, _CAPBSET_DROP, _SET_NO_NEW_PRIVS = 4, 23, 24, 38
_CAP_AMBIENT, _CAP_AMBIENT_CLEAR_ALL = 47, 4
_VERSION_3 = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Sets(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def keep(permitted: Iterable[Cap], effective: Iterable[Cap]) -> None:
    """Give up for good everything but ``permitted``, of which ``effective`` is in force; neither this process nor any that it
    starts can get more again. What this process does not have is left out.

    Raises:
        OSError: the kernel refuses.
    """
    kept = set(permitted)
    _empty_bounding_set(kept)
    _prctl(_CAP_AMBIENT, _CAP_AMBIENT_CLEAR_ALL)
    _set(_held() & kept, effective)
    confine()


def confine() -> None:
    """No new privileges by exec, and no memory for a debugger or a core file.

    Raises:
        OSError: the kernel refuses.
    """
    _prctl(_SET_NO_NEW_PRIVS, 1)
    _prctl(_SET_DUMPABLE, 0)


@contextmanager
def raised(after: Iterable[Cap]) -> Iterator[None]:
    """Everything that is permitted is in force within; ``after`` it, only that.

    Raises:
        OSError: the kernel refuses.
    """
    held = _held()
    _set(held, held)
    try:
        yield
    finally:
        _set(held, after)


def lower(effective: Iterable[Cap]) -> None:
    """Only these stay in force in this thread, of what is permitted: one that was started while all was in force has all of it.

    Raises:
        OSError: the kernel refuses.
    """
    _set(_held(), effective)


@contextmanager
def borrowed(wanted: Iterable[Cap]) -> Iterator[None]:
    """Those of ``wanted`` that are permitted are in force within, beside what is in force already.

    Raises:
        OSError: the kernel refuses.
    """
    held, before = _held(), _held(effective=True)
    _set(held, before | (held & frozenset(wanted)))
    try:
        yield
    finally:
        _set(held, before)


def shed_all() -> None:
    """Empty the bounding set of a process that is about to become another user: it keeps nothing and can gain nothing.

    Raises:
        OSError: the kernel refuses.
    """
    _empty_bounding_set(())


def _empty_bounding_set(kept: Iterable[int]) -> None:
    kept = frozenset(kept)
    if Cap.SETPCAP not in _held():
        return  # not for this process to change; without new privileges it is of no use to it either
    last = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
    for number in range(last + 1):
        if number not in kept and _libc.prctl(_CAPBSET_READ, number, 0, 0, 0) == 1:
            _prctl(_CAPBSET_DROP, number)


def _held(*, effective: bool = False) -> frozenset[int]:
    """What is permitted to this thread now, or in force."""
    header, sets = _Header(_VERSION_3, 0), (_Sets * 2)()
    if _libc.capget(ctypes.byref(header), sets):
        raise _error()
    low, high = sets
    mask = low.effective | high.effective << 32 if effective else low.permitted | high.permitted << 32
    return frozenset(number for number in range(64) if mask >> number & 1)


def _set(permitted: Iterable[int], effective: Iterable[int]) -> None:
    allowed = frozenset(permitted)
    masks = [sum(1 << number for number in numbers) for numbers in (allowed & frozenset(effective), allowed)]
    sets = (_Sets * 2)(*(_Sets(masks[0] >> shift & 0xFFFFFFFF, masks[1] >> shift & 0xFFFFFFFF, 0) for shift in (0, 32)))
    if _libc.capset(ctypes.byref(_Header(_VERSION_3, 0)), sets):
        raise _error()


def _prctl(option: int, argument: int) -> None:
    if _libc.prctl(option, argument, 0, 0, 0):
        raise _error()


def _error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))
