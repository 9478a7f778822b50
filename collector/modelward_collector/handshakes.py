"""What a receiver writes to standard error, passed on; with gRPC's words on a refused TLS handshake told as a warning.

gRPC refuses a wrong certificate below Python, and tells of it in its own log alone (1.85: the reason in one line of the trace
``handshaker``, the peer in the next). The supervisor reads it, so that the last words of a receiver that crashes are passed on.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import time
from collections import OrderedDict
from typing import IO

_log = logging.getLogger(__name__)

ENVIRONMENT = {"GRPC_VERBOSITY": "INFO", "GRPC_TRACE": "handshaker"}

EVERY_S = 60.0
"""A peer that tries again and again, and is refused for the same reason, is told of this often."""

MOST_PEERS = 1000
MOST_LINE = 64 << 10

_OF_GRPC = re.compile(rb"([IWEF])\d{4} \d\d:\d\d:\d\d\.\d+ +\d+ [\w./-]+:\d+\] (.*)", re.DOTALL)
_FAILED = re.compile(rb"CallNextHandshakerLocked: error=.*?Ssl handshake failed[^:]*: (?:SSL_ERROR_SSL: )?(.*?)(?:: OK)?\s*$")
_MORE = re.compile(rb"===|src/|third_party/| shutdown=|\s*$")
_PEER = re.compile(rb"endpoint_peer_address=([^,}]{1,100})")

_ABOUT_THE_LEVEL = b"Log level INFO is not suitable"

_REASONS = (
    ("CERTIFICATE_VERIFY_FAILED", "its certificate is not one of an authority in --tls-client-ca, or out of date"),
    ("PEER_DID_NOT_RETURN_A_CERTIFICATE", "it shows no certificate: give the agent --tls-cert and --tls-key"),
    ("WRONG_VERSION_NUMBER", "it does not speak TLS: give the agent --tls-ca"),
    ("HTTP_REQUEST", "it does not speak TLS, but HTTP"),
    ("ALERT_UNKNOWN_CA", "it does not trust the collector's certificate: its --tls-ca must be the authority of --tls-cert"),
    ("ALERT_BAD_CERTIFICATE", "it does not trust the collector's certificate: its --tls-ca must be the authority of --tls-cert"),
)


class Handshakes:
    """Reads the standard error of one receiver."""

    def __init__(self) -> None:
        self._reason: str | None = None
        self._within = False
        self._told: OrderedDict[tuple[str, str], tuple[float, int]] = OrderedDict()

    def read(self, stream: IO[bytes]) -> None:
        """Pass lines on until the stream ends."""
        with stream:
            while line := stream.readline(MOST_LINE):
                if not self.take(line):
                    os.write(sys.stderr.fileno(), line)

    def take(self, line: bytes) -> bool:
        """Whether the line is gRPC's and was dealt with here."""
        if (found := _OF_GRPC.match(line)) is not None:
            self._within = found[1] == b"I" or _ABOUT_THE_LEVEL in found[2]
            failed = _FAILED.match(found[2]) if self._within else None
            self._reason = failed[1].decode("ascii", "replace") if failed else None
            return self._within
        if not self._within or not _MORE.match(line):
            self._within = False
            return False
        if self._reason is not None and (peer := _PEER.search(line)) is not None:
            self._tell(peer[1].decode("ascii", "replace"), self._reason)
            self._reason = None
        return True

    def _tell(self, peer: str, reason: str) -> None:
        words = next((words for key, words in _REASONS if key in reason), "the handshake failed")
        # Whoever tries again comes from another port.
        who, now = (peer.rpartition(":")[0], words), time.monotonic()
        told_at, held_back = self._told.get(who, (-EVERY_S, 0))
        if now - told_at < EVERY_S:
            self._told[who] = (told_at, held_back + 1)
            return
        self._told[who] = (now, 0)
        self._told.move_to_end(who)
        while len(self._told) > MOST_PEERS:
            self._told.popitem(last=False)
        _log.warning("an agent was refused before its stream began", extra={
            "peer": peer, "reason": words, "detail": reason[:300], "more_since": held_back})
