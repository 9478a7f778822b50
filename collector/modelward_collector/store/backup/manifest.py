"""What a backup folder says of itself. Written last and moved into place whole: a folder without it is no backup."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

NAME = "manifest.json"
WHAT = "modelward-collector backup"
FORMAT = 1
"""Changes when an older version could no longer read a backup rightly."""

CHUNK = 1 << 20


class BackupError(Exception):
    """A backup cannot be made or read; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class File:
    """One file of a backup. ``table`` and ``part`` are empty for files that belong to none."""

    name: str
    bytes: int
    sha256: str
    rows: int = 0
    table: str = ""
    part: str = ""


@dataclass(frozen=True, slots=True)
class Manifest:
    """All of it."""

    made_at_ns: int
    collector: str
    engine: str
    migrations: list[tuple[int, str]]
    """Number and checksum of each that the tables have seen."""
    files: list[File] = field(default_factory=list)
    what: str = WHAT
    format: int = FORMAT

    @property
    def bytes(self) -> int:
        """Of all files."""
        return sum(f.bytes for f in self.files)

    @property
    def rows(self) -> dict[str, int]:
        """Rows of each table."""
        found: dict[str, int] = {}
        for file in self.files:
            if file.table:
                found[file.table] = found.get(file.table, 0) + file.rows
        return found

    @property
    def days(self) -> list[str]:
        """Days of which it holds events, as 2026-11-25."""
        found = {file.part[:8] for file in self.files if file.table == "events_raw"}
        return [f"{day[:4]}-{day[4:6]}-{day[6:]}" for day in sorted(found)]

    def words(self) -> str:
        """What is inside, for a person."""
        rows, days = self.rows, self.days
        span = f"{len(days)} days ({days[0]} to {days[-1]})" if len(days) > 1 else f"one day ({days[0]})" if days else "no day"
        at = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(self.made_at_ns / 1e9))
        return (f"{rows.get('events_raw', 0):,} events of {span}, {rows.get('detections_raw', 0):,} detections, "
                f"{rows.get('bindings', 0):,} loads of models, {shown(self.bytes)}, taken {at} by version {self.collector}")

    def write(self, folder: Path) -> None:
        """Write it into a folder; the caller makes it durable."""
        body = asdict(self)
        text = json.dumps({"checksum": _checksum(body), **body}, indent=1)
        (folder / NAME).write_text(text, encoding="utf-8")


def read(folder: Path) -> Manifest:
    """The manifest of a backup folder.

    Raises:
        BackupError: there is none, it was changed, or a later version wrote it.
    """
    path = folder / NAME
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as e:
        raise BackupError(f"{folder} holds no whole backup: there is no {NAME} in it") from e
    except OSError as e:
        raise BackupError(f"{path}: {e.strerror}") from e
    except ValueError as e:
        raise BackupError(f"{path} is damaged: it is no JSON") from e
    if not isinstance(raw, dict) or raw.get("what") != WHAT:
        raise BackupError(f"{path} is not the manifest of a backup of Modelward's collector")
    if raw.get("format") != FORMAT:
        raise BackupError(f"{path} has format {raw.get('format')}, this version reads {FORMAT}: use the version that made it")
    if raw.pop("checksum", "") != _checksum(raw):
        raise BackupError(f"{path} was changed after it was written")
    try:
        return Manifest(**raw | {"files": [_file(f) for f in raw["files"]],
                                 "migrations": [(int(n), str(c)) for n, c in raw["migrations"]]})
    except (TypeError, KeyError, ValueError) as e:
        raise BackupError(f"{path} cannot be read: {e}") from e


def verify(folder: Path, manifest: Manifest) -> Iterator[int]:
    """Read all files and compare them with the manifest; yields the bytes read as it goes.

    Raises:
        BackupError: a file is missing, or is not as it was written.
    """
    for file in manifest.files:
        found = sha256()
        try:
            with open(folder / file.name, "rb") as stream:
                while chunk := stream.read(CHUNK):
                    found.update(chunk)
                    yield len(chunk)
        except OSError as e:
            raise BackupError(f"{folder / file.name}: {e.strerror}; the backup is not whole") from e
        if found.hexdigest() != file.sha256:
            raise BackupError(f"{folder / file.name} is not as it was written (checksum); the backup is damaged")


def shown(count: int) -> str:
    """Bytes for a person."""
    value, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"


def _file(raw: dict[str, Any]) -> File:
    file = File(**raw)
    # A name is a place below the folder: whoever changed a backup must not have us read or write elsewhere.
    for text, form in ((file.name, r"[a-z_]+(/[0-9a-z_-]+)?\.tar"), (file.table, r"[a-z_]*"), (file.part, r"[0-9a-z_-]*")):
        if not re.fullmatch(form, text):
            raise ValueError(f"no name of a file, table or part: {text[:60]!r}")
    return file


def _checksum(body: dict[str, Any]) -> str:
    return sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
