"""Looks for stored detections all the time, to tell how soon after the kernel hook each one could be read."""

from __future__ import annotations

import contextlib
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import httpx

from deploy.demo.console import Console, Detection
from deploy.demo.expect import Expected, Outcome, compare
from deploy.demo.processes import DemoError

_EVERY_S = 0.1


class Watch:
    """A thread that asks the collector for its detections ten times a second, over HTTP like everyone."""

    def __init__(self, url: str, folder: Path) -> None:
        self._console = Console(url)
        self._folder = folder
        self._lock = threading.Lock()
        self._found: list[Detection] = []
        self._seen_ns: dict[str, int] = {}
        self._markers = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._ended.set()
        self._thread.join()
        self._console.close()

    def _look(self) -> None:
        while not self._ended.wait(_EVERY_S):
            with contextlib.suppress(httpx.HTTPError):
                self._take(self._console.detections())

    def _take(self, found: list[Detection]) -> None:
        now = time.time_ns()
        with self._lock:
            self._found = found
            for detection in found:
                self._seen_ns.setdefault(detection.id, now)

    def all(self) -> list[Detection]:
        """Every detection stored so far."""
        with self._lock:
            return list(self._found)

    def of(self, pid: int) -> list[Detection]:
        """Detections of the workload that began with process ``pid``."""
        return [detection for detection in self.all() if detection.root_pid == pid]

    def delay_s(self, detection: Detection) -> float:
        """Seconds from the kernel hook to the first look that found it stored: at most 0.1 s too long."""
        return (self._seen_ns[detection.id] - detection.event_ns) / 1e9

    def wait(self, pid: int, expected: Sequence[Expected], timeout_s: float = 25.0) -> Outcome:
        """Wait for what is expected of the workload of ``pid``, then :meth:`settle`."""
        deadline = time.monotonic() + timeout_s
        while compare(expected, self.of(pid)).missing and time.monotonic() < deadline:
            time.sleep(_EVERY_S)
        self.settle()
        return compare(expected, self.of(pid))

    def settle(self, timeout_s: float = 30.0) -> None:
        """Return when all events of this host up to now are stored and judged.

        Twice, a small program reads a model file of a new name and its event is waited for. Once would not
        do: the rings of the kernel are drained one after another.

        Raises:
            DemoError: the event did not arrive.
        """
        for _ in range(2):
            self._markers += 1
            marker = self._folder / f"last-{self._markers}.gguf"
            marker.write_bytes(b"GGUF")
            subprocess.run(["head", "-c", "1", str(marker)], check=True, stdout=subprocess.DEVNULL)
            deadline = time.monotonic() + timeout_s
            sql = f"SELECT count() AS n FROM events WHERE event_name = 'file_open' AND file_path = '{marker}'"
            while int(self._console.query(sql)[0]["n"]) == 0:
                if time.monotonic() > deadline:
                    raise DemoError(f"an open of {marker} was not stored within {timeout_s:.0f} s")
                time.sleep(0.05)
            marker.unlink()
        self._take(self._console.detections())
