"""Proof, while the agent runs, that its hooks report what they should: ``modelward-agent check`` in a process of its own.

The canary is of that process's own sensor, so nothing of it reaches the agent's rings, and no record of a workload is lost for
it.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from modelward_agent.sensor.doors import DoorReport

log = logging.getLogger(__name__)


class Proof:
    """Runs the check once, at low priority, and remembers which effects it proved."""

    def __init__(self, command: Sequence[str] = (sys.executable, "-P", "-m", "modelward_agent.cli", "check", "--json")) -> None:
        self._command = ["nice", "-n", "19", *command]
        self._process: subprocess.Popen[bytes] | None = None
        self._proven: set[str] = set()
        self.problem = ""

    def start(self) -> None:
        try:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
        except OSError as e:
            self.problem = f"hooks could not be proven: {e.strerror}"

    def poll(self) -> None:
        """Take the result once it is there; never waits. What it prints fits into a pipe's buffer."""
        if self._process is None or self._process.poll() is None:
            return
        output, _ = self._process.communicate()
        self._process = None
        try:
            doors = json.loads(output)["doors"]
        except (ValueError, KeyError):
            self.problem = "hooks could not be proven: the check gave no result"
            log.warning(self.problem)
            return
        self._proven = {door["effect"] for door in doors if door["proven"]}
        unproven = sorted({door["effect"] for door in doors} - self._proven)
        if unproven:
            self.problem = f"no probe came through for: {', '.join(unproven)}"
            log.warning(self.problem)

    def applied(self, doors: Sequence[DoorReport]) -> list[dict[str, Any]]:
        """The doors as the heartbeat tells them."""
        return [{**asdict(door), "proven": door.proven or door.effect in self._proven} for door in doors]

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None
