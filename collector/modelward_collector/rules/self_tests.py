"""A rule's own tests, run through the same code as the stream: each event of ``match`` must match, none of
``no_match`` may.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import polars as pl
from modelward_proto.field import Field
from modelward_proto.fields import STORED

from modelward_collector.rules.compile_polars import dtype_of, zero_of
from modelward_collector.rules.evaluate import Evaluator
from modelward_collector.rules.rule import Problem, Row, Rule


def frame(rows: Sequence[Row]) -> pl.DataFrame:
    """Events as a batch: every column of the field table, the field's zero where a row says nothing."""
    return pl.DataFrame([_column(field, rows) for field in STORED])


def _column(field: Field, rows: Sequence[Row]) -> pl.Series:
    zero = datetime.fromtimestamp(0, UTC) if field.type == "time" else zero_of(field)
    dtype = pl.String() if field.type == "closed" else dtype_of(field)
    return pl.Series(field.column, [row.get(field.name, zero) for row in rows], dtype=dtype)


def matched(rule: Rule, rows: Sequence[Row]) -> list[bool]:
    """Which of some events a rule matches."""
    events = frame(rows)
    matches, failures = Evaluator([rule]).run(events)
    if failures:
        raise RuntimeError(failures[0].message)
    hit = set(matches[0].rows.to_list()) if matches else set()
    return [index in hit for index in range(len(rows))]


def run(rule: Rule) -> list[Problem]:
    """The tests of a rule that fail, each at its line."""
    found: list[Problem] = []
    lines = dict(rule.lines)
    for kind, rows, wanted in (("match", rule.match, True), ("no_match", rule.no_match, False)):
        for number, hit in enumerate(matched(rule, rows), 1):
            if hit is not wanted:
                said = "matches, and must not" if hit else "does not match, and must"
                found.append(Problem(rule.file, lines[f"{kind} {number}"], f"own test {kind} {number} {said}"))
    return found
