"""Telling the demo on a terminal: aligned, in colour that means something, and plain text where there is no
terminal.
"""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

_LABEL = 11
_STYLES = {
    "bold": "1",
    "dim": "2",
    "good": "32",
    "bad": "31;1",
    "link": "36",
    "critical": "35;1",
    "high": "35",
    "medium": "33",
    "low": "34",
    "informational": "34",
}


class Screen:
    """Writes to one stream. Texts of a workload come escaped from the collector and need no cleaning here."""

    def __init__(self, stream: TextIO = sys.stdout, *, color: bool | None = None) -> None:
        self._stream = stream
        terminal = stream.isatty()
        self._color = (terminal and "NO_COLOR" not in os.environ) if color is None else color
        self._live = terminal
        self._width = max(60, min(100, shutil.get_terminal_size((100, 24)).columns))
        wide = (stream.encoding or "ascii").lower().replace("-", "") == "utf8"
        self._marks = {"good": "✔", "bad": "✘", "rule": "─"} if wide else {"good": "ok", "bad": "NO", "rule": "-"}

    def style(self, text: str, *names: str) -> str:
        """Text in a style; left alone when there is no colour."""
        codes = ";".join(_STYLES[name] for name in names)
        return f"\x1b[{codes}m{text}\x1b[0m" if self._color and codes else text

    def title(self, text: str, below: str) -> None:
        """The first words."""
        self._line()
        self._line("  " + self.style(text, "bold"))
        for line in textwrap.wrap(below, self._width - 2):
            self._line("  " + self.style(line, "dim"))

    def chapter(self, number: int | None, text: str) -> None:
        """A heading with a rule to the right edge."""
        head = f"{number}  {text}" if number is not None else text
        rest = self._marks["rule"] * max(3, self._width - len(head) - 4)
        self._line()
        self._line(f"  {self.style(head, 'bold')} {self.style(rest, 'dim')}")

    def say(self, label: str, text: str, *styles: str) -> None:
        """A labelled paragraph."""
        self._labelled(label, textwrap.wrap(text, self._width - _LABEL - 2) or [""], styles)

    def lines(self, label: str, texts: list[str], *styles: str) -> None:
        """A labelled block whose line breaks stay."""
        self._labelled(label, texts, styles)

    def verdict(self, label: str, good: bool, text: str) -> None:
        """A labelled line with a mark: was it as expected?"""
        kind = "good" if good else "bad"
        indent = len(self._marks[kind]) + 1
        wrapped = textwrap.wrap(text, self._width - _LABEL - 2 - indent) or [""]
        first = f"{self.style(self._marks[kind], kind)} {wrapped[0]}"
        self._labelled(label, [first, *(" " * indent + line for line in wrapped[1:])], ())

    def found(self, title: str, severity: str, facts: list[tuple[str, str]]) -> None:
        """One detection, and below it what is known of it."""
        mark = self.style(self._marks["good"], "good")
        self._labelled("detected", [f"{mark} {self.style(title, 'bold')}  {self.style(severity, severity)}"], ())
        for name, text in facts:
            room = self._width - _LABEL - 2 - 2 - 9
            for position, line in enumerate(textwrap.wrap(text, room, break_on_hyphens=False) or [""]):
                head = self.style(f"{name if position == 0 else '':9}", "dim")
                self._labelled("", [f"  {head}{line}"], ())

    def failed(self, text: str) -> None:
        """The demo ends before its end. Line breaks stay."""
        self._line()
        for line in text.splitlines():
            for part in textwrap.wrap(line, self._width - 2, drop_whitespace=False) or [""]:
                self._line("  " + self.style(part, "bad"))

    def end(self) -> None:
        """Room below the last words."""
        self._line()

    @contextmanager
    def waiting(self, text: str) -> Iterator[None]:
        """Something to wait for, shown on a terminal only as long as it takes."""
        if self._live:
            self._write(self._label("") + self.style(text + " ...", "dim"))
        try:
            yield
        finally:
            if self._live:
                self._write("\r\x1b[K")

    @contextmanager
    def step(self, label: str, text: str) -> Iterator[list[str]]:
        """Something that takes a while: shown as it begins, completed by its time and what is put into the
        list.
        """
        more: list[str] = []
        started = time.monotonic()
        if self._live:
            self._write(self._label(label) + self.style(text + " ...", "dim"))
        try:
            yield more
        except BaseException:
            if self._live:
                self._write("\n")
            raise
        if self._live:
            self._write("\r\x1b[K")
        taken = f"{time.monotonic() - started:.1f} s"
        shown = " ".join([text, *more])
        wrapped = textwrap.wrap(shown, self._width - _LABEL - 2 - 8, break_on_hyphens=False)
        self._labelled(label, wrapped[:-1], ())
        room = self._width - _LABEL - 2 - len(wrapped[-1])
        last = wrapped[-1] + self.style(taken.rjust(room), "dim")
        self._labelled(label if len(wrapped) == 1 else "", [last], ())

    def _labelled(self, label: str, texts: list[str], styles: tuple[str, ...]) -> None:
        for position, text in enumerate(texts):
            self._line(self._label(label if position == 0 else "") + self.style(text, *styles))

    def _label(self, label: str) -> str:
        return "  " + self.style(f"{label:{_LABEL}}", "dim")

    def _line(self, text: str = "") -> None:
        self._write(text.rstrip() + "\n")

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()
