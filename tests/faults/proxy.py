"""A network that breaks: a TCP proxy that cuts connections in the middle of a message."""

from __future__ import annotations

import contextlib
import random
import selectors
import socket
import struct
import threading

RESET = struct.pack("ii", 1, 0)
"""SO_LINGER: close at once, with a reset, and forget what is under way."""


class CuttingProxy:
    """Passes bytes on between clients and ``target``; cuts each connection after a random number of them, so many times."""

    def __init__(self, target: str, chance: random.Random, *, cuts: int, most_bytes: int) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._chance, self._most = chance, most_bytes
        self.left = cuts
        self.cut = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client = self._listener.accept()[0]
                threading.Thread(target=self._pass, args=(client,), daemon=True).start()

    def _pass(self, client: socket.socket) -> None:
        limit = self._chance.randrange(1, self._most) if self.left > 0 else None
        self.left -= 1
        with client, contextlib.suppress(OSError), socket.create_connection(self._target) as server:
            ends = {client: server, server: client}
            watch = selectors.DefaultSelector()
            for end in ends:
                watch.register(end, selectors.EVENT_READ)
            while True:
                for key, _ in watch.select():
                    source = key.fileobj
                    assert isinstance(source, socket.socket)
                    data = source.recv(16_384 if limit is None else min(16_384, limit))
                    if not data:
                        return
                    ends[source].sendall(data)
                    if limit is not None and (limit := limit - len(data)) <= 0:
                        self.cut += 1
                        for end in ends:
                            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                        return
