"""Who on this machine holds the other end of a loopback connection: without TLS that is all there is to know an agent by.

A model server that was taken over can reach 127.0.0.1 too. It must not be able to speak as the agent, so only root, as whom the
agent runs, and the collector's own user are served there.
"""

from __future__ import annotations

import os
import sys
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

_ESTABLISHED = "01"


def may_speak(address: str, port: int, own_port: int) -> bool:
    """Whether the process at ``address`` and ``port``, connected to our ``own_port``, runs as root or as our own user."""
    owners = _owners(_plain(ip_address(address)), port, own_port)
    return bool(owners) and owners <= {0, os.geteuid()}


def _owners(address: IPv4Address | IPv6Address, port: int, own_port: int) -> set[int]:
    """User ids of established sockets at this address and port, connected to ``own_port`` (proc(5): /proc/net/tcp).

    The port alone would not do: there is one of the same number at each address of 127.0.0.0/8, so whoever ends a connection
    before it is looked up would be taken for root, where root has one at another address.
    """
    found: set[int] = set()
    for name in ("tcp", "tcp6"):
        try:
            lines = Path("/proc/net", name).read_text("ascii").splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            columns = line.split()
            local, remote, state, user, inode = columns[1], columns[2], columns[3], columns[7], columns[9]
            # Without an inode nobody holds it: it waits to be accepted, and older kernels say 0 for its user.
            if (state == _ESTABLISHED and inode != "0" and _port(local) == port and _port(remote) == own_port
                    and _address(local) == address):
                found.add(int(user))
    return found


def _port(end: str) -> int:
    return int(end.rpartition(":")[2], 16)


def _address(end: str) -> IPv4Address | IPv6Address:
    """Of words in the machine's own byte order."""
    text = end.partition(":")[0]
    words = (int(text[at : at + 8], 16) for at in range(0, len(text), 8))
    return _plain(ip_address(b"".join(word.to_bytes(4, sys.byteorder) for word in words)))


def _plain(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """An IPv4 address that an IPv6 socket shows, as itself."""
    return getattr(address, "ipv4_mapped", None) or address
