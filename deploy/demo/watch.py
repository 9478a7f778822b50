"""Looks for stored detections all the time, to tell how soon after the kernel hook each one could be read."""

from __future__ import annotations

import contextlib
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import httpx

from deploy.demo.console import Console, Detection
from deploy.demo.expect import Expected, Outcome, compare
from deploy.demo.processes import DemoError


class Watch:
    """A thread that asks the collector for its detections again and again, over HTTP like everyone."""

    def __init__(self, url: str, folder: Path, every_s: float = 0.1) -> None:
        self._every_s = every_s
        self._console = Console(url)
        self._folder = folder
        self._lock = threading.Lock()
        self._found: list[Detection] = []
        self._seen_ns: dict[str, int] = {}
        self._marks = 0
        self.mark: Callable[[int], Path] = self.read_a_model_file
        """Makes a tracked process open a file of a new name, and says which: what :meth:`settle` waits for."""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._ended.set()
        self._thread.join()
        self._console.close()

    def _look(self) -> None:
        while not self._ended.wait(self._every_s):
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
        """Seconds from the kernel hook to the first look that found it stored: too long by one interval at most."""
        return (self._seen_ns[detection.id] - detection.event_ns) / 1e9

    def wait(self, pid: int, expected: Sequence[Expected], timeout_s: float = 25.0) -> Outcome:
        """Settle, and compare what is expected of the workload of ``pid`` with what is stored.

        A model's name may come later than what it did: the time out is for that.
        """
        self.settle()
        deadline = time.monotonic() + timeout_s
        while compare(expected, self.of(pid)).missing and time.monotonic() < deadline:
            time.sleep(self._every_s)
        return compare(expected, self.of(pid))

    def settle(self, timeout_s: float = 30.0) -> None:
        """Return when all events of this host up to now are stored and judged.

        Twice, something is done that a tracked process is known for, and its event waited for. Once would not do: the rings of
        the kernel are drained one after another.

        Raises:
            DemoError: the event did not arrive.
        """
        for _ in range(2):
            self._marks += 1
            path = self.mark(self._marks)
            deadline = time.monotonic() + timeout_s
            sql = f"SELECT count() AS n FROM events WHERE event_name = 'file_open' AND file_path = '{path}'"
            while int(self._console.query(sql)[0]["n"]) == 0:
                if time.monotonic() > deadline:
                    raise DemoError(f"an open of {path} was not stored within {timeout_s:.0f} s")
                time.sleep(0.05)
        self._take(self._console.detections())

    def read_a_model_file(self, number: int) -> Path:
        """A small program reads a file with a model's name, which makes it tracked."""
        path = self._folder / f"last-{number}.gguf"
        path.write_bytes(b"GGUF")
        subprocess.run(["head", "-c", "1", str(path)], check=True, stdout=subprocess.DEVNULL)
        path.unlink()
        return path
