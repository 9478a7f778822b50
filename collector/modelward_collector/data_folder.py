"""Where everything of one collector lies under ``--data``."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

SOCKET_PATH_LIMIT = 107
"""Bytes that the kernel allows in the path of a unix socket (sun_path, less its end)."""


class DataFolderError(Exception):
    """The data folder cannot be used; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class DataFolder:
    """The folder of one collector: the engine's files, the journal, what was quarantined, and the running state."""

    root: Path

    @property
    def engine(self) -> Path:
        """Files of chdb. Only the store process opens them."""
        return self.root / "store"

    @property
    def journal(self) -> Path:
        """Insert groups under way."""
        return self.root / "journal"

    @property
    def quarantine(self) -> Path:
        """Payloads of batches that were set aside, one folder per agent."""
        return self.root / "quarantine"

    @property
    def run(self) -> Path:
        """Sockets and metrics of the running processes; emptied at start."""
        return self.root / "run"

    @property
    def snapshots(self) -> Path:
        """Snapshots of the store while they are copied away: hard links into ``store``."""
        return self.root / "snapshots"

    @property
    def restoring(self) -> Path:
        """Is there while a backup is put back: what lies beside it is not whole."""
        return self.root / "restoring"

    @property
    def store_socket(self) -> Path:
        """Where the store process serves ``modelward.v1.Store``."""
        return self.run / "store.sock"

    @property
    def store_target(self) -> str:
        """The same as a gRPC target."""
        return f"unix:{self.store_socket}"

    def receiver_socket(self, index: int) -> Path:
        """Where a receiver takes commands for the agents whose streams it holds."""
        return self.run / f"receiver-{index}.sock"

    @property
    def outputs_socket(self) -> Path:
        """Where the outputs process says how it stands."""
        return self.run / "outputs.sock"

    @property
    def outputs_nudge(self) -> Path:
        """Where the outputs process hears that detections were stored."""
        return self.run / "outputs.nudge"

    @property
    def scratch(self) -> Path:
        """Files that live as long as one insert."""
        return self.run / "insert"

    @property
    def metrics(self) -> Path:
        """Folder of prometheus_client's multiprocess mode (``PROMETHEUS_MULTIPROC_DIR``)."""
        return self.run / "metrics"

    def create(self) -> None:
        """Make what is missing, readable by this user alone.

        Raises:
            DataFolderError: it cannot be made or written, or its path is too long for a socket.
        """
        longest = self.receiver_socket(63)
        if len(os.fsencode(longest)) > SOCKET_PATH_LIMIT:
            raise DataFolderError(
                f"the path of the data folder is too long: {longest} has more than {SOCKET_PATH_LIMIT} bytes, "
                "which is all that the kernel allows for a unix socket; choose a shorter --data"
            )
        if self.restoring.exists():
            raise DataFolderError(
                f"a backup was being restored into {self.root}, and it was interrupted: remove the folder and restore again")
        try:
            for folder in (self.root, self.journal, self.quarantine, self.snapshots, self.run, self.scratch, self.metrics):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not os.access(self.root, os.W_OK | os.X_OK):
                raise PermissionError(13, "permission denied", str(self.root))
        except OSError as e:
            raise DataFolderError(f"cannot use the data folder {self.root}: {e.strerror}") from e

    def lock(self) -> IO[str]:
        """Claim the folder for this process until the returned file is closed or the process ends.

        Raises:
            DataFolderError: another collector runs on it.
        """
        file = open(self.root / "lock", "a+", encoding="ascii")  # noqa: SIM115 (held as long as the collector runs)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as e:
            file.seek(0)
            owner = file.read().strip() or "unknown"
            file.close()
            raise DataFolderError(
                f"the data folder {self.root} is in use by another collector (process {owner}); "
                "stop that one or give this one another --data"
            ) from e
        file.seek(0)
        file.truncate()
        file.write(str(os.getpid()))
        file.flush()
        return file

    @contextmanager
    def snapshots_locked(self) -> Iterator[None]:
        """Claim the folder of snapshots, and remove what an interrupted backup left there.

        Raises:
            DataFolderError: a backup is under way.
        """
        self.snapshots.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(self.snapshots, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as e:
            os.close(descriptor)
            raise DataFolderError(f"another backup of {self.root} is under way") from e
        try:
            for leftover in self.snapshots.iterdir():
                shutil.rmtree(leftover, ignore_errors=True)
            yield
        finally:
            os.close(descriptor)
