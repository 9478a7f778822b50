"""``modelward timeline``: the lanes of a workload on a terminal: phases as bars, effects as marks, a legend and a time axis.

Every phase has a sign of its own, so that it reads without colour; where the output has no Unicode the signs are ASCII.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

from modelward_collector.operator.client import Client
from modelward_collector.operator.show import PHASE_STYLES, SEVERITY_STYLES, console, safe

LEAST_WIDTH = 40
MOST_EFFECTS = 12
"""Effects that are told in words below the lanes; detections are told all."""

_SIGNS = {
    "start": ("░", "."), "load": ("█", "#"), "tail": ("▓", "+"), "warmup": ("▒", "~"), "serve": ("━", "="), "stop": ("╌", "-"),
    "unknown": ("?", "?"),
}
_WORDS = {
    "start": "start: it comes up", "load": "load: it reads a model", "tail": "load, its tail: read, not yet shown to be over",
    "warmup": "warmup: read, no answer yet", "serve": "serve: it answers", "stop": "stop: it ends", "unknown": "not known",
}
_MARKS = {
    "detection": ("!", "bold red", "a detection"), "refused": ("r", "yellow", "a phase declared and refused"),
    "exec": ("x", "cyan", "a program started"), "open": ("o", "yellow", "a sensitive file opened"),
    "connect": ("c", "blue", "a connection"),
}
"""Worst first: where several fall on one place, the worst is shown."""

_STEPS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200,
            10800, 21600, 43200, 86400, 172800, 604800)
_TICK_WIDTH = 14

Document = Mapping[str, Any]


def run(client: Client, asked: Mapping[str, str], *, as_json: bool) -> int:
    """Ask for a timeline and print it.

    Raises:
        CollectorError: the collector is away, or knows no such workload.
    """
    made = client.document("GET", "/api/v1/workload-timeline", params={key: value for key, value in asked.items() if value})
    if as_json:
        print(json.dumps(made))
    else:
        show(made, console(), unicode=_unicode())
    return 0


def _unicode() -> bool:
    try:
        "█━╌".encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def show(made: Document, shown: Console, *, unicode: bool) -> None:
    """Print it, no line wider than the console."""
    width = max(shown.width, LEAST_WIDTH)
    span = Span(made["since"], made["until"])
    _head(made, shown)
    lanes = made["lanes"]
    if lanes:
        names = [_name(lane) for lane in lanes]
        room = min(max(cell_len(name) for name in names), width * 2 // 5)
        chart = width - room - 2
        shown.print(Text(" " * (room + 2)).append(span.axis(chart), "dim"), no_wrap=True)
        for lane, name in zip(lanes, names, strict=True):
            line = Text(_fitted(name, room, unicode), "" if lane["instance"] != "0" else "bold").append("  ")
            shown.print(line.append_text(bars(lane, span, chart, unicode=unicode)), no_wrap=True, overflow="crop")
            if lane["marks"]:
                shown.print(Text(" " * (room + 2)).append_text(marks(lane, span, chart)), no_wrap=True, overflow="crop")
        _legend(lanes, shown, unicode=unicode)
        _told(lanes, shown, span)
    for note in made["notes"]:
        shown.print(Text(safe(note), "yellow"))


class Span:
    """From when to when, and where a time lies in it."""

    def __init__(self, since: str, until: str) -> None:
        self.since, self.until = seconds(since), seconds(until)

    def at(self, time: str, width: int) -> float:
        """Columns from the left."""
        whole = max(self.until - self.since, 1e-6)
        return min(max((seconds(time) - self.since) / whole, 0.0), 1.0) * width

    def axis(self, width: int) -> str:
        """Ticks at round times, and the time at each that has room."""
        whole = self.until - self.since
        wanted = whole * _TICK_WIDTH / max(width, 1)
        step = next((step for step in _STEPS_S if step >= wanted), _STEPS_S[-1] * math.ceil(wanted / _STEPS_S[-1]))
        line = [" "] * width
        tick = math.ceil(self.since / step) * step
        free = 0
        while tick <= self.until:
            text = f"|{_clock(tick, step, whole)}"
            place = int((tick - self.since) / max(whole, 1e-6) * width)
            if free <= place <= width - len(text):
                line[place : place + len(text)] = text
                free = place + len(text) + 1
            tick += step
        return "".join(line)


def bars(lane: Document, span: Span, width: int, *, unicode: bool) -> Text:
    """A lane's phases, each at least one column wide as long as there is room."""
    cells = [""] * width
    free = 0
    for bar in lane["bars"]:
        # What is short must not vanish below what follows: the first column of a bar is its own.
        begin = min(max(int(span.at(bar["from"], width)), free), width - 1)
        end = max(math.ceil(span.at(bar["to"], width)), begin + 1)
        cells[begin:end] = ["tail" if bar["scope"] == "tail" else bar["phase"]] * (min(end, width) - begin)
        free = begin + 1
    line = Text()
    for sign in cells:
        if not sign:
            line.append(" ")
        else:
            known = _SIGNS.get(sign, _SIGNS["unknown"])
            line.append(known[0 if unicode else 1], PHASE_STYLES.get("load" if sign == "tail" else sign, ""))
    return line


def marks(lane: Document, span: Span, width: int) -> Text:
    """A lane's effects, the worst of each column."""
    cells: list[str] = [""] * width
    order = list(_MARKS)
    for mark in lane["marks"]:
        kind = mark["kind"] if mark["kind"] in _MARKS else order[-1]
        at = min(int(span.at(mark["time"], width)), width - 1)
        if not cells[at] or order.index(kind) < order.index(cells[at]):
            cells[at] = kind
    line = Text()
    for kind in cells:
        sign, style, _ = _MARKS.get(kind, (" ", "", ""))
        line.append(sign, style)
    return line


def _head(made: Document, shown: Console) -> None:
    runtime = safe(f"{made['runtime']} {made['runtime_version']}".strip())
    head = Text(safe(made["workload"]), "bold").append(f"  on {safe(made['host'])}", "")
    shown.print(head.append(f"  {runtime}" if runtime else "", "cyan"))
    shown.print(Text(f"{safe(made['since'])[:19].replace('T', ' ')} to {safe(made['until'])[:19].replace('T', ' ')} UTC", "dim"))
    if made["others"]:
        others = ", ".join(f"{safe(one['workload'])} ({safe(one['host'])})" for one in made["others"][:5])
        more = f", and {len(made['others']) - 5} more" if len(made["others"]) > 5 else ""
        shown.print(Text(f"The latest that loaded it. Others did too: {others}{more}.", "yellow"))
    shown.print()


def _name(lane: Document) -> str:
    if lane["instance"] != "0":
        model = safe(lane["model"]) or "a model not yet identified"
        return f"  {model}, thread {lane['thread']}"
    if not lane["process"]:
        return "other processes"
    return f"{safe(lane['program']) or 'a process'} {lane['pid']}"


def _fitted(name: str, room: int, unicode: bool) -> str:
    if cell_len(name) <= room:
        return set_cell_size(name, room)
    # The start tells what it is, the end which thread it is.
    dots = "…" if unicode else ".."
    tail = name[-(room // 3) :] if room > 12 else ""
    return set_cell_size(set_cell_size(name, max(room - cell_len(tail) - len(dots), 1)) + dots + tail, room)


def _legend(lanes: Sequence[Document], shown: Console, *, unicode: bool) -> None:
    there = {"tail" if bar["scope"] == "tail" else bar["phase"] for lane in lanes for bar in lane["bars"]}
    kinds = {mark["kind"] for lane in lanes for mark in lane["marks"]}
    words = Text()
    for sign, words_of in _WORDS.items():
        if sign in there:
            words.append(_SIGNS[sign][0 if unicode else 1] * 2, PHASE_STYLES.get("load" if sign == "tail" else sign, ""))
            words.append(f" {words_of}   ", "dim")
    for kind, (sign, style, meaning) in _MARKS.items():
        if kind in kinds:
            words.append(sign, style).append(f" {meaning}   ", "dim")
    words.rstrip()
    shown.print()
    shown.print(words)


def _told(lanes: Sequence[Document], shown: Console, span: Span) -> None:
    """Detections in words, then the latest of the other effects; how lanes ended."""
    every = [(mark, lane) for lane in lanes for mark in lane["marks"]]
    found = [(mark, lane) for mark, lane in every if mark["kind"] == "detection"]
    rest = sorted((pair for pair in every if pair[0]["kind"] != "detection"), key=lambda pair: str(pair[0]["time"]))
    told = sorted(found + rest[-MOST_EFFECTS:], key=lambda pair: str(pair[0]["time"]))
    ends = [lane for lane in lanes if lane["ended"]]
    if told:
        shown.print()
    for mark, _ in told:
        sign, style, _ = _MARKS.get(mark["kind"], ("?", "", ""))
        line = Text(f"{safe(mark['time'])[11:23]} ", "dim").append(f"{sign} ", style)
        if mark["severity"]:
            line.append(f"{safe(mark['severity'])} ", SEVERITY_STYLES.get(mark["severity"], ""))
        line.append(safe(mark["text"])).append(f"  in {safe(mark['phase'])}" if mark["phase"] else "", "dim")
        if mark["detection"]:
            line.append(f"  modelward explain {safe(mark['detection'])[:12]}", "green")
        shown.print(line)
    if len(rest) > MOST_EFFECTS:
        more = f"and {len(rest) - MOST_EFFECTS:,} effects before them: --json has all, --since and --until narrow."
        shown.print(Text(more, "dim"))
    for lane in ends:
        shown.print(Text(f"{_name(lane).strip()}: {safe(lane['ended'])}", "dim"))


def _clock(time: float, step: float, whole: float) -> str:
    """A time of the axis, as precise as its steps."""
    when = datetime.fromtimestamp(time, UTC)
    if whole > 2 * 86400:
        return when.strftime("%m-%d %H:%M")
    if step >= 60:
        return when.strftime("%H:%M")
    return when.strftime("%H:%M:%S") + (f".{when.microsecond // 1000:03d}" if step < 1 else "")


def seconds(time: str) -> float:
    """Seconds since 1970 of an RFC 3339 time in UTC."""
    return datetime.fromisoformat(time).timestamp()
