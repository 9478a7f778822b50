"""Socket addresses as text: one look at each different address, not at each event."""

from __future__ import annotations

import ipaddress
from typing import Any

import numpy as np
import numpy.typing as npt

AF_INET, AF_INET6 = 2, 10
UNIX = 3
"""The record's number for a unix socket (``network.transport``)."""


def texts(family: npt.NDArray[Any], address: npt.NDArray[Any]) -> tuple[list[str], npt.NDArray[Any]]:
    """Different addresses as text, and for each row the index of its own.

    Args:
        family: (n,) address family.
        address: (n, 16) bytes, IPv4 in the first four.
    """
    key = np.zeros((len(family), 18), np.uint8)
    key[:, :16] = address
    key[:, 16:] = family.astype("<u2").view(np.uint8).reshape(-1, 2)
    different, first, index = np.unique(key.view("V18").reshape(-1), return_index=True, return_inverse=True)
    del different
    return [text(int(family[row]), address[row].tobytes()) for row in first.tolist()], index


def text(family: int, address: bytes) -> str:
    """``192.0.2.1``, ``2001:db8::1``; an IPv4 address mapped into IPv6 is shown as IPv4; empty for other
    families."""
    if family == AF_INET:
        return str(ipaddress.IPv4Address(address[:4]))
    if family == AF_INET6:
        six = ipaddress.IPv6Address(address[:16])
        return str(six.ipv4_mapped or six)
    return ""
