"""Proof, while the agent runs, that its hooks report what they should: ``modelward-agent check`` in a process of its own.

The canary is of that process's own sensor, so nothing of it reaches the agent's rings, and no record of a workload is lost for
it.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from modelward_agent.sensor.doors import DoorReport

TRIES = 3
AGAIN_AFTER_S = 30.0
STOP_S = 3.0

log = logging.getLogger(__name__)


class Proof:
    """Runs the check at low priority and remembers which effects it proved. What a busy host kept from being proven is
    tried again before it is called a problem. Probes are left out: whether a real server's are heard says the agent's own sensor.
    """

    def __init__(
        self, command: Sequence[str] = (sys.executable, "-P", "-m", "modelward_agent.cli", "check", "--json", "--no-probes"),
    ) -> None:
        self._command = ["nice", "-n", "19", *command]
        self._process: subprocess.Popen[bytes] | None = None
        self._proven: set[str] = set()
        self._tries_left = TRIES
        self._again_at = 0.0
        self.problem = ""

    def start(self) -> None:
        """The hooks were attached: what was proven of earlier ones says nothing of these."""
        self.stop()
        self._proven, self._tries_left, self.problem = set(), TRIES, ""
        self._try()

    def _try(self) -> None:
        self._tries_left -= 1
        try:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
        except OSError as e:
            self.problem = f"hooks could not be proven: {e.strerror}"

    def poll(self) -> None:
        """Take the result once it is there; never waits. What it prints fits into a pipe's buffer."""
        if self._process is None:
            if self._again_at and time.monotonic() >= self._again_at:
                self._again_at = 0.0
                self._try()
            return
        if self._process.poll() is None:
            return
        output, _ = self._process.communicate()
        self._process = None
        failure = self._judge(output)
        if failure and self._tries_left > 0:
            self._again_at = time.monotonic() + AGAIN_AFTER_S
        elif failure:
            self.problem = failure
            log.warning(failure)

    def _judge(self, output: bytes) -> str:
        """Take over what was proven. Empty when that is everything, else what is wrong."""
        try:
            doors = json.loads(output)["doors"]
        except (ValueError, KeyError):
            return "hooks could not be proven: the check gave no result"
        self._proven |= {door["effect"] for door in doors if door["proven"]}
        unproven = sorted({door["effect"] for door in doors} - self._proven)
        return f"no probe came through for: {', '.join(unproven)}" if unproven else ""

    def applied(self, doors: Sequence[DoorReport]) -> list[dict[str, Any]]:
        """The doors as the heartbeat tells them. One that is not there now is not proven, whatever was seen of an earlier one."""
        return [
            {**asdict(door), "proven": door.door != "none" and (door.proven or door.effect in self._proven)} for door in doors
        ]

    def stop(self) -> None:
        """End a check that is under way, which removes what it made, and begin no other."""
        self._again_at = 0.0
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.communicate(timeout=STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.communicate()
            self._process = None
