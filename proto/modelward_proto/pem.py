"""Certificate files, looked at before anything starts: a library that reads them later says less."""

from __future__ import annotations

import ssl
from pathlib import Path


class PemError(ValueError):
    """Files that cannot be used; the message names them and says why."""


def check_pair(certificate: Path, key: Path) -> None:
    """Whether these are a certificate and its own key, which needs no password.

    Raises:
        PemError: they are not.
    """
    try:
        # The empty password: a key that wants one is refused, and nobody is asked at a terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(certificate, key, password="")
    except (OSError, ValueError) as e:
        raise PemError(f"{certificate} and {key} are no certificate and its key (without a password): {e}") from e


def check_authorities(certificates: Path) -> None:
    """Whether this file holds certificates to trust.

    Raises:
        PemError: it does not.
    """
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(certificates)
    except (OSError, ValueError) as e:
        raise PemError(f"{certificates} holds no certificates to trust: {e}") from e
