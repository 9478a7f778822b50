"""A process that is about to read what a workload wrote gives up everything else first."""

from __future__ import annotations

import contextlib
import os
import resource

from modelward_agent import privileges

_NOBODY = 65534
_DESCRIPTORS = 1024
"""More than a worker ever has."""


def confine(fd: int, *, memory: int, cpu_s: int) -> None:
    """Give up what is not needed to read one open file: no user, group or capability of the host, no other descriptor but the
    standard ones.

    Args:
        fd: the file; -1 when it need not be read.
        memory: bytes of address space.

    Raises:
        OSError: the privileges cannot be given up.
    """
    for limit, value in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CPU, cpu_s),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, 32),
    ):
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(limit, (value, value))
    os.closerange(3, max(fd, 3))
    os.closerange(max(fd + 1, 3), _DESCRIPTORS)
    if os.geteuid() == 0:
        privileges.shed_all()
        os.setgroups([])
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    privileges.confine()
