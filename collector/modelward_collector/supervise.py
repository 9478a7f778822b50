"""The supervisor: starts the collector's processes in order, starts again what crashes, stops them so that no answer is lost."""

from __future__ import annotations

import importlib.util
import logging
import os
import selectors
import shutil
import signal
import socket
import time
from contextlib import ExitStack
from types import TracebackType

from modelward_proto import logs
from modelward_proto.notify import notify

from modelward_collector import handshakes
from modelward_collector.child import GIVE_UP, INDEX_VARIABLE
from modelward_collector.ports import AddressError, answers, free, reserve
from modelward_collector.settings import PREFIX, CollectorSettings
from modelward_collector.supervised import Supervised

__all__ = ["AddressError", "Supervisor"]

_log = logging.getLogger(__name__)

START_S = 120.0
"""A store of many parts takes long to open; a start that takes longer than this is given up."""

STOP_S = {"receiver": 12.0, "outputs": 3.0, "web": 5.0, "store": 20.0}
FIRST_FAILURES = 3
"""Crashes of a process that was never ready, after which the collector gives up: it would hardly be better later."""

_BOUNDS = {
    "POLARS_MAX_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    # glibc, polars and the engine each keep freed memory by default; short-lived batches must not pile up in all three.
    "MALLOC_ARENA_MAX": "2",
    "MALLOC_MMAP_THRESHOLD_": "262144",
    "MALLOC_TRIM_THRESHOLD_": "1048576",
    "_RJEM_MALLOC_CONF": "dirty_decay_ms:500,muzzy_decay_ms:0,narenas:2",
    "MALLOC_CONF": "dirty_decay_ms:500,muzzy_decay_ms:0",
    "JE_MALLOC_CONF": "dirty_decay_ms:500,muzzy_decay_ms:0",
    "GRPC_VERBOSITY": "ERROR",
    "GRPC_ENABLE_FORK_SUPPORT": "0",
}
"""Thread pools and allocators of the libraries, which would take what the machine has."""


class Supervisor:
    """Holds the data folder, the ports and the processes of one collector."""

    def __init__(self, settings: CollectorSettings) -> None:
        self._settings = settings
        self._stack = ExitStack()
        self._selector = selectors.DefaultSelector()
        self._stopping = False
        self._children: list[Supervised] = []

    def __enter__(self) -> Supervisor:
        """Claim folder and ports.

        Raises:
            DataFolderError: the folder is in use or cannot be used.
            AddressError: an address is in use.
        """
        folder = self._settings.folder
        try:
            folder.create()
            self._stack.enter_context(folder.lock())
            for leftover in (folder.metrics, folder.scratch):
                shutil.rmtree(leftover, ignore_errors=True)
            folder.create()
            listen, held = reserve(self._settings.listen, "--listen")
            self._stack.enter_context(held)
            self._settings = _with_addresses(self._settings, listen, free(self._settings.http, "--http"))
        except BaseException:
            self._stack.close()
            raise
        self._children = self._make()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        for child in reversed(self._children):
            child.kill()
        self._selector.close()
        self._stack.close()

    def run(self) -> str:
        """Serve until a signal comes; then the empty text. Else why the collector gave up."""
        self._watch_signals()
        reason = self._start()
        while not reason and not self._stopping:
            self._wait(None)
            reason = self._tend()
        if reason:
            _log.critical("the collector gives up", extra={"reason": reason})
        else:
            _log.info("stopping")
        notify("STOPPING=1")
        self._stop()
        return reason

    def _make(self) -> list[Supervised]:
        environment = {k: v for k, v in os.environ.items() if k != INDEX_VARIABLE}
        environment |= _BOUNDS | self._settings.environment()
        environment["PROMETHEUS_MULTIPROC_DIR"] = str(self._settings.folder.metrics)
        made = [Supervised("store", "modelward_collector.store.process", environment, self._selector)]
        for index in range(self._settings.receivers):
            own = environment | {INDEX_VARIABLE: str(index)}
            listen = None
            if self._settings.tls_cert is not None:
                own |= handshakes.ENVIRONMENT | {f"{PREFIX}_LOG_FORMAT": logs.resolved(self._settings.log_format)}
                listen = handshakes.Handshakes().read
            made.append(Supervised("receiver", "modelward_collector.ingest.receiver", own, self._selector, index, listen=listen))
        if self._settings.webhook_url is not None:
            made.append(Supervised("outputs", "modelward_collector.outputs", environment, self._selector, essential=False))
        if _exists("modelward_collector.web"):
            made.append(Supervised("web", "modelward_collector.web", environment, self._selector, tells=False))
        else:
            _log.error("there is no web process in this installation: events are kept, and no page shows them")
        return made

    def _start(self) -> str:
        started = time.monotonic()
        # All at once: receivers wait for the store by themselves, as they do when it crashes.
        for child in self._children:
            child.start()
        needed = [child for child in self._children if child.essential]
        while not all(child.ready for child in needed):
            if self._stopping:
                return ""
            self._wait(0.1)
            if reason := self._tend():
                return reason
            if time.monotonic() - started > START_S:
                return f"{next(c.title for c in needed if not c.ready)} was not ready after {START_S:.0f} s"
        scheme = "https" if self._settings.http_tls_cert else "http"
        notify("READY=1")
        _log.info("ready", extra={
            "agents": self._settings.listen, "http": f"{scheme}://{self._settings.http}/", "pid": os.getpid(),
            "started_in_s": round(time.monotonic() - started, 1)})
        return ""

    def _tend(self) -> str:
        """Look after all processes. Returns why to give up, if so."""
        for child in self._children:
            child.note_ready(lambda c: c.name == "web" and answers(self._settings.http))
            status = child.ended()
            if status is not None and not self._stopping:
                self._forget_metrics(child.last_pid)
                if status == GIVE_UP and child.essential:
                    return f"{child.title} cannot work here; its log says why"
                if child.essential and not child.was_ready and child.crashes >= FIRST_FAILURES:
                    return f"{child.title} ended {child.crashes} times before it was ready; its log says why"
                _log.error("a process ended; it is started again", extra={
                    "part": child.title, "status": status, "again_in_s": round(child.pause_s, 1)})
            child.restart_if_due()
        return ""

    def _wait(self, timeout_s: float | None) -> None:
        due = [c.due_in() for c in self._children]
        soonest = min([d for d in due if d is not None], default=None)
        unready = any(not c.ready and c.running and not c.tells for c in self._children)
        waits = [w for w in (timeout_s, soonest, 0.2 if unready else None) if w is not None]
        for key, _ in self._selector.select(min(waits) if waits else None):
            if isinstance(key.fileobj, socket.socket):
                key.fileobj.recv(4096)

    def _stop(self) -> None:
        for name in STOP_S:
            stage = [c for c in self._children if c.name == name]
            for child in stage:
                child.terminate()
            until = time.monotonic() + STOP_S[name]
            for child in stage:
                if not child.wait_ended(max(0.1, until - time.monotonic())):
                    _log.error("a process did not stop in time and was killed", extra={"part": child.title})
                    child.kill()

    def _watch_signals(self) -> None:
        reader, writer = socket.socketpair()
        for end in (reader, writer):
            end.setblocking(False)
            self._stack.enter_context(end)
        self._stack.callback(signal.set_wakeup_fd, signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False))
        self._selector.register(reader, selectors.EVENT_READ)
        for number in (signal.SIGTERM, signal.SIGINT):
            self._stack.callback(signal.signal, number, signal.signal(number, self._on_signal))

    def _on_signal(self, number: int, frame: object) -> None:
        self._stopping = True

    def _forget_metrics(self, pid: int) -> None:
        """Gauges of a process that is gone would be shown for ever."""
        for path in self._settings.folder.metrics.glob(f"gauge_live*_{pid}.db"):
            path.unlink(missing_ok=True)


def _with_addresses(settings: CollectorSettings, listen: str, http: str) -> CollectorSettings:
    import dataclasses

    return dataclasses.replace(settings, listen=listen, http=http, data=settings.data.absolute())


def _exists(package: str) -> bool:
    try:
        return importlib.util.find_spec(f"{package}.__main__") is not None
    except ModuleNotFoundError:
        return False


