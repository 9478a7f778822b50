"""The agent's processes: one agent for a state folder, and a sender that is started again when it ends."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from modelward_agent.control import Channel, ChannelClosed

log = logging.getLogger(__name__)

FIRST_BACKOFF_S = 0.5
MAX_BACKOFF_S = 30.0
SETTLED_S = 60.0
"""A sender that ran this long did not fail at its start: the next one comes at once."""
STRIKES = 3
"""A batch during whose reading the sender ended this often is set aside: one batch must not hold back all."""
MAX_READING_S = 60.0
"""Taking one batch apart takes milliseconds."""
LOOKS, LOOK_S = 3, 0.05

# One arena and the system's allocator give back what a burst took; threads of libraries would only wait.
_SMALL_MEMORY = {"MALLOC_ARENA_MAX": "1", "ARROW_DEFAULT_MEMORY_POOL": "system", "OPENBLAS_NUM_THREADS": "1"}


class StateError(Exception):
    """The state folder cannot be used; the message says why."""


class StateLock:
    """Holds a state folder for one agent, until the process ends in whatever way."""

    def __init__(self, state: Path) -> None:
        path = state / "lock"
        try:
            state.mkdir(mode=0o700, parents=True, exist_ok=True)
            status = state.stat()
            if status.st_uid != os.geteuid() or status.st_mode & 0o022:
                raise StateError(f"others may write to the state folder {state}: give the agent a folder of its own")
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as e:
            raise StateError(f"cannot use the state folder {state}: {e.strerror}") from e
        try:
            self._take()
        except OSError as e:
            owner = path.read_text(errors="replace").strip() or "unknown"
            os.close(self._descriptor)
            raise StateError(f"another agent (process {owner}) uses the state folder {state}: "
                             "stop it, or give this one another --state") from e
        with contextlib.suppress(OSError):
            # Over the old one, in the same room: a full disk may give no new one, and the lock holds without it.
            os.pwrite(self._descriptor, f"{os.getpid():<15}\n".encode(), 0)

    def _take(self) -> None:
        """Raises BlockingIOError: another agent has it. A command that only looks has it for a moment."""
        for _ in range(LOOKS):
            with contextlib.suppress(BlockingIOError):
                return fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            time.sleep(LOOK_S)
        return fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def release(self) -> None:
        os.close(self._descriptor)


class SenderProcess:
    """The child that enriches and sends. It is started by :meth:`poll`, and again with a growing delay when it ends."""

    def __init__(self, begin: dict[str, Any], command: tuple[str, ...] = ("-m", "modelward_agent.sender")) -> None:
        self._begin = begin
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: Channel | None = None
        self._started = 0.0
        self._start_at = 0.0
        self._backoff = FIRST_BACKOFF_S
        self._strikes: dict[int, int] = {}
        self._reading: int | None = None
        self._reading_since = 0.0
        self.stream_up = False
        self.problem = ""
        self._garbled = 0

    @property
    def garbled(self) -> int:
        """How often a sender said what cannot even be read."""
        return self._garbled + (self._channel.garbled if self._channel is not None else 0)

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def poll(self) -> tuple[list[list[Any] | bytes], int | None]:
        """What the sender said, and a batch that it cannot survive. Starts a sender when there is none."""
        now = time.monotonic()
        if self._process is None:
            if now >= self._start_at:
                self._start(now)
            return [], None
        if self._reading is not None and now - self._reading_since > MAX_READING_S:
            log.error("the sender hangs in a batch and is ended", extra={"batch": self._reading})
            self._process.kill()
            self._reading_since = now
        try:
            if self._channel is not None:
                self._channel.flush()
                return self._channel.receive(), None
        except ChannelClosed:
            self._garbled, self._channel = self.garbled, None
        return [], self._ended(now)

    def begins(self, number: int | None) -> None:
        """The sender takes this batch apart now; None: it is done with that."""
        self._reading, self._reading_since = number, time.monotonic()

    def tell(self, *message: Any) -> None:
        """A message that the sender may miss: it looks for itself when it starts, and status comes every second."""
        if self._channel is not None:
            self._channel.mention(*message)

    def stop(self, timeout_s: float) -> list[list[Any] | bytes]:
        """Ask the sender to finish, and end it when it does not in time. Returns what it still said."""
        last: list[list[Any] | bytes] = []
        until = time.monotonic() + timeout_s
        if self._channel is not None:
            self._channel.tell("stop")
        while self._channel is not None and time.monotonic() < until:
            try:
                self._channel.flush()
                last += self._channel.receive()
                time.sleep(0.01)
            except ChannelClosed:
                break
        if self._process is not None:
            try:
                self._process.wait(max(0.1, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._process = None
        return last

    def _start(self, now: float) -> None:
        channel, theirs = Channel.pair()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", *self._command, str(theirs.fileno())],
                pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, env={**os.environ, **_SMALL_MEMORY},
            )
        except OSError as e:
            self.problem = f"the sender cannot be started: {e.strerror}"
            log.error("the sender cannot be started", extra={"reason": e.strerror})
            self._delay(now)
            return
        finally:
            theirs.close()
        self._channel, self._started, self._reading = channel, now, None
        channel.tell("begin", self._begin)

    def _ended(self, now: float) -> int | None:
        process, self._process = self._process, None
        self.stream_up = False
        code: int | None = None
        if process is not None:
            try:
                code = process.wait(1.0)
            except subprocess.TimeoutExpired:
                process.kill()
                code = process.wait()
        self.problem = f"the sender ended with status {code} and is started again"
        log.error("the sender ended and is started again", extra={"status": code, "batch": self._reading})
        if now - self._started > SETTLED_S:
            self._backoff = FIRST_BACKOFF_S
        self._delay(now)
        return self._strike()

    def _delay(self, now: float) -> None:
        self._start_at = now + self._backoff
        self._backoff = min(self._backoff * 2, MAX_BACKOFF_S)

    def _strike(self) -> int | None:
        number, self._reading = self._reading, None
        if number is None:
            return None
        count = self._strikes.pop(number, 0) + 1
        if count >= STRIKES:
            return number
        self._strikes = {number: count}
        return None
