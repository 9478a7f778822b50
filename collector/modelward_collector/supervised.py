"""One process under the supervisor: started, watched through a pidfd, started again with growing pauses."""

from __future__ import annotations

import ctypes
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import IO

from modelward_collector.child import READY_VARIABLE

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)

FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 10.0
LEISURE_S = 60.0
"""The longest pause of a process that the collector can do without."""

STEADY_S = 30.0
"""A process that served this long starts again with the first pause."""


class Supervised:
    """A process of the collector. ``tells``: it writes to the descriptor in MODELWARD_READY_FD when it serves.

    ``essential``: without it the collector is none; one that is not may fail as often as it likes. ``listen``: reads what it
    writes to standard error, on a thread of its own.
    """

    def __init__(self, name: str, module: str, environment: Mapping[str, str], selector: selectors.BaseSelector,
                 index: int | None = None, *, tells: bool = True, essential: bool = True,
                 listen: Callable[[IO[bytes]], None] | None = None) -> None:
        self.name = name
        self.title = name if not index else f"{name} {index}"
        self.tells = tells
        self.essential = essential
        self._listen = listen
        self.ready = False
        self.was_ready = False
        self.crashes = 0
        self.pause_s = FIRST_PAUSE_S
        self.last_pid = 0
        self._module = module
        self._environment = dict(environment)
        self._selector = selector
        self._process: subprocess.Popen[bytes] | None = None
        self._pidfd = -1
        self._pipe = -1
        self._started = 0.0
        self._due: float | None = None

    @property
    def running(self) -> bool:
        """Whether it was started and not yet seen to have ended."""
        return self._process is not None

    def start(self) -> None:
        """Start the process. It dies with this one, whatever kills this one."""
        environment, write = self._environment, -1
        pass_fds: tuple[int, ...] = ()
        if self.tells:
            self._pipe, write = os.pipe2(os.O_CLOEXEC)
            os.set_blocking(self._pipe, False)
            environment, pass_fds = environment | {READY_VARIABLE: str(write)}, (write,)
        supervisor = os.getpid()

        def die_with_parent() -> None:
            _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if os.getppid() != supervisor:
                os._exit(1)

        # A session of its own: Ctrl-C in a terminal reaches the supervisor alone, which stops all in order.
        self._process = subprocess.Popen(
            [sys.executable, "-m", self._module], env=environment, pass_fds=pass_fds, stdin=subprocess.DEVNULL,
            stderr=None if self._listen is None else subprocess.PIPE, start_new_session=True, preexec_fn=die_with_parent)
        if self._listen is not None:
            threading.Thread(target=self._listen, args=(self._process.stderr,), name=f"{self.title} says", daemon=True).start()
        if write >= 0:
            os.close(write)
            self._selector.register(self._pipe, selectors.EVENT_READ)
        self.last_pid = self._process.pid
        self._pidfd = os.pidfd_open(self._process.pid)
        self._selector.register(self._pidfd, selectors.EVENT_READ)
        self._started = time.monotonic()
        self._due = None
        self.ready = False

    def note_ready(self, check: Callable[[Supervised], bool]) -> None:
        """See whether it has become ready: by its word, or by ``check`` where it says nothing."""
        if self.ready or self._process is None:
            return
        if not self.tells:
            self.ready = check(self)
        elif self._pipe >= 0:
            try:
                self.ready = bool(os.read(self._pipe, 4096))
            except BlockingIOError:
                return
            self._close_pipe()
        self.was_ready = self.was_ready or self.ready

    def ended(self) -> int | None:
        """Exit status, once, when the process has ended (negative: the signal that killed it)."""
        if self._process is None or (status := self._process.poll()) is None:
            return None
        if self.ready and time.monotonic() - self._started > STEADY_S:
            self.crashes = 0
        self.pause_s = min(LONGEST_PAUSE_S if self.essential else LEISURE_S, FIRST_PAUSE_S * 2 ** min(self.crashes, 10))
        self.crashes += 1
        self._due = time.monotonic() + self.pause_s
        self._forget()
        return status

    def due_in(self) -> float | None:
        """Seconds until it is to be started again; None when it runs."""
        return None if self._due is None else max(0.0, self._due - time.monotonic())

    def restart_if_due(self) -> None:
        """Start it again when its pause is over."""
        if self._due is not None and time.monotonic() >= self._due:
            self.start()

    def terminate(self) -> None:
        """Ask it to stop."""
        self._due = None
        if self._process is not None:
            self._process.terminate()

    def wait_ended(self, timeout_s: float) -> bool:
        """Whether it has ended within that time."""
        if self._process is None:
            return True
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        self._forget()
        return True

    def kill(self) -> None:
        """End it now."""
        self._due = None
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._forget()

    def _forget(self) -> None:
        self._process = None
        self.ready = False
        self._close_pipe()
        self._selector.unregister(self._pidfd)
        os.close(self._pidfd)

    def _close_pipe(self) -> None:
        if self._pipe >= 0:
            self._selector.unregister(self._pipe)
            os.close(self._pipe)
            self._pipe = -1
