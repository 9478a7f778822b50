"""What an operator may set for the webhook, and what is refused."""

from __future__ import annotations

import os
import ssl
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from modelward_proto.fields import SEVERITIES
from modelward_proto.settings import SettingsError

LEAST_SECRET = 16


def check(url: str | None, secret_file: Path | None, min_severity: str, ca: Path | None, *, loopback: bool) -> None:
    """Refuse a webhook that would be unsafe or cannot work. ``loopback``: whether the URL's host is this machine.

    Raises:
        SettingsError: with one sentence that names the setting and the way out. It never repeats the URL, which may hold a token.
    """
    if min_severity not in SEVERITIES:
        raise SettingsError(f"--webhook-min-severity: one of {', '.join(SEVERITIES)} is wanted, not {min_severity!r}")
    if url is None:
        if secret_file or ca:
            raise SettingsError("--webhook-secret-file and --webhook-ca need --webhook-url as well")
        return
    parts = split(url)
    if parts.scheme == "http" and not loopback:
        raise SettingsError("--webhook-url: detections would cross the network in the clear; https:// is wanted")
    if secret_file is None:
        raise SettingsError(
            "--webhook-url needs --webhook-secret-file: a file with a line of your own, by which the receiver knows who sends")
    if ca is not None:
        try:
            ssl.create_default_context().load_verify_locations(ca)
        except (OSError, ssl.SSLError) as e:
            raise SettingsError(f"--webhook-ca {ca} cannot be read as certificates (PEM): {e}") from e
    secret(secret_file)


def split(url: str) -> SplitResult:
    """The parts of the webhook's URL.

    Raises:
        SettingsError: it is none.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as e:
        raise SettingsError("--webhook-url: https://HOST[:PORT]/PATH is wanted") from e
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0 or not url.isascii() or not url.isprintable():
        raise SettingsError("--webhook-url: https://HOST[:PORT]/PATH is wanted, in ASCII")
    if " " in url or parts.fragment:
        raise SettingsError("--webhook-url: a URL has no spaces, and that of a webhook no '#'")
    if "@" in parts.netloc:
        raise SettingsError("--webhook-url: no user or password belongs before the host; the receiver checks the signature")
    return parts


def shown(url: str) -> str:
    """The URL without its path and query: these may hold a token, and this is for logs and people."""
    parts = split(url)
    return f"{parts.scheme}://{parts.netloc}"


def secret(path: Path) -> bytes:
    """The secret in the file.

    Raises:
        SettingsError: there is none, or it is too short to be one.
    """
    try:
        found = path.read_bytes().strip()
    except OSError as e:
        raise SettingsError(f"--webhook-secret-file {os.fspath(path)}: {e.strerror}") from e
    if len(found) < LEAST_SECRET:
        raise SettingsError(
            f"--webhook-secret-file {os.fspath(path)}: at least {LEAST_SECRET} characters are wanted; "
            "'openssl rand -hex 24' makes some")
    return found
