"""What must outlive the drainer beside the batches: the last number, the ledger, and which batches are already counted.

A count and the removal of the file it counts cannot be one step on disk. So the state names the batches whose
counting is done (``settled``) before their files go, and after a crash the files say what is still to be counted.
"""

from __future__ import annotations

import json
import logging
import time
from dataclasses import dataclass, field
from pathlib import Path

from modelward_agent.ledger import Row, Total
from modelward_agent.sensor.progress import Progress
from modelward_agent.spool.folder import Folder, SpoolError
from modelward_agent.spool.ranges import to_ranges

log = logging.getLogger(__name__)

RESERVE = 65536
"""Batch numbers kept ahead on disk. After a power loss, numbering goes on behind them: a number that was lost with
the page cache may be stored at the collector, and must not get a second meaning."""


@dataclass
class SpoolState:
    """The content of ``state.json`` in the spool folder."""

    boot_id: str
    clean: bool = False
    last_number: int = 0
    reserved: int = RESERVE
    ledger: list[Row] = field(default_factory=list)
    sent: set[int] = field(default_factory=set)
    """Unacknowledged batches that are counted as sent."""
    settled: set[int] = field(default_factory=set)
    """Counted as stored, quarantined, evicted or corrupt: the file only has to go."""
    progress: dict[str, Progress] = field(default_factory=dict)
    """By the name of the rings: more than one while those of an older version are read to their end."""
    totals: list[Total] = field(default_factory=list)
    """Kernel counts that the ledger has taken in."""

    def to_bytes(self) -> bytes:
        return json.dumps(
            {
                "version": 1,
                "boot_id": self.boot_id,
                "clean": self.clean,
                "last_number": self.last_number,
                "reserved": self.reserved,
                "ledger": self.ledger,
                "sent": to_ranges(self.sent),
                "settled": to_ranges(self.settled),
                "progress": [progress.to_json() for progress in self.progress.values()],
                "totals": self.totals,
            }
        ).encode()

    @classmethod
    def load(cls, path: Path, boot_id: str) -> SpoolState:
        """The saved state; a new one when there is none yet.

        Raises:
            SpoolError: the file is damaged.
        """
        try:
            raw = path.read_bytes()
        except FileNotFoundError:
            return cls(boot_id)
        except OSError as e:
            raise SpoolError(f"cannot read {path}: {e.strerror}") from e
        try:
            values = json.loads(raw)
            return cls(
                boot_id=str(values["boot_id"]),
                clean=bool(values["clean"]),
                last_number=int(values["last_number"]),
                reserved=int(values["reserved"]),
                ledger=[(str(hop), str(kind), int(count)) for hop, kind, count in values["ledger"]],
                sent={n for first, last in values["sent"] for n in range(first, last + 1)},
                settled={n for first, last in values["settled"] for n in range(first, last + 1)},
                progress={one["rings"]: Progress.from_json(one) for one in values.get("progress", ())},
                totals=[(str(rings), str(hop), str(kind), int(count)) for rings, hop, kind, count in values.get("totals", ())],
            )
        except (ValueError, KeyError, TypeError) as e:
            raise SpoolError(f"{path} is damaged ({e})") from e


def open_spool(path: Path, boot_id: str) -> tuple[Folder, SpoolState]:
    """The folder and its state; a folder whose state is damaged is set aside, and a new epoch begins."""
    folder = Folder.open(path)
    try:
        return folder, SpoolState.load(path / "state.json", boot_id)
    except SpoolError as e:
        aside = path.with_name(f"{path.name}.damaged-{time.time_ns()}")
        log.error("the spool's state is damaged; the folder is set aside and a new epoch begins",
                  extra={"reason": str(e), "folder": str(aside)})
        path.rename(aside)
        return Folder.open(path), SpoolState(boot_id)
