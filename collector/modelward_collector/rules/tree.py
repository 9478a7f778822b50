"""A rule's condition, as both back ends read it: leaves on one field, joined by and, or, not.

Text compares on its ASCII-folded form unless ``cased``; a closed field's leaf is already the set of its
values that satisfy it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Literal

from modelward_proto.field import Field

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Operator = Literal["==", "<", "<=", ">", ">="]


class Wild(Enum):
    """Sigma's wildcards."""

    ANY = "*"
    ONE = "?"


Glob = tuple[str | Wild, ...]


def fold(text: str) -> str:
    """Lower case of A to Z alone: what both engines do alike."""
    return text.encode("utf-8", "surrogatepass").lower().decode("utf-8", "surrogatepass")


@dataclass(frozen=True, slots=True)
class Text:
    """A text field is like a pattern; the pattern is folded already unless ``cased``."""

    field: Field
    glob: Glob
    cased: bool = False


@dataclass(frozen=True, slots=True)
class Regex:
    """A text field holds a match of a pattern that RE2 and Rust read alike (:mod:`.regex` makes it)."""

    field: Field
    pattern: str


@dataclass(frozen=True, slots=True)
class Cidr:
    """A text field is an address within a network; an IPv4-mapped IPv6 address counts as its IPv4 address."""

    field: Field
    network: Network


@dataclass(frozen=True, slots=True)
class Compare:
    """A number compares with a constant."""

    field: Field
    operator: Operator
    number: int | float


@dataclass(frozen=True, slots=True)
class Is:
    """A bool is as given."""

    field: Field
    value: bool


@dataclass(frozen=True, slots=True)
class Same:
    """Two fields of one sort hold the same; text compares folded."""

    field: Field
    other: Field


@dataclass(frozen=True, slots=True)
class OneOf:
    """A closed field has one of these values."""

    field: Field
    values: frozenset[str]


@dataclass(frozen=True, slots=True)
class Constant:
    """What is known without looking at a row."""

    value: bool


@dataclass(frozen=True, slots=True)
class Not:
    item: Node


@dataclass(frozen=True, slots=True)
class And:
    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Or:
    items: tuple[Node, ...]


Leaf = Text | Regex | Cidr | Compare | Is | Same | OneOf
Node = Leaf | Constant | Not | And | Or

TRUE = Constant(True)
FALSE = Constant(False)


def leaves(node: Node) -> list[Leaf]:
    """Every leaf, from left to right."""
    if isinstance(node, And | Or):
        return [leaf for item in node.items for leaf in leaves(item)]
    if isinstance(node, Not):
        return leaves(node.item)
    return [] if isinstance(node, Constant) else [node]


def fields_of(node: Node) -> set[Field]:
    """Every field that the tree reads."""
    found = {leaf.field for leaf in leaves(node)}
    return found | {leaf.other for leaf in leaves(node) if isinstance(leaf, Same)}


def specialise(node: Node, known: Mapping[str, str | bool]) -> Node:
    """The tree once the values of some closed fields and bools are known: what is left to look at in such
    rows, or a constant.
    """

    def settle(leaf: Leaf) -> Node:
        if isinstance(leaf, OneOf) and leaf.field.name in known:
            return Constant(known[leaf.field.name] in leaf.values)
        if isinstance(leaf, Is) and leaf.field.name in known:
            return Constant(known[leaf.field.name] is leaf.value)
        return leaf

    return rewrite(node, settle)


def rewrite(node: Node, leaf: Callable[[Leaf], Node]) -> Node:
    """Replace each leaf and fold the constants away."""
    if isinstance(node, Constant):
        return node
    if isinstance(node, Not):
        item = rewrite(node.item, leaf)
        return Constant(not item.value) if isinstance(item, Constant) else Not(item)
    if isinstance(node, And):
        return conjunction(tuple(rewrite(item, leaf) for item in node.items))
    if isinstance(node, Or):
        return disjunction(tuple(rewrite(item, leaf) for item in node.items))
    return leaf(node)


def conjunction(items: tuple[Node, ...]) -> Node:
    """And, simplified."""
    if FALSE in items:
        return FALSE
    kept = tuple(item for item in items if item != TRUE)
    return TRUE if not kept else kept[0] if len(kept) == 1 else And(kept)


def disjunction(items: tuple[Node, ...]) -> Node:
    """Or, simplified."""
    if TRUE in items:
        return TRUE
    kept = tuple(item for item in items if item != FALSE)
    return FALSE if not kept else kept[0] if len(kept) == 1 else Or(kept)
