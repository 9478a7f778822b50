"""All rules on one batch, fast: rows are bucketed by event name and phase, and each rule is specialised to
a bucket.

Within a bucket a first pass looks only at fixed-width columns (closed sets, numbers, bools) with a loosened
form of each rule; text is prepared and looked at only in the rows that are left, which on a quiet host are
nearly none.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import polars as pl
from modelward_proto.fields import BY_NAME, Field

from modelward_collector.rules.compile_polars import (
    OTHER,
    compile_node,
    dtype_of,
    fold_column,
    folded,
    folded_fields,
    is_cheap,
    is_closed_type,
    zero_of,
)
from modelward_collector.rules.rule import Rule
from modelward_collector.rules.tree import FALSE, TRUE, Constant, Node, fields_of, loosen, specialise

RUNTIME_ERRORS = (Exception, pl.exceptions.PanicException)
"""What an expression may raise: a panic of polars is a BaseException."""

_EVENT = BY_NAME["event.name"]
_PHASE = BY_NAME["lifecycle.phase"]
_INDEX = "~index"


@dataclass(frozen=True, slots=True)
class Match:
    """The rows of a batch (indexes) that satisfy a rule."""

    rule: Rule
    rows: pl.Series


@dataclass(frozen=True, slots=True)
class Failure:
    """A rule that could not be evaluated on a batch."""

    rule: Rule
    message: str


@dataclass(frozen=True, slots=True)
class _Step:
    rule: Rule
    cheap: pl.Expr | None
    """None: every row passes."""
    full: pl.Expr | None
    """None: the cheap form is the whole rule."""
    tree: Node


class Evaluator:
    """Rules compiled for streams of batches. Not thread-safe: plans are made as buckets first appear."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.rules = tuple(rules)
        self._plans: dict[tuple[str, str], tuple[_Step, ...]] = {}
        self._cheap = {field for rule in rules for field in fields_of(rule.tree) if field.type != "string"} | {_EVENT, _PHASE}

    def run(self, events: pl.DataFrame) -> tuple[list[Match], list[Failure]]:
        """Which rows satisfy which rule, rules in their order; and which rules failed."""
        found: dict[str, list[pl.Series]] = {}
        failed: dict[str, Failure] = {}
        if events.height and self.rules:
            narrow = prepare(events, self._cheap).with_row_index(_INDEX)
            for (name, phase), bucket in narrow.group_by(_EVENT.column, _PHASE.column):
                if steps := self._plan(str(name), str(phase)):
                    self._bucket(events, bucket, steps, found, failed)
        matches = [
            Match(rule, pl.concat(found[rule.id]).sort()) for rule in self.rules if rule.id in found and rule.id not in failed
        ]
        return matches, list(failed.values())

    def _plan(self, name: str, phase: str) -> tuple[_Step, ...]:
        if (known := self._plans.get((name, phase))) is None:
            made = [_step(rule, specialise(rule.tree, {_EVENT.name: name, _PHASE.name: phase})) for rule in self.rules]
            known = self._plans[name, phase] = tuple(step for step in made if step is not None)
        return known

    def _bucket(
        self,
        events: pl.DataFrame,
        bucket: pl.DataFrame,
        steps: tuple[_Step, ...],
        found: dict[str, list[pl.Series]],
        failed: dict[str, Failure],
    ) -> None:
        index = bucket[_INDEX]
        cheap = {step.rule.id: step.cheap for step in steps if step.cheap is not None}
        passed = _select(bucket, cheap, steps, failed)
        later: list[_Step] = []
        for step in steps:
            rows = index if step.cheap is None else index.filter(passed[step.rule.id]) if step.rule.id in passed else None
            if rows is None or not len(rows):
                continue
            if step.full is None:
                found.setdefault(step.rule.id, []).append(rows)
            else:
                later.append(step)
                passed[step.rule.id] = rows
        if not later:
            return
        rows = pl.concat([passed[step.rule.id] for step in later]).unique().sort()
        fields = {field for step in later for field in fields_of(step.tree)}
        frame = prepare(events[rows], fields)
        text = {field for step in later for field in folded_fields(step.tree)}
        frame = frame.with_columns([fold_column(frame[field.column]).alias(folded(field)) for field in text])
        full = {step.rule.id: step.full for step in later if step.full is not None}
        for rule_id, hit in _select(frame, full, steps, failed).items():
            if hit.any():
                found.setdefault(rule_id, []).append(rows.filter(hit))


def _step(rule: Rule, tree: Node) -> _Step | None:
    if tree == FALSE:
        return None
    loose = loosen(tree, is_cheap)
    assert loose != FALSE
    return _Step(
        rule,
        cheap=None if loose == TRUE else compile_node(loose),
        full=None if loose == tree or isinstance(tree, Constant) else compile_node(tree),
        tree=tree,
    )


def _select(
    frame: pl.DataFrame, expressions: dict[str, pl.Expr], steps: tuple[_Step, ...], failed: dict[str, Failure]
) -> dict[str, pl.Series]:
    """Evaluate all together; if that fails, one by one, so that a bad rule stops no other."""
    if not expressions:
        return {}
    try:
        out = frame.select([expression.alias(rule_id) for rule_id, expression in expressions.items()])
        return {rule_id: out[rule_id] for rule_id in expressions}
    except RUNTIME_ERRORS as together:
        if isinstance(together, MemoryError):
            raise
    good: dict[str, pl.Series] = {}
    rules = {step.rule.id: step.rule for step in steps}
    for rule_id, expression in expressions.items():
        try:
            good[rule_id] = frame.select(expression.alias(rule_id)).to_series()
        except RUNTIME_ERRORS as e:
            failed[rule_id] = Failure(rules[rule_id], f"{type(e).__name__}: {e}")
    return good


def prepare(events: pl.DataFrame, fields: Iterable[Field]) -> pl.DataFrame:
    """The columns of some fields in the types that expressions expect, without nulls; what is missing is
    the field's zero.
    """
    wanted: list[pl.Expr] = []
    for field in fields:
        dtype = dtype_of(field)
        if field.column not in events.columns:
            wanted.append(pl.repeat(zero_of(field), pl.len(), dtype=dtype).alias(field.column))
            continue
        column = pl.col(field.column)
        held = events.schema[field.column]
        if field.type == "closed":
            column = column.fill_null(field.values[0])
            if not is_closed_type(field, held):
                column = column.cast(pl.String).cast(dtype, strict=False).fill_null(OTHER)
        else:
            zero = pl.lit(zero_of(field)).cast(dtype)
            column = (column if held == dtype else column.cast(dtype, strict=False)).fill_null(zero)
        wanted.append(column.alias(field.column))
    return events.select(wanted)
