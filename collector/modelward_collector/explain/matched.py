"""Which conditions of a rule one event satisfied: the rule's own tree, asked leaf by leaf with the stream's own expressions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl
from modelward_proto.fields import STORED

from modelward_collector.rules.compile_polars import compile_node, fold_column, folded, folded_fields
from modelward_collector.rules.evaluate import prepare
from modelward_collector.rules.rule import Row, Value
from modelward_collector.rules.self_tests import frame
from modelward_collector.rules.tree import (
    And,
    Cidr,
    Compare,
    Constant,
    Is,
    Leaf,
    Node,
    Not,
    OneOf,
    Or,
    Regex,
    Same,
    Text,
    Wild,
    fields_of,
)

MAX_VALUES = 6


@dataclass(frozen=True, slots=True)
class Condition:
    """A field, what the event had in it, and what the rule asks for."""

    field: str
    value: str
    wanted: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Matched:
    """What an event had that the rule asks for, and how many of the rule's exclusions were looked at and did not apply."""

    conditions: tuple[Condition, ...]
    exclusions: int


def matched(tree: Node, event: Mapping[str, Any]) -> Matched | None:
    """Why the tree holds for an event (a row of ``events``, as JSON); None when it does not hold."""
    one = _One(event)
    if not one.holds(tree):
        return None
    found: dict[str, Condition] = {}
    exclusions = _walk(tree, one, found)
    return Matched(tuple(found.values()), exclusions)


def _walk(node: Node, one: _One, found: dict[str, Condition]) -> int:
    """Gather the leaves that make ``node`` hold; returns the number of exclusions met on the way."""
    if isinstance(node, And):
        return sum(_walk(item, one, found) for item in node.items)
    if isinstance(node, Or):
        return next((_walk(item, one, found) for item in node.items if one.holds(item)), 0)
    if isinstance(node, Not):
        inner = node.item
        return len(inner.items) if isinstance(inner, Or) else 1
    if not isinstance(node, Constant):
        condition = Condition(node.field.name, one.value(node.field.name), asked(node), node.field.doc)
        # Two leaves on one field are two conditions.
        found[f"{condition.field} {condition.wanted}"] = condition
    return 0


class _One:
    """One event, as a frame that expressions read."""

    def __init__(self, event: Mapping[str, Any]) -> None:
        self._row: Row = {f.name: _value(f.type, event[f.column]) for f in STORED if f.type != "time" and f.column in event}
        self._frame = frame([self._row])

    def value(self, name: str) -> str:
        return str(self._row.get(name, ""))

    def holds(self, node: Node) -> bool:
        if isinstance(node, Constant):
            return node.value
        ready = prepare(self._frame, fields_of(node))
        ready = ready.with_columns([fold_column(ready[f.column]).alias(folded(f)) for f in folded_fields(node)])
        result: pl.Series = ready.select(compile_node(node).alias("held")).to_series()
        return bool(result[0])


def _value(kind: str, value: Any) -> Value:
    if kind in ("string", "closed"):
        return str(value)
    if kind == "bool":
        return bool(value)
    return float(value) if kind == "f64" else int(value)


def asked(leaf: Leaf) -> str:
    """What a leaf asks for, in words."""
    if isinstance(leaf, OneOf):
        values = sorted(leaf.values)
        rest = len(leaf.field.values) - len(values)
        if len(values) > MAX_VALUES and rest <= MAX_VALUES:
            return f"anything but {', '.join(sorted(set(leaf.field.values) - leaf.values))}"
        shown = values if len(values) <= MAX_VALUES + 2 else [*values[:MAX_VALUES], f"{len(values) - MAX_VALUES} more"]
        return values[0] if len(values) == 1 else f"one of {', '.join(shown)}"
    if isinstance(leaf, Is):
        return str(leaf.value).lower()
    if isinstance(leaf, Compare):
        return f"{'' if leaf.operator == '==' else leaf.operator + ' '}{leaf.number:g}"
    if isinstance(leaf, Same):
        return f"the same as {leaf.other.name}"
    if isinstance(leaf, Cidr):
        return f"an address in {leaf.network}"
    if isinstance(leaf, Regex):
        return f"a text that matches {leaf.pattern.removeprefix('(?s)')}"
    return _text(leaf)


def _text(leaf: Text) -> str:
    shown = "".join(part if isinstance(part, str) else part.value for part in leaf.glob)
    words = [part for part in leaf.glob if isinstance(part, str)]
    if not shown:
        return "nothing"
    if not any(isinstance(part, Wild) for part in leaf.glob):
        return shown
    ends = (leaf.glob[0] is Wild.ANY, leaf.glob[-1] is Wild.ANY)
    if len(words) == 1 and len(leaf.glob) == 1 + sum(ends):
        return {
            (True, True): "a text with {} in it",
            (False, True): "a text that begins with {}",
            (True, False): "a text that ends with {}",
        }[ends].format(words[0])
    return f"a text like {shown}"
