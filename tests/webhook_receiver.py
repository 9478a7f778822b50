"""A receiver of webhooks for tests: a real HTTP server that keeps what it is sent and answers as it is told."""

from __future__ import annotations

import hashlib
import hmac
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.certificates import Pair

SECRET = b"a secret of the tests, long enough"


@dataclass(frozen=True)
class Delivery:
    """One request, as it arrived."""

    id: str
    path: str
    headers: dict[str, str]
    body: bytes
    status: int
    """What was answered."""

    @property
    def document(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found

    @property
    def detection(self) -> dict[str, Any]:
        found: dict[str, Any] = self.document["detection"]
        return found

    def is_signed(self, secret: bytes = SECRET) -> bool:
        """As a receiver of somebody else's would check it: from the documentation alone."""
        timestamp = self.headers["x-modelward-timestamp"]
        wanted = "v1=" + hmac.new(secret, timestamp.encode() + b"." + self.body, hashlib.sha256).hexdigest()
        fresh = abs(time.time() - int(timestamp)) < 300
        return fresh and hmac.compare_digest(wanted, self.headers["x-modelward-signature"])


@dataclass
class Receiver:
    """``answer`` gives status, headers and body for each request; by default it takes everything."""

    url: str = ""
    answer: Callable[[Delivery], tuple[int, dict[str, str], bytes]] = lambda delivery: (204, {}, b"")
    taken: list[Delivery] = field(default_factory=list)
    """Answered with 2xx, in the order of arrival."""
    refused: list[Delivery] = field(default_factory=list)
    port: int = 0

    @property
    def ids(self) -> list[str]:
        """Deliveries that were taken, each at its first arrival."""
        return list(dict.fromkeys(d.id for d in self.taken))

    def wait(self, condition: Callable[[Receiver], bool], timeout_s: float = 40) -> None:
        until = time.monotonic() + timeout_s
        while not condition(self):
            assert time.monotonic() < until, f"taken {len(self.taken)}, refused {len(self.refused)}"
            time.sleep(0.05)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    receiver: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        arrived = Delivery(headers.get("x-modelward-delivery", ""), self.path, headers, body, 0)
        status, more, said = self.receiver.answer(arrived)
        kept = Delivery(arrived.id, arrived.path, headers, body, status)
        # Kept before the answer: what a client that is killed meanwhile never hears of was delivered all the same.
        (self.receiver.taken if 200 <= status < 300 else self.receiver.refused).append(kept)
        self.send_response(status)
        for name, value in more.items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("content-length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed is what these tests are about."""


@contextmanager
def listening(receiver: Receiver, pair: Pair | None = None) -> Iterator[Receiver]:
    """Serve on the receiver's port, or on a free one, until the context is left; then connections are refused."""
    handler = type("Handler", (_Handler,), {"receiver": receiver})
    server = _Server(("127.0.0.1", receiver.port), handler)
    if pair is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair.certificate, pair.key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    receiver.port = server.server_address[1]
    receiver.url = f"{'https' if pair else 'http'}://localhost:{receiver.port}/hook?token=abc123"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def secret_file(folder: Path) -> Path:
    """The secret as an operator's file."""
    path = folder / "webhook-secret"
    path.write_bytes(SECRET + b"\n")
    path.chmod(0o600)
    return path
