"""All rules on one batch, fast: rows that are alike in their closed columns share what is left of each rule.

Once closed columns and bools are known, most rules are settled; what is left of the others asks for texts and numbers. Texts are
looked at once for each distinct value (:mod:`.columns`), and a rule of which no value of the batch is in favour costs no look at
its rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from modelward_proto.field import Field
from modelward_proto.fields import BY_NAME

from modelward_collector.rules.columns import RUNTIME_ERRORS, Bools, Columns, LeafError, Places, TextLeaves, prepare
from modelward_collector.rules.compile_polars import OPERATIONS, compile_leaf, fold_column, folded, folded_fields
from modelward_collector.rules.rule import Rule
from modelward_collector.rules.tree import (
    FALSE,
    And,
    Compare,
    Constant,
    Is,
    Leaf,
    Node,
    Not,
    OneOf,
    Or,
    fields_of,
    leaves,
    specialise,
)

__all__ = ["RUNTIME_ERRORS", "Evaluator", "Failure", "Match", "prepare"]

_EVENT = BY_NAME["event.name"]
_PHASE = BY_NAME["lifecycle.phase"]

MAX_PLANS = 4096
NEW_PLANS = 32
"""Combinations planned in one batch: a batch made to hold thousands of them costs time and no more than this of planning."""


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


@dataclass(frozen=True, slots=True, eq=False)
class _Step:
    """What is left of a rule. One object for all rows of which the same is left."""

    rule: Rule
    left: Node


_Plan = tuple[_Step, ...]


class Evaluator:
    """Rules compiled for streams of batches. Not thread-safe: plans are made as combinations first appear."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.rules = tuple(rules)
        self._leaves = TextLeaves(leaf for rule in rules for leaf in leaves(rule.tree))
        asked = {leaf.field for rule in rules for leaf in leaves(rule.tree) if isinstance(leaf, OneOf | Is)}
        self._settled: tuple[Field, ...] = (_EVENT, _PHASE, *sorted(asked - {_EVENT, _PHASE}, key=lambda field: field.name))
        self._coarse: dict[tuple[str | bool, ...], _Plan] = {}
        self._fine: dict[tuple[str | bool, ...], _Plan] = {}
        self._steps: dict[tuple[str, Node], _Step] = {}

    def run(self, events: pl.DataFrame) -> tuple[list[Match], list[Failure]]:
        """Which rows satisfy which rule, rules in their order; and which rules failed."""
        if not events.height or not self.rules:
            return [], []
        columns = Columns(events, self._leaves)
        numbers, combinations = columns.combinations(self._settled)
        where: dict[_Step, list[int]] = {}
        new = 0
        for number, values in enumerate(combinations):
            plan = self._fine.get(values)
            if plan is None:
                new += 1
                plan = self._plan(values, fine=new <= NEW_PLANS)
            for step in plan:
                where.setdefault(step, []).append(number)
        found: dict[str, list[Places]] = {}
        failed: dict[str, Failure] = {}
        for step, of in where.items():
            try:
                rows = _rows(columns, self._leaves, step.left, numbers, of, len(combinations))
            except LeafError as e:
                failed[step.rule.id] = Failure(step.rule, str(e))
                continue
            except RUNTIME_ERRORS as e:
                if isinstance(e, MemoryError):
                    raise
                failed[step.rule.id] = Failure(step.rule, f"{type(e).__name__}: {e}")
                continue
            if len(rows):
                found.setdefault(step.rule.id, []).append(rows)
        matches = [
            Match(rule, pl.Series(np.sort(np.concatenate(found[rule.id])), dtype=pl.UInt32))
            for rule in self.rules if rule.id in found and rule.id not in failed
        ]
        return matches, list(failed.values())

    def _plan(self, values: tuple[str | bool, ...], *, fine: bool) -> _Plan:
        """What is left of each rule once these values are known; by event and phase alone unless ``fine``."""
        coarse = self._coarse.get(values[:2])
        if coarse is None:
            known = dict(zip((_EVENT.name, _PHASE.name), values[:2], strict=True))
            coarse = self._coarse[values[:2]] = self._steps_of([(rule, rule.tree) for rule in self.rules], known)
        if not fine:
            return coarse
        if len(self._fine) >= MAX_PLANS:
            self._fine.clear()
            self._steps.clear()
            self._coarse.clear()
        known = {field.name: value for field, value in zip(self._settled, values, strict=True)}
        made = self._fine[values] = self._steps_of([(step.rule, step.left) for step in coarse], known)
        return made

    def _steps_of(self, trees: Sequence[tuple[Rule, Node]], known: dict[str, str | bool]) -> _Plan:
        made = []
        for rule, tree in trees:
            left = specialise(tree, known)
            if left != FALSE:
                made.append(self._steps.setdefault((rule.id, left), _Step(rule, left)))
        return tuple(made)


def _rows(columns: Columns, texts: TextLeaves, left: Node, numbers: Places, of: list[int], combinations: int) -> Places:
    """Rows of some combinations that satisfy what is left of a rule."""
    none: Places = np.zeros(0, np.int64)
    if _outlook(columns, texts, left) is False:
        return none
    member = np.zeros(combinations, np.bool_)
    member[of] = True
    rows = np.flatnonzero(member[numbers])
    return rows[_holds(columns, texts, left, rows)]


def _outlook(columns: Columns, texts: TextLeaves, node: Node) -> bool | None:
    """Whether a tree holds in all rows of the batch, or in none; None when it takes a look at them."""
    if isinstance(node, Constant):
        return node.value
    if isinstance(node, Not):
        inner = _outlook(columns, texts, node.item)
        return None if inner is None else not inner
    if isinstance(node, And | Or):
        settles = isinstance(node, Or)
        result: bool | None = not settles
        for item in node.items:
            one = _outlook(columns, texts, item)
            if one is settles:
                return settles
            if one is None:
                result = None
        return result
    number = texts.number(node)
    return None if number is None else columns.truth(node, number).always


def _holds(columns: Columns, texts: TextLeaves, node: Node, rows: Places) -> Bools:
    """Whether a tree holds, for each of some rows. Later parts of an and (or) are asked only for rows that need them."""
    if isinstance(node, Constant):
        return np.full(len(rows), node.value)
    if isinstance(node, Not):
        return ~_holds(columns, texts, node.item, rows)
    if isinstance(node, And | Or):
        settles = isinstance(node, Or)
        result = np.full(len(rows), not settles)
        open_ = np.arange(len(rows))
        for item in node.items:
            held = _holds(columns, texts, item, rows[open_])
            result[open_[held == settles]] = settles
            open_ = open_[held != settles]
            if not len(open_):
                break
        return result
    number = texts.number(node)
    if number is not None:
        return columns.truth(node, number).of[columns.codes(node.field)[rows]]
    return _leaf(columns, node, rows)


def _leaf(columns: Columns, leaf: Leaf, rows: Places) -> Bools:
    if isinstance(leaf, Compare):
        numbers = columns.numbers(leaf.field)
        held: Bools = OPERATIONS[leaf.operator](numbers[rows], numbers.dtype.type(leaf.number))
        return held
    frame = pl.DataFrame([columns.series(field).gather(rows) for field in fields_of(leaf)])
    frame = frame.with_columns([fold_column(frame[field.column]).alias(folded(field)) for field in folded_fields(leaf)])
    return frame.select(compile_leaf(leaf).alias("holds")).to_series().to_numpy()
