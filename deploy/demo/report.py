"""What a command measured, as build/reports/NAME.json: the form that every measuring command of the project writes."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from dataclasses import asdict, dataclass, field
from pathlib import Path

_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Row:
    """One measure."""

    measure: str
    value: float | str
    unit: str
    goal: str
    ok: bool
    peer: str = ""
    peer_value: float | None = None
    ratio: float | None = None
    spread: str = ""
    """Least and most of the rounds, or a confidence interval."""
    counted: str = ""
    """What was counted, and how long it ran."""


@dataclass(slots=True)
class Report:
    """Rows in the order they were measured. ``unit`` of a ratio is "times", of a share "%"."""

    name: str
    rows: list[Row] = field(default_factory=list)

    def add(
        self,
        measure: str,
        value: float | str,
        unit: str,
        goal: str,
        ok: bool,
        *,
        peer: str = "",
        peer_value: float | None = None,
        ratio: float | None = None,
        spread: str = "",
        counted: str = "",
    ) -> None:
        self.rows.append(Row(measure, value, unit, goal, ok, peer, peer_value, ratio, spread, counted))

    def write(self) -> Path:
        """Write build/reports/NAME.json and give its path."""
        path = _ROOT / "build" / "reports" / f"{self.name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        content = {
            "name": self.name,
            "commit": _commit(),
            "machine": _machine(),
            "rows": [asdict(row) for row in self.rows],
        }
        path.write_text(json.dumps(content, indent=1) + "\n")
        return path


def _commit() -> str:
    done = subprocess.run(["git", "-C", str(_ROOT), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else "unknown"


def _machine() -> str:
    pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    memory = pages * size / 2**30
    python = platform.python_version()
    return f"{os.cpu_count()} cores, {memory:.0f} GiB, Linux {platform.release()}, Python {python}"
