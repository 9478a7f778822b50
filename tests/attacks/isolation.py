"""A network of its own for a server: addresses of the outside exist in it and lead nowhere, so that nothing
leaves the machine.
"""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

METADATA = "169.254.169.254"
OUTSIDE = "93.184.216.34"
"""A public address; in the server's network it is the loopback device."""

_CLONE_NEWNET = 0x40000000
_SCRIPT = f'ip link set lo up && ip addr add {METADATA}/32 dev lo && ip addr add {OUTSIDE}/32 dev lo && exec "$@"'

ALONE = ("unshare", "--net", "sh", "-c", _SCRIPT, "sh")
"""Starts the program that follows in a network with nothing but itself, under its own process id."""


@contextmanager
def network_of(pid: int) -> Iterator[None]:
    """The calling thread's new sockets belong to the network of process ``pid``, which has left this one by
    then.
    """
    own = Path("/proc/thread-self/ns/net")
    here = os.open(own, os.O_RDONLY)
    try:
        theirs = Path(f"/proc/{pid}/ns/net")
        deadline = time.monotonic() + 10
        while os.stat(theirs).st_ino == os.fstat(here).st_ino:
            assert time.monotonic() < deadline, f"process {pid} is still in this network"
            time.sleep(0.01)
        there = os.open(theirs, os.O_RDONLY)
        try:
            _enter(there)
        finally:
            os.close(there)
        yield
    finally:
        _enter(here)
        os.close(here)


def _enter(namespace: int) -> None:
    if ctypes.CDLL(None, use_errno=True).setns(namespace, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")
