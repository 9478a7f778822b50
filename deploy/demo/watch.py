"""Looks for stored detections all the time, to tell how soon after the kernel hook each one could be read."""

from __future__ import annotations

import contextlib
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import httpx

from deploy.demo.console import Console, Detection
from deploy.demo.expect import Expected, Outcome, compare
from deploy.demo.processes import DemoError

_MARK_S = 0.1
_NAMES_S = 0.25
"""Between two looks for an event, and for the name of a model. Each costs the machine that is looked at."""


class Watch:
    """A thread that asks the collector for its detections again and again, over HTTP like everyone."""

    def __init__(self, url: str, folder: Path, every_s: float = 0.1) -> None:
        self._every_s = every_s
        self._console = Console(url)
        self._folder = folder
        self._lock = threading.Lock()
        self._taking = threading.Lock()
        """One asks at a time: an earlier answer must not take the place of a later one."""
        self._found: list[Detection] = []
        self._seen_ns: dict[str, int] = {}
        self._marks = 0
        self.mark: Callable[[int], Path] = self.read_a_model_file
        """Makes a tracked process open a file of a new name, and says which: what :meth:`settle` waits for."""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._ended.set()
        self._thread.join()
        self._console.close()

    def _watch(self) -> None:
        while not self._ended.wait(self._every_s):
            with contextlib.suppress(httpx.HTTPError):
                # All that is told of a detection takes the store four times as long as their names, and comes once for each.
                rows = self._console.query("SELECT detection_id AS id FROM detections_raw LIMIT 10000")
                if self._saw(row["id"] for row in rows):
                    self.look()

    def _saw(self, ids: Iterable[str]) -> bool:
        """Note the time; whether any of them is new."""
        now = time.time_ns()
        with self._lock:
            before = len(self._seen_ns)
            for id in ids:
                self._seen_ns.setdefault(id, now)
            return len(self._seen_ns) > before

    def look(self) -> None:
        """Ask for all detections now, with the names that are bound by now.

        Raises:
            httpx.HTTPError: the collector did not answer.
        """
        with self._taking:
            found = self._console.detections()
            self._saw(detection.id for detection in found)
            with self._lock:
                self._found = found

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
            time.sleep(_NAMES_S)
            with contextlib.suppress(httpx.HTTPError):
                self.look()
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
            sql = f"SELECT count() AS n FROM events_raw WHERE event_name = 'file_open' AND file_path = '{path}'"
            while int(self._console.query(sql)[0]["n"]) == 0:
                if time.monotonic() > deadline:
                    raise DemoError(f"an open of {path} was not stored within {timeout_s:.0f} s")
                time.sleep(_MARK_S)
        self.look()

    def read_a_model_file(self, number: int) -> Path:
        """A small program reads a file with a model's name, which makes it tracked."""
        path = self._folder / f"last-{number}.gguf"
        path.write_bytes(b"GGUF")
        subprocess.run(["head", "-c", "1", str(path)], check=True, stdout=subprocess.DEVNULL)
        path.unlink()
        return path
