"""How an output stands: for /healthz, /metrics, the page and the commands."""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

from modelward_collector import metrics

REMEMBERED = 1000


@dataclass(slots=True)
class State:
    """Counts since the process started, what is wrong now, and what became of the latest detections."""

    name: str
    address: str
    delivered: int = 0
    reduced: int = 0
    silenced: int = 0
    set_aside: int = 0
    problem: str = ""
    problem_since: float = 0.0
    last_delivered: float = 0.0
    recent: OrderedDict[str, dict[str, Any]] = field(default_factory=OrderedDict, repr=False)

    def was_delivered(self, detection_id: str, *, reduced: bool) -> None:
        """The receiver took it."""
        self.delivered += 1
        self.reduced += reduced
        self.last_delivered = time.time()
        metrics.OUTPUT_DELIVERED.labels(self.name).inc()
        if reduced:
            metrics.OUTPUT_REDUCED.labels(self.name).inc()
        self._remember(detection_id, "delivered")

    def was_silenced(self, detection_id: str) -> None:
        """An exception covers it."""
        self.silenced += 1
        metrics.OUTPUT_SILENCED.labels(self.name).inc()
        self._remember(detection_id, "silenced")

    def was_set_aside(self, detection_id: str) -> None:
        """The receiver does not want it in any form."""
        self.set_aside += 1
        metrics.OUTPUT_SET_ASIDE.labels(self.name).inc()
        self._remember(detection_id, "set_aside")

    def fails(self, problem: str) -> bool:
        """Note a failed try; whether that is news."""
        metrics.OUTPUT_FAILED_TRIES.labels(self.name).inc()
        return self.stands(problem)

    def stands(self, problem: str) -> bool:
        """Note what is wrong, or with an empty text that nothing is; whether that is news."""
        news = problem != self.problem
        if bool(problem) != bool(self.problem):
            self.problem_since = time.time()
        self.problem = problem
        metrics.OUTPUT_FAILING.labels(self.name).set(bool(problem))
        return news

    def answer(self) -> dict[str, Any]:
        """For whoever asks over the process's socket."""
        return {
            "output": self.name, "address": self.address, "delivered": self.delivered, "reduced": self.reduced,
            "silenced": self.silenced, "set_aside": self.set_aside, "problem": self.problem, "problem_since": self.problem_since,
            "last_delivered": self.last_delivered,
        }

    def outcome(self, detection_id: str) -> dict[str, Any]:
        """What became of a detection: ``outcome`` empty when it is not known (yet)."""
        return {"output": self.name, "outcome": "", "at": 0.0, "problem": self.problem} | self.recent.get(detection_id, {})

    def _remember(self, detection_id: str, outcome: str) -> None:
        self.recent[detection_id] = {"outcome": outcome, "at": time.time()}
        while len(self.recent) > REMEMBERED:
            self.recent.popitem(last=False)
