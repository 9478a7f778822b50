"""The journal of insert groups: what a group is made of, and what follows its events, on disk before the insert begins.

The engine has no transactions: events, detections, bindings and the names of the batches are four inserts. A crash between
them is settled from here at the next start: either the events are in the table, and the rest is inserted too, or they are not,
and the group is forgotten, because its agents were never answered and send again.
"""

from __future__ import annotations

import json
import logging
import os
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

_log = logging.getLogger(__name__)
_MAGIC = b"MWGROUP1"


@dataclass(frozen=True, slots=True)
class Member:
    """One batch of a group."""

    host: str
    agent_id: str
    epoch: str
    number: int
    checksum: int
    batch_time_ns: int
    rows: int
    first_ns: int
    """Time of the earliest row; with ``last_ns`` it keeps the question whether the batch is stored to a few granules."""
    last_ns: int


@dataclass(frozen=True, slots=True)
class Group:
    """What one insert is made of: batches of one day."""

    name: str
    sequence: int
    members: tuple[Member, ...]
    names: tuple[dict[str, Any], ...]
    """Rows for ``batches``."""
    detections: bytes = field(default=b"", repr=False)
    """Arrow IPC stream; empty when none."""
    bindings: bytes = field(default=b"", repr=False)


class Journal:
    """The folder of groups under way: one file each."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, group: Group) -> None:
        """Make a group durable.

        Raises:
            OSError: the disk refused it; nothing may be inserted then.
        """
        head = json.dumps({
            "name": group.name, "sequence": group.sequence, "members": [asdict(m) for m in group.members],
            "names": group.names, "detections": len(group.detections), "bindings": len(group.bindings),
        }).encode()
        body = b"".join((len(head).to_bytes(8, "little"), head, group.detections, group.bindings))
        path = self._path(group.name)
        try:
            with open(path, "wb") as file:
                file.write(b"".join((_MAGIC, zlib.crc32(body).to_bytes(4, "little"), body)))
                file.flush()
                os.fsync(file.fileno())
            self._sync_folder()
        except OSError:
            path.unlink(missing_ok=True)
            raise

    def done(self, name: str) -> None:
        """Forget a group. Not made durable: to settle a finished group once more changes nothing."""
        self._path(name).unlink(missing_ok=True)

    def keep_aside(self, group: Group) -> None:
        """Keep a second copy that is never settled, for a person to look at."""
        path = self._path(group.name)
        if path.exists():
            path.with_suffix(".refused").write_bytes(path.read_bytes())

    def unfinished(self) -> Iterator[Group]:
        """Groups that were begun and not finished, oldest first. A torn file is removed: its insert never began."""
        for path in sorted(self._folder.glob("*.group")):
            group = _read(path)
            if group is None:
                _log.warning("journal file of a group is torn, its insert had not begun", extra={"file": path.name})
                path.unlink()
            else:
                yield group

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.group"

    def _sync_folder(self) -> None:
        descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _read(path: Path) -> Group | None:
    raw = path.read_bytes()
    body = raw[len(_MAGIC) + 4:]
    if not raw.startswith(_MAGIC) or zlib.crc32(body).to_bytes(4, "little") != raw[len(_MAGIC): len(_MAGIC) + 4]:
        return None
    size = int.from_bytes(body[:8], "little")
    head = json.loads(body[8: 8 + size])
    middle = 8 + size + head["detections"]
    return Group(
        head["name"], head["sequence"], tuple(Member(**m) for m in head["members"]), tuple(head["names"]),
        detections=body[8 + size: middle], bindings=body[middle: middle + head["bindings"]],
    )
