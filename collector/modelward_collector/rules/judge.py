"""What a receiver asks of the rules: classify a batch, judge it, reload, say what is wrong.

Nothing that a batch holds makes it raise: a rule that fails on a batch becomes a problem, and the others go
on.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Sequence
from functools import reduce
from operator import or_
from pathlib import Path

import polars as pl
from modelward_proto.fields import BY_NAME

from modelward_collector.rules.detections import SCHEMA, BatchName, build
from modelward_collector.rules.evaluate import RUNTIME_ERRORS, Evaluator, prepare
from modelward_collector.rules.reload import RuleFolder
from modelward_collector.rules.rule import Problem, Rule

__all__ = ["BatchName", "Judge", "Problem", "Rule"]

log = logging.getLogger(__name__)

MAX_ARTIFACTS = 65536
MAX_FAILURES = 100

_INSTANCE = (BY_NAME["model.instance"], BY_NAME["lifecycle.origin.instance"])
_KEYS = (BY_NAME["event.name"], BY_NAME["model.instance"])
_NAMING = (BY_NAME["model.instance"], BY_NAME["file.path"], BY_NAME["model.path"])


class Judge:
    """Rules of the shipped pack and of extra folders. For one thread."""

    def __init__(self, directories: Sequence[Path]) -> None:
        """Never raises on a bad rule: see :meth:`problems`."""
        self._folder = RuleFolder(directories)
        self._evaluator = Evaluator(self._folder.rules)
        self._failures: OrderedDict[tuple[str, str], Problem] = OrderedDict()
        self._artifacts: OrderedDict[tuple[str, int], str] = OrderedDict()

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
            self._learn(events, name.agent_id)
            matches, failures = self._evaluator.run(events)
        except RUNTIME_ERRORS as e:
            self._note("", f"{name.host}: batch {name.number} was not judged: {type(e).__name__}: {e}")
            return SCHEMA.to_frame()
        for failure in failures:
            self._failed(failure.rule, failure.message)
        made: list[pl.DataFrame] = []
        for match in matches:
            try:
                made.append(build(events, match, name, lambda rows: self._artifact(rows, name.agent_id)))
            except RUNTIME_ERRORS as e:
                self._failed(match.rule, f"{type(e).__name__}: {e}")
        return pl.concat(made) if made else SCHEMA.to_frame()

    def remember(self, agent_id: str, instance: int, path: str) -> None:
        """Name the artifact of an instance, for sentences; :meth:`judge` learns it from the events itself."""
        key = (agent_id, instance)
        self._artifacts[key] = path.rstrip("/").rpartition("/")[2] or path
        self._artifacts.move_to_end(key)
        if len(self._artifacts) > MAX_ARTIFACTS:
            self._artifacts.popitem(last=False)

    def _learn(self, events: pl.DataFrame, agent_id: str) -> None:
        """Take the names of artifacts from rows that tell of an instance."""
        keys = prepare(events, _KEYS)
        telling = reduce(or_, [pl.col("event_name") == name for name in ("lifecycle", "model_identity")])
        rows = events[keys.select((telling & (pl.col("model_instance") != 0)).arg_true()).to_series()]
        if rows.height:
            for instance, path, model in prepare(rows, _NAMING).unique(maintain_order=True).iter_rows():
                if path or model:
                    self.remember(agent_id, instance, path or model)

    def _artifact(self, rows: pl.DataFrame, agent_id: str) -> pl.Series:
        """For each row the base name of the model file it goes back to: of its origin if it has one, else
        of its instance.
        """
        known = prepare(rows, _INSTANCE)
        names = [
            self._artifacts.get((agent_id, origin or own), "")
            for own, origin in zip(known["model_instance"].to_list(), known["lifecycle_origin_instance"].to_list(), strict=True)
        ]
        return pl.Series("~artifact", [name or "a model" for name in names], dtype=pl.String)

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
