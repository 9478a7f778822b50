"""One spooled batch and its file: a checked header, then the kernel records exactly as the rings gave them.

A file is ``MAGIC | header length | header CRC | header (JSON) | small records | large records | CRC``, little endian. The last
CRC-32 runs over everything before it, so it names the content: it is the same on every resend, whatever enrichment adds.
The header has a CRC of its own, so that a batch with damaged records still says what was lost.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from modelward_proto.kinds import EVENT_NAMES, Kind

from modelward_agent.sensor.progress import Progress
from modelward_agent.spool.folder import Buffers

MAGIC = b"MWSPOOL1"
_PREFIX = struct.Struct("<8sII")
_CHECKSUM = struct.Struct("<I")
MAX_HEADER = 1 << 16
_PEEK = MAX_HEADER + _PREFIX.size

Loss = tuple[str, str, int]
"""(hop, kind, count) of events known to be lost."""


class CorruptBatch(Exception):
    """A spooled batch is not what was written, or of another record layout. ``kinds`` is empty if even the header is lost."""

    def __init__(self, reason: str, kinds: Mapping[str, int] | None = None) -> None:
        super().__init__(reason)
        self.kinds = dict(kinds or {})


@dataclass(frozen=True)
class Layout:
    """The dtypes of the two record classes. A batch written under another layout (an upgraded agent) is not guessed at."""

    small: np.dtype[Any]
    large: np.dtype[Any]

    @property
    def identity(self) -> int:
        """CRC-32 over names, types and offsets of all members of both classes."""
        members = [
            (name, str(kind), offset, dtype.itemsize)
            for dtype in (self.small, self.large)
            for name, (kind, offset, *_) in sorted((dtype.fields or {}).items(), key=lambda item: item[0])
        ]
        return zlib.crc32(repr(members).encode())


@dataclass(frozen=True)
class SpooledBatch:
    """A numbered batch as the sender reads it. The arrays are read-only views of the file's bytes."""

    epoch: bytes
    number: int
    batch_time_ns: int
    """Wall clock when the batch was closed."""
    wall_offset_ns: int
    """Wall clock minus kernel boot time at that moment: add it to ``time_ns``."""
    small: np.ndarray[Any, Any]
    large: np.ndarray[Any, Any]
    losses: tuple[Loss, ...]
    late: bool
    """Spooled while no collector was reachable."""
    checksum: int
    boot_id: str = ""
    """Boot in which the records were made: with tgid and start time it is the process key."""
    kinds: Mapping[str, int] = field(default_factory=dict)
    """Events by event name: sum of ``count``, losses as ``loss``."""
    progress: Progress | None = None
    """How far the kernel's rings are spooled with this batch."""


def count_kinds(
    small: np.ndarray[Any, Any], large: np.ndarray[Any, Any], losses: Sequence[Loss] = ()
) -> dict[str, int]:
    """Events by event name: the sum of the records' ``count``, and of the losses under ``loss``."""
    totals: dict[str, int] = {}
    for records in (small, large):
        if not len(records):
            continue
        # Weights are summed as doubles: exact up to 2**53, and a batch holds at most some 10**4 counts of 32 bits.
        sums = np.bincount(records["kind"], weights=records["count"])
        for number in np.flatnonzero(sums):
            name = EVENT_NAMES.get(int(number), f"kind_{int(number)}")
            totals[name] = totals.get(name, 0) + int(sums[number])
    lost = sum(count for _, _, count in losses)
    if lost:
        totals[EVENT_NAMES[Kind.HOST_LOSS]] = totals.get(EVENT_NAMES[Kind.HOST_LOSS], 0) + lost
    return totals


def encode(batch: SpooledBatch, layout: Layout) -> tuple[Buffers, int]:
    """The buffers of a batch file, in order, and its checksum (``batch.checksum`` is not read)."""
    if batch.small.dtype != layout.small or batch.large.dtype != layout.large:
        raise ValueError("records are not of the layout under which they would be read")
    header = json.dumps(
        {
            "epoch": batch.epoch.hex(),
            "number": batch.number,
            "batch_time_ns": batch.batch_time_ns,
            "wall_offset_ns": batch.wall_offset_ns,
            "boot_id": batch.boot_id,
            "layout": layout.identity,
            "small": len(batch.small),
            "large": len(batch.large),
            "late": batch.late,
            "kinds": dict(batch.kinds),
            "losses": [list(loss) for loss in batch.losses],
            "progress": batch.progress.to_json() if batch.progress else None,
        },
        separators=(",", ":"),
    ).encode()
    head = _PREFIX.pack(MAGIC, len(header), zlib.crc32(header)) + header
    bodies = [np.ascontiguousarray(records).view(np.uint8).data for records in (batch.small, batch.large)]
    checksum = zlib.crc32(head)
    for body in bodies:
        checksum = zlib.crc32(body, checksum)
    return [head, *bodies, _CHECKSUM.pack(checksum)], checksum


def read_header(raw: bytes) -> dict[str, Any]:
    """The checked header of a batch file, of which ``raw`` holds at least the beginning.

    Raises:
        CorruptBatch: it is damaged, cut off or of another format.
    """
    if len(raw) < _PREFIX.size:
        raise CorruptBatch(f"file ends after {len(raw)} bytes, before the header")
    magic, length, checksum = _PREFIX.unpack_from(raw)
    if magic != MAGIC:
        raise CorruptBatch(f"not a batch file of this format: begins with {magic!r}")
    header = raw[_PREFIX.size : _PREFIX.size + length]
    if length > MAX_HEADER or len(header) < length or zlib.crc32(header) != checksum:
        raise CorruptBatch("header is damaged or cut off")
    values: dict[str, Any] = json.loads(header)
    values["body"] = _PREFIX.size + length
    return values


@dataclass(frozen=True)
class Contents:
    """What the header of a batch file tells of it."""

    kinds: Mapping[str, int]
    losses: Sequence[Loss] = ()
    progress: Progress | None = None


def peek(path: Path) -> Contents:
    """What a batch file holds, without reading its records.

    Raises:
        CorruptBatch: the header is damaged, or the file cannot be read.
    """
    try:
        with path.open("rb") as opened:
            header = read_header(opened.read(_PEEK))
    except OSError as e:
        raise CorruptBatch(f"cannot be read: {e.strerror}") from e
    return Contents(dict(header["kinds"]), [(hop, kind, count) for hop, kind, count in header["losses"]], _progress(header))


def written_checksum(path: Path) -> int | None:
    """The checksum at the end of a batch file, unproven; None when there is none to read."""
    try:
        with path.open("rb") as opened:
            opened.seek(-_CHECKSUM.size, os.SEEK_END)
            return int(_CHECKSUM.unpack(opened.read(_CHECKSUM.size))[0])
    except (OSError, struct.error):
        return None


def decode(raw: bytes, layout: Layout, epoch: bytes, number: int) -> SpooledBatch:
    """Check and open a whole batch file.

    Raises:
        CorruptBatch: damaged or cut off, of another layout, or not the batch that its name says.
    """
    header = read_header(raw)
    kinds: dict[str, int] = header["kinds"]
    begin = int(header["body"])
    if header["layout"] != layout.identity:
        raise CorruptBatch("records have the layout of another agent version", kinds)
    if header["epoch"] != epoch.hex() or header["number"] != number:
        raise CorruptBatch(f"file holds batch {header['number']} of epoch {header['epoch']}", kinds)
    middle = begin + header["small"] * layout.small.itemsize
    end = middle + header["large"] * layout.large.itemsize
    if len(raw) != end + _CHECKSUM.size:
        raise CorruptBatch(f"file has {len(raw)} bytes where {end + _CHECKSUM.size} were written", kinds)
    (checksum,) = _CHECKSUM.unpack_from(raw, end)
    if zlib.crc32(memoryview(raw)[:end]) != checksum:
        raise CorruptBatch("CRC-32 does not match: records are damaged", kinds)
    return SpooledBatch(
        epoch=epoch,
        number=number,
        batch_time_ns=header["batch_time_ns"],
        wall_offset_ns=header["wall_offset_ns"],
        small=np.frombuffer(raw, layout.small, header["small"], begin),
        large=np.frombuffer(raw, layout.large, header["large"], middle),
        losses=tuple((str(hop), str(kind), int(count)) for hop, kind, count in header["losses"]),
        late=bool(header["late"]),
        checksum=checksum,
        boot_id=header["boot_id"],
        kinds=kinds,
        progress=_progress(header),
    )


def _progress(header: Mapping[str, Any]) -> Progress | None:
    """None in a batch of a version that did not say, and where no ring was read."""
    values = header.get("progress")
    return Progress.from_json(values) if values else None
