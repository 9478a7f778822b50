"""Addresses to serve on: taken when the collector starts, so that a port in use is an error at once, not in a process later."""

from __future__ import annotations

import socket

from modelward_collector.settings import join_address, split_address


class AddressError(Exception):
    """An address cannot be served on; the message names it and the way out."""


def reserve(address: str, name: str) -> tuple[str, socket.socket]:
    """Hold a port without listening, for processes that bind it too with SO_REUSEPORT. Port 0 becomes a free one.

    Returns:
        The address with its port, and the socket to keep open.

    Raises:
        AddressError: another program listens there, or the address is not of this machine.
    """
    family, host, port = _resolve(address, name)
    # Without SO_REUSEPORT first: with it, a second collector would share the port unnoticed.
    with _bound(family, host, port, address, name, reuse=False) as probe:
        port = probe.getsockname()[1]
    held = _bound(family, host, port, address, name, reuse=True)
    return join_address(split_address(address, name)[0], port), held


def free(address: str, name: str) -> str:
    """The address, with a free port for port 0.

    Raises:
        AddressError: as for :func:`reserve`.
    """
    family, host, port = _resolve(address, name)
    with _bound(family, host, port, address, name, reuse=False) as probe:
        return join_address(split_address(address, name)[0], probe.getsockname()[1])


def answers(address: str) -> bool:
    """Whether something accepts connections there."""
    host, port = split_address(address, "address")
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    try:
        with socket.create_connection((host, port), timeout=0.5):
            return True
    except OSError:
        return False


def _resolve(address: str, name: str) -> tuple[socket.AddressFamily, str, int]:
    host, port = split_address(address, name)
    try:
        family, _, _, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except socket.gaierror as e:
        raise AddressError(f"{name} {address}: {e.strerror}") from e
    return family, str(place[0]), port


def _bound(family: socket.AddressFamily, host: str, port: int, address: str, name: str, *, reuse: bool) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        if reuse:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        else:
            # Connections of an earlier run in TIME_WAIT are no obstacle.
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        made.bind((host, port))
    except OSError as e:
        made.close()
        raise AddressError(f"{name} {address}: {e.strerror}; another program may be serving there") from e
    return made
