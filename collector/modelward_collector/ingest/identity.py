"""Whose stream it is: the name in the agent's certificate, which our CA signed. Hello's word counts on loopback only."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote

import grpc

from modelward_collector.ingest.neighbours import may_speak

_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?\Z")
"""Host names: letters, digits, dot, hyphen, underscore."""

Context = grpc.aio.ServicerContext[Any, Any]


class IdentityError(Exception):
    """The stream is refused; the message is for the agent's operator."""


def host_name(context: Context, claimed: str, own_port: int) -> str:
    """The name under which this stream's events are filed. ``own_port``: at which the stream arrived.

    Raises:
        IdentityError: the certificate names no host, or the name is none.
    """
    auth = {name: list(values) for name, values in context.auth_context().items()}
    if auth.get("transport_security_type", [b""])[0] == b"ssl":
        return _from_certificate(auth)
    peer = context.peer()
    if not peer.startswith(("ipv4:127.", "ipv6:[::1]", "ipv6:%5B::1%5D", "ipv6:[::ffff:127.", "ipv6:%5B::ffff:127.")):
        raise IdentityError("plaintext is served on loopback only")
    address, _, port = unquote(peer).partition(":")[2].rpartition(":")
    if not may_speak(address.strip("[]"), int(port), own_port):
        raise IdentityError("on loopback without TLS only root and the collector's own user are served")
    return _checked(claimed, "the host name in Hello")


def _from_certificate(auth: dict[str, list[bytes]]) -> str:
    """The subject's common name, else the first DNS name of the subject alternative names."""
    for key in ("x509_common_name", "x509_subject_alternative_name"):
        for value in auth.get(key, []):
            text = value.decode("utf-8", "replace")
            if _NAME.match(text):
                return text
    raise IdentityError("the certificate names no host: its common name or a DNS name must be the host's name")


def _checked(name: str, what: str) -> str:
    if not _NAME.match(name):
        raise IdentityError(f"{what} is not one: letters, digits, dots and hyphens are wanted, at most 253")
    return name
