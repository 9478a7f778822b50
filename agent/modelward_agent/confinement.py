"""A process that is about to read what a workload wrote gives up everything else first."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
from collections.abc import Sequence

from modelward_agent import privileges

_SET_PDEATHSIG = 1
_NOBODY = 65534
_DESCRIPTORS = 4096
"""More than a worker ever has."""

_libc = ctypes.CDLL(None, use_errno=True)


def confine(kept: Sequence[int], *, memory: int, cpu_s: int) -> None:
    """Give up what is not needed to read open files: no user, group or capability of the host, no other descriptor but the
    standard ones. And end when the thread that started this process does.

    Args:
        kept: the files, in ascending order.
        memory: bytes of address space.

    Raises:
        OSError: the privileges cannot be given up.
    """
    last = kept[-1] if kept else 2
    for limit, value in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CPU, cpu_s),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, last + 16),
    ):
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(limit, (value, value))
    after = 3
    for fd in kept:
        os.closerange(after, fd)
        after = fd + 1
    os.closerange(after, _DESCRIPTORS)
    if os.geteuid() == 0:
        privileges.shed_all()
        os.setgroups([])
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    privileges.confine()
    end_with_starter()


def end_with_starter() -> None:
    """Be killed when the thread ends that started this process: one that hangs must not outlive an agent that was killed. Whoever
    becomes another user has to say it again."""
    _libc.prctl(_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
