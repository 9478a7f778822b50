"""What a receiver asks of the rules: classify a batch, judge it, reload, say what is wrong.

Nothing that a batch holds makes it raise: a rule that fails on a batch becomes a problem, and the others go
on.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from modelward_collector.rules.artifacts import Artifacts
from modelward_collector.rules.detections import SCHEMA, BatchName, build
from modelward_collector.rules.evaluate import RUNTIME_ERRORS, Evaluator
from modelward_collector.rules.reload import RuleFolder
from modelward_collector.rules.rule import Problem, Rule

__all__ = ["BatchName", "Judge", "Problem", "Rule"]

log = logging.getLogger(__name__)

MAX_FAILURES = 100


class Judge:
    """Rules of the shipped pack and of extra folders. For one thread."""

    def __init__(self, directories: Sequence[Path]) -> None:
        """Never raises on a bad rule: see :meth:`problems`."""
        self._folder = RuleFolder(directories)
        self._evaluator = Evaluator(self._folder.rules)
        self._failures: OrderedDict[tuple[str, str], Problem] = OrderedDict()
        self._artifacts = Artifacts()
        self._tell()

    def rules(self) -> list[Rule]:
        """The rules in force."""
        return list(self._folder.rules)

    def problems(self) -> list[Problem]:
        """What is wrong with rule files now, and which rules failed on a batch since they were loaded."""
        return [*self._folder.problems, *self._failures.values()]

    def reload(self) -> bool:
        """Take up changed files; True when something changed. Cheap when nothing did."""
        if not self._folder.refresh():
            return False
        self._evaluator = Evaluator(self._folder.rules)
        self._failures.clear()
        self._tell()
        return True

    def classify(self, events: pl.DataFrame) -> pl.DataFrame:
        """``events`` with ``process_executable_class``, ``file_class`` and ``destination_class`` (Enum
        columns) added or replaced.
        """
        return self._folder.classes.classify(events)

    def judge(self, events: pl.DataFrame, name: BatchName) -> pl.DataFrame:
        """Detections of a classified batch, as :data:`~modelward_collector.rules.detections.SCHEMA`.

        ``events`` has columns as in the field table, any of which may be missing, and ``row``: the row's
        number in its batch. Rules come in their order, rows of a rule in the batch's.
        """
        if not events.height:
            return SCHEMA.to_frame()
        try:
            events = _named(events, name)
            self._artifacts.learn(events, name.agent_id)
            matches, failures = self._evaluator.run(events)
        except RUNTIME_ERRORS as e:
            self._note("", f"{name.host}: batch {name.number} was not judged: {type(e).__name__}: {e}")
            return SCHEMA.to_frame()
        for failure in failures:
            self._failed(failure.rule, failure.message)
        made: list[pl.DataFrame] = []
        for match in matches:
            try:
                made.append(build(events, match, name, lambda rows: self._artifacts.of(rows, name.agent_id)))
            except RUNTIME_ERRORS as e:
                self._failed(match.rule, f"{type(e).__name__}: {e}")
        return pl.concat(made) if made else SCHEMA.to_frame()

    def remember(self, agent_id: str, instance: int, path: str) -> None:
        """Name the artifact of an instance, for sentences; :meth:`judge` learns it from the events itself."""
        self._artifacts.remember(agent_id, instance, path)

    def _tell(self) -> None:
        for problem in self._folder.problems:
            log.error("broken rule file", extra={"file": problem.file, "line": problem.line, "problem": problem.message})

    def _failed(self, rule: Rule, message: str) -> None:
        self._note(rule.file, f"rule {rule.name} failed on a batch: {message}")

    def _note(self, file: str, message: str) -> None:
        if (file, message) not in self._failures:
            log.error("%s", message)
            if len(self._failures) >= MAX_FAILURES:
                self._failures.popitem(last=False)
        self._failures[file, message] = Problem(file, 0, message)


def _named(events: pl.DataFrame, name: BatchName) -> pl.DataFrame:
    """The batch with the columns that name its host, which rules may read."""
    known = {"host_name": name.host, "agent_id": name.agent_id}
    return events.with_columns(pl.lit(text).alias(column) for column, text in known.items() if column not in events)
