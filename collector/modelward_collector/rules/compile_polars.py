"""A rule's tree as a polars expression over prepared columns.

Every leaf is two-valued: the prepared columns hold no nulls (:mod:`.evaluate`). Text that ignores case
reads a folded copy of its column, named by :func:`folded`: pyarrow folds ASCII alone, polars' own lower
case does not.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from functools import reduce
from operator import and_, eq, ge, gt, le, lt, or_
from typing import Any

import polars as pl
import pyarrow.compute as pc
from modelward_proto.field import Field

from modelward_collector.rules.parse import glob_pattern
from modelward_collector.rules.tree import (
    And,
    Cidr,
    Compare,
    Constant,
    Is,
    Leaf,
    Network,
    Node,
    Not,
    OneOf,
    Operator,
    Or,
    Regex,
    Same,
    Text,
    Wild,
    leaves,
)

OTHER = "~other"
"""Stands in a closed column for a value that this version does not know: no rule names it."""

SHORTEST_NEEDLE = 3
"""Shorter texts are in too many others to be worth a search."""

OPERATIONS: dict[Operator, Callable[[Any, Any], Any]] = {"==": eq, "<": lt, "<=": le, ">": gt, ">=": ge}

POLARS_NUMBER: dict[str, pl.DataType] = {
    "u8": pl.UInt8(),
    "u16": pl.UInt16(),
    "u32": pl.UInt32(),
    "u64": pl.UInt64(),
    "i32": pl.Int32(),
    "i64": pl.Int64(),
    "f64": pl.Float64(),
}


def enum_of(field: Field) -> pl.Enum:
    """How a closed column that came as plain text is held while rules look at it."""
    return pl.Enum([*field.values, OTHER])


def is_closed_type(field: Field, held: pl.DataType) -> bool:
    """Whether a closed column can stay as it is: any of these compares with the values' names at the cost
    of an integer.
    """
    return held in (pl.Categorical, pl.Enum(field.values), enum_of(field))


def dtype_of(field: Field) -> pl.DataType:
    """How a field's column is held while rules look at it."""
    if field.type == "closed":
        return enum_of(field)
    if field.type == "time":
        return pl.Datetime("ns", "UTC")
    if field.type == "bool":
        return pl.Boolean()
    return POLARS_NUMBER.get(field.type) or pl.String()


def zero_of(field: Field) -> str | int | float | bool:
    """What a missing column or value counts as; see :func:`modelward_proto.field.arrow_schema`."""
    if field.type == "closed":
        return field.values[0]
    zeros: dict[str, str | int | float | bool] = {"string": "", "bool": False, "f64": 0.0}
    return zeros.get(field.type, 0)


def folded(field: Field) -> str:
    """Name of the ASCII-folded copy of a text column."""
    return "~" + field.column


def fold_column(text: pl.Series) -> pl.Series:
    """Lower case of A to Z, nothing else touched."""
    out = pl.from_arrow(pc.ascii_lower(text.to_arrow()))
    assert isinstance(out, pl.Series)
    return out


def folded_fields(node: Node) -> set[Field]:
    """Text fields whose folded copy the expression reads."""
    found: set[Field] = set()
    for leaf in leaves(node):
        if isinstance(leaf, Text) and not leaf.cased:
            found.add(leaf.field)
        elif isinstance(leaf, Same) and leaf.field.type == "string":
            found.update((leaf.field, leaf.other))
    return found


def needle(leaf: Leaf) -> str | None:
    """A text without which the leaf cannot hold, in any case of its letters; None when there is none worth a search."""
    if not isinstance(leaf, Text):
        return None
    longest = max((part for part in leaf.glob if isinstance(part, str)), key=len, default="")
    return longest if len(longest) >= SHORTEST_NEEDLE else None


def compile_node(node: Node) -> pl.Expr:
    """A boolean expression, never null."""
    if isinstance(node, Constant):
        return pl.lit(node.value)
    if isinstance(node, Not):
        return ~compile_node(node.item)
    if isinstance(node, And):
        return reduce(and_, [compile_node(item) for item in node.items])
    if isinstance(node, Or):
        return reduce(or_, _alternatives(node.items))
    return compile_leaf(node)


def _alternatives(items: Sequence[Node]) -> list[pl.Expr]:
    """Alternatives of an or; equalities on one text field become one look-up in a set."""
    equal: dict[tuple[Field, bool], list[str]] = {}
    rest: list[pl.Expr] = []
    for item in items:
        if isinstance(item, Text) and (literal := _literal(item)) is not None:
            equal.setdefault((item.field, item.cased), []).append(literal)
        else:
            rest.append(compile_node(item))
    for (field, cased), literals in equal.items():
        rest.append(_column(field, cased).is_in(literals))
    return rest


def _literal(leaf: Text) -> str | None:
    if not leaf.glob:
        return ""
    only = leaf.glob[0]
    return only if len(leaf.glob) == 1 and isinstance(only, str) else None


def _column(field: Field, cased: bool) -> pl.Expr:
    return pl.col(field.column if cased else folded(field))


def compile_leaf(leaf: Leaf) -> pl.Expr:
    """A boolean expression of one leaf, never null."""
    column = pl.col(leaf.field.column)
    if isinstance(leaf, OneOf):
        return reduce(or_, [column == value for value in sorted(leaf.values)])
    if isinstance(leaf, Is):
        return column if leaf.value else ~column
    if isinstance(leaf, Compare):
        return _compare(leaf)
    if isinstance(leaf, Same):
        if leaf.field.type == "string":
            return pl.col(folded(leaf.field)) == pl.col(folded(leaf.other))
        return column == pl.col(leaf.other.column)
    if isinstance(leaf, Regex):
        return column.str.contains(leaf.pattern)
    if isinstance(leaf, Cidr):
        network = leaf.network
        return column.map_batches(lambda addresses: _within(addresses, network), return_dtype=pl.Boolean)
    return _text(leaf)


def _compare(leaf: Compare) -> pl.Expr:
    number = pl.lit(leaf.number, dtype=POLARS_NUMBER[leaf.field.type])
    compared: pl.Expr = OPERATIONS[leaf.operator](pl.col(leaf.field.column), number)
    return compared


def _text(leaf: Text) -> pl.Expr:
    column = _column(leaf.field, leaf.cased)
    shape = tuple(part is Wild.ANY if isinstance(part, Wild) else None for part in leaf.glob)
    if (literal := _literal(leaf)) is not None:
        return column == literal
    words = [part for part in leaf.glob if isinstance(part, str)]
    if shape == (None, True):
        return column.str.starts_with(words[0])
    if shape == (True, None):
        return column.str.ends_with(words[0])
    if shape == (True, None, True):
        return column.str.contains(words[0], literal=True)
    return column.str.contains(glob_pattern(leaf.glob))


def _within(addresses: pl.Series, network: Network) -> pl.Series:
    held = [address for address in addresses.unique().to_list() if _inside(address, network)]
    return addresses.is_in(held)


def _inside(text: str, network: Network) -> bool:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address in network
