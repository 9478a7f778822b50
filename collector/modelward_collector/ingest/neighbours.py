"""Who on this machine holds the other end of a loopback connection: without TLS that is all there is to know an agent by.

A model server that was taken over can reach 127.0.0.1 too. It must not be able to speak as the agent, so only root, as whom the
agent runs, and the collector's own user are served there.
"""

from __future__ import annotations

import os
from pathlib import Path

_ESTABLISHED = "01"


def may_speak(port: int, own_port: int) -> bool:
    """Whether the process at ``port``, connected to our ``own_port``, runs as root or as our own user."""
    owners = _owners(port, own_port)
    return bool(owners) and owners <= {0, os.geteuid()}


def _owners(port: int, own_port: int) -> set[int]:
    """User ids of established sockets with these local and remote ports (proc(5): /proc/net/tcp)."""
    found: set[int] = set()
    for name in ("tcp", "tcp6"):
        try:
            lines = Path("/proc/net", name).read_text("ascii").splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            columns = line.split()
            local, remote, state = columns[1], columns[2], columns[3]
            if state == _ESTABLISHED and _port(local) == port and _port(remote) == own_port:
                found.add(int(columns[7]))
    return found


def _port(address: str) -> int:
    return int(address.rpartition(":")[2], 16)
