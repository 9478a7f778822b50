"""How rows look on a terminal. Every text may come from an attacker: it is escaped, and never read as markup."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from modelward_proto.text import escape, is_inert
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

SEVERITY_STYLES = {
    "critical": "bold white on red",
    "high": "bold red",
    "medium": "yellow",
    "low": "cyan",
    "informational": "dim",
}
PHASE_STYLES = {"load": "magenta", "warmup": "blue", "serve": "green", "stop": "dim", "start": "cyan"}
PIPED_WIDTH = 200
_LEAST_WIDTH = 12

Cell = Callable[[dict[str, Any]], Text]


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table: its title, its text, and whether it may take a second line or must stay whole."""

    title: str
    cell: Cell
    fold: bool = False
    right: bool = False
    room: int = 0
    """Width of the terminal, in characters, from which on the column is shown."""


def console() -> Console:
    """Standard output. Into a pipe, lines are wide rather than cut, and have no colour."""
    width = None if sys.stdout.isatty() or os.environ.get("COLUMNS") else PIPED_WIDTH
    return Console(width=width, highlight=False, markup=False, emoji=False, soft_wrap=False)


def safe(value: Any) -> str:
    """A value as text that can neither move the cursor nor turn the reading direction."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(safe(item) for item in value)
    if isinstance(value, Mapping):
        return ", ".join(f"{safe(key)}: {safe(item)}" for key, item in value.items())
    text = str(value)
    # What the agent escaped stays as it is; what it did not is escaped here.
    return text if is_inert(text) or text.isprintable() else escape(text.encode("utf-8", "replace"))


def plain(key: str, style: str = "") -> Cell:
    """The value of a column."""
    return lambda row: Text(safe(row.get(key, "")), style)


def moment(key: str) -> Cell:
    """A time in UTC: of today without its date, to the second."""

    def cell(row: dict[str, Any]) -> Text:
        return Text(short_time(str(row.get(key) or "")), "dim")

    return cell


def short_time(text: str) -> str:
    """``2026-11-25T07:00:00.123456789Z`` as ``07:00:00.123`` when that is today, else with its date."""
    if len(text) < 19 or text.startswith("1970-"):
        return "never" if text.startswith("1970-") else safe(text)
    day, clock = text[:10], text[11:23].rstrip("Z")
    return safe(clock if day == datetime.now(UTC).strftime("%Y-%m-%d") else f"{day} {clock[:8]}")


def severity(row: dict[str, Any]) -> Text:
    """The severity, coloured."""
    value = safe(row.get("severity", ""))
    return Text(value, SEVERITY_STYLES.get(value, ""))


def phase(key: str) -> Cell:
    """A phase, coloured."""

    def cell(row: dict[str, Any]) -> Text:
        value = safe(row.get(key, ""))
        return Text(value, PHASE_STYLES.get(value, ""))

    return cell


def table(columns: Sequence[Column], rows: Sequence[dict[str, Any]], width: int = 1000) -> Table:
    """A table that fits a terminal of this width: texts that may fold take the room that the others leave."""
    columns = [column for column in columns if column.room <= width]
    shown = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False, expand=False)
    for column in columns:
        shown.add_column(
            column.title,
            justify="right" if column.right else "left",
            no_wrap=not column.fold,
            overflow="fold" if column.fold else "ellipsis",
            ratio=1 if column.fold else None,
            min_width=min(len(column.title), 12),
            max_width=None if column.fold or width > 130 else max(16, width // 4),
        )
    for row in rows:
        shown.add_row(*(column.cell(row) for column in columns))
    return shown


def generic(columns: Sequence[str], rows: Sequence[dict[str, Any]], width: int = 1000) -> Table:
    """Any result as a table; with more columns than this width has room for, one value a line."""
    if len(columns) * _LEAST_WIDTH <= width:
        return table([Column(safe(name), plain(name), fold=True) for name in columns], rows)
    shown = Table(box=box.SIMPLE_HEAD, show_header=False, pad_edge=False, expand=False)
    shown.add_column(style="bold", overflow="fold")
    shown.add_column(overflow="fold")
    for row in rows:
        for name in columns:
            shown.add_row(Text(safe(name)), plain(name)(row))
        shown.add_section()
    return shown
