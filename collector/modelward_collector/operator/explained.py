"""``modelward explain``: the explanation of a detection on a terminal. Every text in it may come from a host."""

from __future__ import annotations

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from modelward_collector.explain.document import Evidence, Explanation, Section
from modelward_collector.operator.show import SEVERITY_STYLES, safe, short_time

_MARKS = {"this": ("▶", "bold red"), "good": ("✔", "green"), "warn": ("!", "bold yellow"), "": (" ", "")}


def show_explanation(made: Explanation, console: Console) -> None:
    """Print it, section by section."""
    head = Text(f" {safe(made.severity)} ", SEVERITY_STYLES.get(made.severity, ""))
    console.print(head.append(f"  {safe(made.title)}", "bold"))
    console.print(Text(safe(made.headline)))
    console.print(Text(f"host {safe(made.host)}, {safe(made.time[:19]).replace('T', ' ')} UTC, detection {safe(made.id)}", "dim"))
    for number, section in enumerate(made.sections, 1):
        console.print()
        console.print(Text(f"{number}  {safe(section.title)}", "bold cyan"))
        _section(section, console)


def _section(section: Section, console: Console) -> None:
    for sentence in section.sentences:
        console.print(Padding(Text(safe(sentence)), (0, 0, 0, 3), expand=False))
    if section.evidence:
        console.print(Padding(_evidence(section.evidence), (0, 0, 0, 3), expand=False))
    for command in section.commands:
        # One that is wider than the terminal is not folded, so that it can be copied.
        console.print(Text("   $ ", "dim").append(safe(command), "green"), soft_wrap=True)
    for term in section.terms:
        words = Text(f"{safe(term.word)}: ", "italic dim").append(safe(term.meaning), "dim")
        console.print(Padding(words, (0, 0, 0, 6), expand=False))


def _evidence(rows: tuple[Evidence, ...]) -> Table:
    timed = any(row.when for row in rows)
    shown = Table.grid(padding=(0, 2, 0, 0))
    shown.add_column(no_wrap=True)
    if timed:
        shown.add_column(no_wrap=True)
    shown.add_column(no_wrap=True)
    shown.add_column(overflow="fold", ratio=1)
    for row in rows:
        mark, style = _MARKS.get(row.mark, _MARKS[""])
        cells = [Text(mark, style), Text(safe(row.what), "cyan"), Text(safe(row.text), "bold" if row.mark == "this" else "")]
        if timed:
            cells.insert(1, Text(short_time(row.when), "dim"))
        shown.add_row(*cells)
    return shown
