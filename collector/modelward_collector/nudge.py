"""A word from the store to the outputs: detections were stored. It may be lost; the outputs look by themselves too, later."""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path


class Nudge:
    """Sends the word, and never waits."""

    def __init__(self, path: Path) -> None:
        self._path = os.fspath(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)

    def send(self) -> None:
        """Wake the outputs process, where there is one. A full queue means that it is woken already."""
        with contextlib.suppress(OSError):
            self._socket.sendto(b"1", self._path)

    def close(self) -> None:
        """Give the socket back."""
        self._socket.close()
