"""Payloads of batches that were set aside, for whoever wants to know what was wrong with them. Bounded: the oldest go first."""

from __future__ import annotations

import contextlib
import logging
import os
from pathlib import Path
from typing import IO

_log = logging.getLogger(__name__)

PERMITTED_FILES = 10_000


class QuarantineFolder:
    """The folder; for one process, several may share it."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes

    def keep(self, name: str, payload: bytes) -> None:
        """Write a payload under a name of ours. A full disk is logged and loses the payload alone: its row is in the store."""
        if len(payload) > self._max_bytes:
            return
        path = self._folder / name
        try:
            with _create(path) as file:
                file.write(payload)
            self._trim()
        except OSError as e:
            _log.error("a quarantined payload could not be kept", extra={"file": name, "error": e.strerror})

    def _trim(self) -> None:
        files = sorted((path.stat().st_mtime_ns, path.stat().st_size, path) for path in self._folder.glob("*/*"))
        total = sum(size for _, size, _ in files)
        while files and (total > self._max_bytes or len(files) > PERMITTED_FILES):
            _, size, path = files.pop(0)
            path.unlink(missing_ok=True)
            total -= size
            # An agent may come under ever new ids: what is left of each must not pile up either.
            with contextlib.suppress(OSError):
                path.parent.rmdir()


def _create(path: Path) -> IO[bytes]:
    """Another process may remove the folder as empty just after it was made: then it is made again."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    try:
        return open(os.open(path, flags, 0o600), "wb")
    except FileNotFoundError:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return open(os.open(path, flags, 0o600), "wb")
