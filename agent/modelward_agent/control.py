"""The line between the drainer and the sender: datagrams on a socket pair, so that neither can block the other.

A message is a JSON list whose first item names it, or ``R`` and the bytes of a record. From the sender: ``stream up problem``,
``reading number|null``, ``sent|stored|quarantined|corrupt number kinds reason``, ``canary id``, ``artifacts [[device,
inode], ...]``, ``late [[process, thread, device, inode, group], ...]`` and records to spool. From the drainer: ``begin
settings``, ``spooled name``, ``status values``, ``result id error`` and ``stop``.
"""

from __future__ import annotations

import json
import socket
from collections import deque
from typing import Any

MAX_MESSAGE = 1 << 17
MAX_BACKLOG = 4096
"""A sender whose drainer has so many messages still to take makes no more of those that can wait."""

_RECORD = b"R"


class ChannelClosed(Exception):
    """The process at the other end is gone."""


class Channel:
    """One end of the line. Neither method waits."""

    def __init__(self, end: socket.socket) -> None:
        self.socket = end
        end.setblocking(False)
        self._unsent: deque[bytes] = deque()
        self.closed = False
        """The other end is gone: whatever is told from now on reaches nobody."""
        self.garbled = 0
        """What the other end said that is no message."""

    @classmethod
    def pair(cls) -> tuple[Channel, socket.socket]:
        """Our end, and the other one to be inherited."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        return cls(ours), theirs

    @property
    def backlog(self) -> int:
        """Messages that the other end has not taken yet; whoever must not lose any stops making more when it grows."""
        return len(self._unsent)

    def tell(self, *message: Any) -> None:
        """Send a message that must arrive, in order; it waits here while the other end is busy."""
        self._unsent.append(json.dumps(message, separators=(",", ":")).encode())
        self.flush()

    def mention(self, *message: Any) -> None:
        """Send a message that may be lost: the next status makes up for it."""
        if self._unsent:
            return
        self._send(json.dumps(message, separators=(",", ":")).encode())

    def record(self, raw: bytes) -> None:
        """Hand over a kernel-style record."""
        self._unsent.append(_RECORD + raw)
        self.flush()

    def flush(self) -> None:
        while self._unsent and self._send(self._unsent[0]):
            self._unsent.popleft()

    def receive(self) -> list[list[Any] | bytes]:
        """All messages that are there: lists, and records as bytes. What is neither is left out and counted.

        Raises:
            ChannelClosed: the other end is gone, and everything it said was read before.
        """
        messages: list[list[Any] | bytes] = []
        for _ in range(4096):
            try:
                raw = self.socket.recv(MAX_MESSAGE)
            except (BlockingIOError, InterruptedError):
                break
            except ConnectionResetError:
                # It ended without reading all that it was told. Said once, before what it said itself and then the end.
                continue
            except OSError as e:
                self.closed = True
                raise ChannelClosed(str(e)) from e
            if not raw:
                self.closed = True
                if messages:
                    break
                raise ChannelClosed("end of file")
            if raw[:1] == _RECORD:
                messages.append(raw[1:])
            elif (message := _parsed(raw)) is not None:
                messages.append(message)
            else:
                self.garbled += 1
        return messages

    def close(self) -> None:
        self.socket.close()

    def _send(self, raw: bytes) -> bool:
        try:
            self.socket.send(raw, socket.MSG_NOSIGNAL)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            # The other end is gone. The reader of this end learns that, with all that was said before.
            self.closed = True
            self._unsent.clear()
            return False
        return True


def _parsed(raw: bytes) -> list[Any] | None:
    try:
        message = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return message if isinstance(message, list) and message and isinstance(message[0], str) else None
