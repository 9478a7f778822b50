"""What is said while long work goes on: a line that moves on a terminal, else one line now and then."""

from __future__ import annotations

import sys
import time

from modelward_collector.store.backup.manifest import shown

EVERY_S = 10.0
EVERY_ON_TERMINAL_S = 0.2


class Progress:
    """Says how much of ``total`` bytes is done."""

    def __init__(self, what: str, total: int) -> None:
        self._what = what
        self._total = total
        self._done = 0
        self._moves = sys.stderr.isatty()
        self._said = time.monotonic()

    def add(self, count: int) -> None:
        """So many bytes more."""
        self._done += count
        if time.monotonic() - self._said >= (EVERY_ON_TERMINAL_S if self._moves else EVERY_S):
            self._say()

    def end(self) -> None:
        """Leave the line."""
        if self._moves:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    def _say(self) -> None:
        self._said = time.monotonic()
        line = f"{self._what}: {shown(self._done)} of {shown(self._total)}"
        print(f"\r\x1b[K{line}" if self._moves else line, end="" if self._moves else "\n", file=sys.stderr, flush=True)
