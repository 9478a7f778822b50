"""A batch as rules look at it: a column is made when a rule first asks for it, and each distinct text is looked at once.

Batches hold few distinct texts, and what a rule looks for is in nearly none of them. So one search for all rules' literals
finds the texts worth a closer look, and only these are compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow.compute as pc
from modelward_proto.field import Field

from modelward_collector.rules.compile_polars import (
    OTHER,
    compile_leaf,
    dtype_of,
    fold_column,
    folded,
    is_closed_type,
    needle,
    zero_of,
)
from modelward_collector.rules.tree import Cidr, Leaf, Regex, Text

RUNTIME_ERRORS = (Exception, pl.exceptions.PanicException)
"""What an expression may raise: a panic of polars is a BaseException."""

Bools = npt.NDArray[np.bool_]
Places = npt.NDArray[np.int64]

_WIDE = 1 << 62
"""Keys of a row's closed values are numbers below this."""


class LeafError(Exception):
    """A leaf that cannot be evaluated on this batch."""


@dataclass(slots=True)
class Leaves:
    """The leaves of all rules on one text field, equal ones once."""

    literal: dict[int, pl.Expr] = field(default_factory=dict)
    """By number, those that hold only in texts with a needle."""
    needles: list[str] = field(default_factory=list)
    rest: dict[int, pl.Expr] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Truth:
    """Of a leaf, for each distinct text of its column."""

    of: Bools
    always: bool | None
    """The same for all of them, or None."""


@dataclass(slots=True)
class _Texts:
    codes: npt.NDArray[np.int32]
    truth: dict[int, Truth | LeafError]


class TextLeaves:
    """Numbers the leaves on texts of some rules, and compiles each once."""

    def __init__(self, leaves: Iterable[Leaf]) -> None:
        self.by_field: dict[Field, Leaves] = {}
        self._numbers: dict[int, int] = {}
        self._kept = list(leaves)
        """Numbers go by identity, so the leaves must live."""
        known: dict[Leaf, int] = {}
        for leaf in self._kept:
            if isinstance(leaf, Text | Regex | Cidr):
                number = known.setdefault(leaf, len(known))
                if id(leaf) not in self._numbers:
                    self._numbers[id(leaf)] = number
                    self._add(leaf, number)

    def number(self, leaf: Leaf) -> int | None:
        """None: a leaf that reads no text alone."""
        return self._numbers.get(id(leaf))

    def _add(self, leaf: Text | Regex | Cidr, number: int) -> None:
        leaves = self.by_field.setdefault(leaf.field, Leaves())
        found = needle(leaf)
        if found is None:
            leaves.rest[number] = compile_leaf(leaf)
        elif number not in leaves.literal:
            leaves.literal[number] = compile_leaf(leaf)
            leaves.needles.append(found)


class Columns:
    """Columns of one batch."""

    def __init__(self, events: pl.DataFrame, leaves: TextLeaves) -> None:
        self.events = events
        self._schema = events.schema
        self._leaves = leaves
        self._texts: dict[Field, _Texts] = {}
        self._plain: dict[Field, pl.Series] = {}

    def series(self, field: Field) -> pl.Series:
        """A column in the type that expressions expect, without nulls."""
        if (known := self._plain.get(field)) is None:
            known = self._plain[field] = self._as_it_is(field)
        return known

    def _as_it_is(self, field: Field) -> pl.Series:
        held = self._schema.get(field.column)
        if held is not None and (is_closed_type(field, held) if field.type == "closed" else held == dtype_of(field)):
            column = self.events[field.column]
            if not column.null_count():
                return column
        # A frame of one column: each expression on a wide one costs the reading of its schema.
        narrow = self.events.select(field.column) if held is not None else self.events.select(pl.first())
        return prepare(narrow, [field]).to_series()

    def numbers(self, field: Field) -> npt.NDArray[np.generic]:
        """A column of numbers."""
        return self.series(field).to_numpy()

    def truth(self, leaf: Leaf, number: int) -> Truth:
        """For each distinct text of the leaf's field whether the leaf holds.

        Raises:
            LeafError: it cannot be said.
        """
        found = self._coded(leaf.field).truth[number]
        if isinstance(found, LeafError):
            raise found
        return found

    def codes(self, field: Field) -> npt.NDArray[np.int32]:
        """Which of the distinct texts each row has."""
        return self._coded(field).codes

    def combinations(self, fields: Sequence[Field]) -> tuple[Places, list[tuple[str | bool, ...]]]:
        """What rows hold in closed columns and bools: for each row the number of its combination, and the combinations.

        Values that this version does not know are all alike there, as no rule names one: a host may make up any number of them.
        """
        key = np.zeros(self.events.height, np.int64)
        size = 1
        for one in fields:
            # Small whole numbers that tell a column's values apart, within this batch.
            codes = self.series(one).to_physical().to_numpy().astype(np.int64)
            low, high = int(codes.min()), int(codes.max())
            if low == high:
                continue
            width = high - low + 1
            if size * width >= _WIDE:
                key, size = _dense(key)
            key = key * width + (codes - low)
            size *= width
        key, size = _dense(key)
        first = np.zeros(size, np.int64)
        first[key[::-1]] = np.arange(len(key) - 1, -1, -1)
        shown = [_known(one, self.series(one).gather(first).to_list()) for one in fields]
        return key, list(zip(*shown, strict=True))

    def _coded(self, field: Field) -> _Texts:
        if (known := self._texts.get(field)) is None:
            array = pc.dictionary_encode(self.series(field).to_arrow())
            values = pl.Series(field.column, array.dictionary, dtype=pl.String)
            known = self._texts[field] = _Texts(array.indices.to_numpy(), _truths(values, self._leaves.by_field[field], field))
        return known


def _known(field: Field, values: list[str | bool]) -> list[str | bool]:
    if field.type != "closed":
        return values
    known = frozenset(field.values)
    return [value if value in known else OTHER for value in values]


def _dense(key: Places) -> tuple[Places, int]:
    array = pc.dictionary_encode(key)
    return array.indices.to_numpy().astype(np.int64), len(array.dictionary)


def _truths(values: pl.Series, leaves: Leaves, field: Field) -> dict[int, Truth | LeafError]:
    frame = pl.DataFrame({field.column: values, folded(field): fold_column(values)})
    found = _select(frame, leaves.rest)
    if not leaves.literal:
        return found
    worth = values.str.contains_any(leaves.needles, ascii_case_insensitive=True).arg_true()
    never = Truth(np.zeros(len(values), np.bool_), False)
    if not len(worth):
        return found | dict.fromkeys(leaves.literal, never)
    for number, truth in _select(frame[worth], leaves.literal).items():
        if isinstance(truth, LeafError):
            found[number] = truth
        elif truth.always is False:
            found[number] = never
        else:
            whole = np.zeros(len(values), np.bool_)
            whole[worth.to_numpy()] = truth.of
            found[number] = _truth(whole)
    return found


def _truth(of: Bools) -> Truth:
    return Truth(of, False if not of.any() else True if of.all() else None)


def _select(frame: pl.DataFrame, expressions: dict[int, pl.Expr]) -> dict[int, Truth | LeafError]:
    """Evaluate all together; if that fails, one by one, so that a bad leaf spoils no other."""
    if not expressions:
        return {}
    try:
        out = frame.select([expression.alias(str(number)) for number, expression in expressions.items()])
        return {number: _truth(out[str(number)].to_numpy()) for number in expressions}
    except RUNTIME_ERRORS as together:
        if isinstance(together, MemoryError):
            raise
    found: dict[int, Truth | LeafError] = {}
    for number, expression in expressions.items():
        try:
            found[number] = _truth(frame.select(expression.alias("holds")).to_series().to_numpy())
        except RUNTIME_ERRORS as e:
            found[number] = LeafError(f"{type(e).__name__}: {e}")
    return found


def prepare(events: pl.DataFrame, fields: Iterable[Field]) -> pl.DataFrame:
    """The columns of some fields in the types that expressions expect, without nulls; what is missing is
    the field's zero.
    """
    wanted: list[pl.Expr] = []
    for one in fields:
        dtype = dtype_of(one)
        if one.column not in events.columns:
            wanted.append(pl.repeat(zero_of(one), pl.len(), dtype=dtype).alias(one.column))
            continue
        column = pl.col(one.column)
        held = events.schema[one.column]
        if one.type == "closed":
            column = column.fill_null(one.values[0])
            if not is_closed_type(one, held):
                column = column.cast(pl.String).cast(dtype, strict=False).fill_null(OTHER)
        else:
            zero = pl.lit(zero_of(one)).cast(dtype)
            column = (column if held == dtype else column.cast(dtype, strict=False)).fill_null(zero)
        wanted.append(column.alias(one.column))
    return events.select(wanted)
