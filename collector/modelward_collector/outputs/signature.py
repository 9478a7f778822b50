"""The signature of a delivery: HMAC-SHA256 over its time and body, so that the receiver knows who sent it, and when."""

from __future__ import annotations

import hashlib
import hmac

VERSION = "v1"


def sign(secret: bytes, timestamp: str, body: bytes) -> str:
    """Value of ``X-Modelward-Signature``. ``timestamp``: seconds since 1970, as sent in ``X-Modelward-Timestamp``."""
    return f"{VERSION}={hmac.new(secret, timestamp.encode() + b'.' + body, hashlib.sha256).hexdigest()}"
