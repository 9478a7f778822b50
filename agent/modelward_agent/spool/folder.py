"""The spool folder: its epoch, and files whose names alone say what they hold and what has happened to them.

A name is ``NUMBER-LANE-VALUE-EVENTS.STATE``, for example ``00000000000000000012-live-low-8192.new``. A state is changed by
renaming, which the file system does for one process only: the sender claims a batch (``new`` to ``sent``) or the drainer evicts
it (``new`` to ``evicted``), never both, and the answer survives a crash. The number of events is in the name so that a file of
which nothing is readable is still a counted loss.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

State = Literal["new", "sent", "evicted", "corrupt"]
Buffers = list[bytes | memoryview]
"""What is written one behind the other."""

_NAME = re.compile(r"(\d{20})-(live|late)-(low|high)-(\d+)\.(new|sent|evicted|corrupt)")
_EPOCH_BYTES = 16
_KEPT_CORRUPT = 16


class SpoolError(Exception):
    """The spool folder cannot be used; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class BatchFile:
    """One batch file, as its name tells."""

    number: int
    late: bool
    low: bool
    """Only kinds of low value (opens, forks): may go first when the spool is full."""
    events: int
    state: State

    @property
    def name(self) -> str:
        lane = "late" if self.late else "live"
        value = "low" if self.low else "high"
        return f"{self.number:020d}-{lane}-{value}-{self.events}.{self.state}"

    def to(self, state: State) -> BatchFile:
        return replace(self, state=state)

    @classmethod
    def parse(cls, name: str) -> BatchFile | None:
        """The file of that name; None for a name that is not of a batch."""
        match = _NAME.fullmatch(name)
        if match is None:
            return None
        number, lane, value, events, state = match.groups()
        return cls(int(number), lane == "late", value == "low", int(events), state)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Folder:
    """An opened spool folder. ``epoch``: 16 random bytes made with it; a batch number is unique within it."""

    path: Path
    epoch: bytes

    @classmethod
    def open(cls, path: Path) -> Folder:
        """Open the folder, or make it with a new epoch.

        Raises:
            SpoolError: it is not a folder of ours, or cannot be read or written.
        """
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.chmod(0o700)
            (path / "corrupt").mkdir(mode=0o700, exist_ok=True)
            epoch = random_id(path / "epoch")
            for leftover in path.glob("*.tmp"):
                leftover.unlink()
        except OSError as e:
            raise SpoolError(f"cannot use the spool folder {path}: {e.strerror}") from e
        return cls(path, epoch)

    def file(self, batch: BatchFile) -> Path:
        return self.path / batch.name

    def batches(self) -> Iterator[tuple[BatchFile, int]]:
        """All batch files and the bytes they take on disk, in no order."""
        with os.scandir(self.path) as entries:
            for entry in entries:
                batch = BatchFile.parse(entry.name)
                if batch is not None:
                    try:
                        yield batch, disk_bytes(entry.stat(follow_symlinks=False))
                    except FileNotFoundError:
                        continue

    def put(self, batch: BatchFile, buffers: Buffers) -> int:
        """Write a batch file. Under its name it is there wholly or not at all. Returns its open descriptor, to be synced.

        Raises:
            OSError: it could not be written, and nothing of it is left.
        """
        scratch = self.path / f"{batch.number}.tmp"
        descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            write_all(descriptor, buffers)
            os.rename(scratch, self.file(batch))
        except OSError:
            os.close(descriptor)
            scratch.unlink(missing_ok=True)
            raise
        return descriptor

    def rename(self, batch: BatchFile, state: State) -> bool:
        """Change the state of a batch. False: another process was first, or it is gone."""
        try:
            os.rename(self.file(batch), self.file(batch.to(state)))
        except FileNotFoundError:
            return False
        return True

    def remove(self, batch: BatchFile) -> None:
        """Remove a batch in whatever state it is; a corrupt one is kept apart, the newest few."""
        apart = self.path / "corrupt"
        for state in get_args(State):
            path = self.file(batch.to(state))
            try:
                if state == "corrupt":
                    path.rename(apart / path.name)
                    for old in sorted(apart.iterdir())[:-_KEPT_CORRUPT]:
                        old.unlink()
                else:
                    path.unlink()
            except FileNotFoundError:
                continue


def disk_bytes(status: os.stat_result) -> int:
    """What a file costs the disk: small batches fill whole blocks."""
    return max(status.st_size, 4096 * -(-status.st_size // 4096))


def random_id(path: Path) -> bytes:
    """The 16 random bytes kept as hex in ``path``; made, durably, when it does not exist.

    Raises:
        SpoolError: the file holds something else.
    """
    try:
        text = path.read_text(encoding="ascii", errors="replace").strip()
    except FileNotFoundError:
        value = os.urandom(_EPOCH_BYTES)
        try:
            write_durably(path, value.hex().encode() + b"\n")
        except OSError as e:
            raise SpoolError(f"cannot write {path}: {e.strerror}") from e
        return value
    except OSError as e:
        raise SpoolError(f"cannot read {path}: {e.strerror}") from e
    try:
        value = bytes.fromhex(text)
    except ValueError:
        value = b""
    if len(value) != _EPOCH_BYTES:
        raise SpoolError(f"{path} is damaged (32 hex digits are wanted): remove {path.parent} to begin anew")
    return value


def write_durably(path: Path, content: bytes) -> None:
    """Replace a file so that after a power loss either the old or the new content is there, never a mixture."""
    scratch = path.with_name(path.name + ".tmp")
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        write_all(descriptor, [content])
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.replace(scratch, path)
    sync_folder(path.parent)


def write_all(descriptor: int, buffers: Buffers) -> None:
    """Write every byte of the buffers, however often the kernel takes only a part."""
    rest = [memoryview(b).cast("B") for b in buffers if len(b)]
    while rest:
        written = os.writev(descriptor, rest)
        while rest and written >= len(rest[0]):
            written -= len(rest.pop(0))
        if written:
            rest[0] = rest[0][written:]


def sync_folder(path: Path) -> None:
    """Make renames and new names in a folder durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
