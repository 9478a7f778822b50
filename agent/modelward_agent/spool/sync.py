"""Durability off the drain path: one thread that fsyncs, because a slow disk may hold an fsync for seconds."""

from __future__ import annotations

import os
import queue
import threading
from dataclasses import dataclass, field
from pathlib import Path

from modelward_agent.spool.folder import sync_folder, write_durably


@dataclass
class SyncJob:
    """Batches to make durable, then the state that counts them. ``error`` is filled in when it could not be done."""

    descriptors: list[int]
    folder: Path
    state: bytes
    settled: set[int]
    """What may be removed once this job is done."""
    error: OSError | None = None

    def run(self) -> None:
        try:
            for descriptor in self.descriptors:
                os.fsync(descriptor)
            if self.descriptors:
                sync_folder(self.folder)
            write_durably(self.folder / "state.json", self.state)
        except OSError as e:
            self.error = e
        finally:
            for descriptor in self.descriptors:
                os.close(descriptor)
            self.descriptors = []


@dataclass
class Syncer:
    """Runs one :class:`SyncJob` at a time; the caller polls for its end and never waits, except in :meth:`close`."""

    _jobs: queue.SimpleQueue[SyncJob | None] = field(default_factory=queue.SimpleQueue)
    _done: queue.SimpleQueue[SyncJob] = field(default_factory=queue.SimpleQueue)
    _thread: threading.Thread | None = None
    busy: bool = False

    def submit(self, job: SyncJob) -> None:
        if self.busy:
            raise RuntimeError("one job at a time")
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="spool-sync", daemon=True)
            self._thread.start()
        self.busy = True
        self._jobs.put(job)

    def finished(self) -> SyncJob | None:
        """The job that has ended since the last call."""
        return self._take(block=False)

    def wait(self) -> SyncJob | None:
        """Wait for the job under way; None when there is none."""
        return self._take(block=True) if self.busy else None

    def close(self) -> None:
        if self._thread is not None:
            self._jobs.put(None)
            self._thread.join()
            self._thread = None

    def _take(self, block: bool) -> SyncJob | None:
        try:
            job = self._done.get(block=block)
        except queue.Empty:
            return None
        self.busy = False
        return job

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            job.run()
            self._done.put(job)
