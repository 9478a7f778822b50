"""The hint socket: anybody on the host may send to it, the kernel says who it was, and nobody can make the agent busy by it."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import struct
import time
from collections import OrderedDict
from pathlib import Path
from typing import Any, Protocol

from modelward_agent.hints.hint import MOST_BYTES, Hint, parse
from modelward_agent.sensor.doors import DoorReport

EFFECT = "declared"
_AT_ONCE = 64
_A_SECOND = 20
"""Of one process."""
_ALL_A_SECOND = 100
"""Of all together: one costs the kernel side a walk over the threads of a process."""
_PROCESSES = 1024
_SO_TIMESTAMPNS = 35
_CREDENTIALS, _TIME = struct.Struct("=3i"), struct.Struct("=qq")
_ROOM = socket.CMSG_SPACE(_CREDENTIALS.size) + socket.CMSG_SPACE(_TIME.size)
"""For the two ancillary messages and no more: descriptors that somebody sends along are closed by the kernel."""


class Listener(Protocol):
    """Who is told of declarations (:class:`modelward_agent.sensor.sensor.Sensor`)."""

    def declare(self, hint: Hint) -> None: ...


class Hints:
    """Reads declarations and hands them on. Neither waits nor raises once it is open."""

    def __init__(self, path: str) -> None:
        """``path``: where to listen; empty for nowhere."""
        self._path = path
        self._socket: socket.socket | None = None
        self._counts: OrderedDict[int, int] = OrderedDict()
        self._second = 0
        self._all = 0
        self.dropped = 0
        self.reason = "not asked for"
        if path:
            self._open()

    def deliver(self, listener: Listener) -> None:
        """Hand on what was said since the last call, a bounded part of it."""
        if self._socket is None:
            return
        for _ in range(_AT_ONCE):
            try:
                raw, ancillary, flags, _ = self._socket.recvmsg(MOST_BYTES, _ROOM, socket.MSG_DONTWAIT)
            except OSError:
                return
            pid, sent_ns = _said_by(ancillary)
            if not pid:
                continue  # of a process that has no number here
            if flags & socket.MSG_TRUNC or not self._may(pid):
                self.dropped += 1
            elif hint := parse(raw, pid, sent_ns):
                listener.declare(hint)

    def doors(self) -> list[DoorReport]:
        """How declarations are heard, beside the doors of the kernel's effects."""
        if not self._path:
            return []
        dropped = f"; {self.dropped} were dropped, more came than {_A_SECOND} a second of one process" if self.dropped else ""
        door, loss = ("unix socket", "") if self._socket is not None else ("none", "what processes say of their own phase")
        return [DoorReport(EFFECT, door, self.reason + dropped, False, loss)]

    def close(self) -> None:
        """Stop listening, and take the socket's name away."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
            with contextlib.suppress(OSError):
                os.unlink(self._path)

    def _open(self) -> None:
        end = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        try:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            end.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
            _make_folder(Path(self._path).parent)
            _remove_stale(self._path)
            end.bind(self._path)
            os.chmod(self._path, 0o666)
        except OSError as e:
            end.close()
            self.reason = f"cannot listen at {self._path}: {e.strerror or e}"
            return
        self._socket = end
        self.reason = f"listening at {self._path}"

    def _may(self, pid: int) -> bool:
        now = int(time.monotonic())
        if now != self._second:
            self._second, self._all = now, 0
            self._counts.clear()
        count = self._counts[pid] = self._counts.get(pid, 0) + 1
        if len(self._counts) > _PROCESSES:
            self._counts.popitem(last=False)
        if count > _A_SECOND:
            return False  # and takes nothing from others
        self._all += 1
        return self._all <= _ALL_A_SECOND


def _said_by(ancillary: list[tuple[int, int, bytes]]) -> tuple[int, int]:
    """Process (0: none that is seen here) and boot time of sending."""
    pid, sent_ns = 0, time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    for level, kind, data in ancillary:
        if level != socket.SOL_SOCKET:
            continue
        if kind == socket.SCM_CREDENTIALS and len(data) == _CREDENTIALS.size:
            pid = _CREDENTIALS.unpack(data)[0]
        elif kind == _SO_TIMESTAMPNS and len(data) == _TIME.size:
            seconds, nanoseconds = _TIME.unpack(data)
            sent_ns -= max(0, time.time_ns() - seconds * 1_000_000_000 - nanoseconds)
        elif kind == socket.SCM_RIGHTS:
            _close_all(data)
    return pid, sent_ns


def _close_all(data: bytes) -> None:
    for (fd,) in struct.iter_unpack("=i", data[: len(data) & ~3]):
        with contextlib.suppress(OSError):
            os.close(fd)


def _make_folder(folder: Path) -> None:
    """Everybody must be able to get to the socket, and nobody to list what else is there."""
    if not folder.is_dir():
        folder.mkdir(parents=True)
        folder.chmod(0o711)


def _remove_stale(path: str) -> None:
    """Remove a socket on which nobody listens any more. Raises OSError: somebody does, or it is no socket."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise OSError(errno.EEXIST, "there is something else than a socket")
    except FileNotFoundError:
        return
    probe: Any = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        probe.connect(path)
    except ConnectionRefusedError:
        os.unlink(path)
    else:
        raise OSError(errno.EADDRINUSE, "another agent listens there")
    finally:
        probe.close()
