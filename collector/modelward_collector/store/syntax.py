"""The syntax tree of a query, from the indented text that the engine prints for ``EXPLAIN AST``."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_LINE = re.compile(
    r"(?P<indent> *)(?P<type>[A-Z][A-Za-z:_]*)(?: (?P<name>[^(].*?))?"
    r"(?: \(alias (?P<alias>.*?)\))?(?: \(children (?P<children>\d+)\))?"
)
_LEAVES = frozenset({"Identifier", "Literal", "TableIdentifier"})


class UnclearSyntax(ValueError):
    """The text is no tree: a name in the query broke its lines."""


@dataclass(slots=True)
class Node:
    """One element of a query: ``Function`` with name ``count``, ``TableIdentifier`` with name ``events``,
    ...
    """

    type: str
    name: str
    declared: int
    """Number of children that the engine says it has."""
    children: list[Node] = field(default_factory=list)

    def walk(self) -> list[Node]:
        """This node and all below it."""
        found = [self]
        for node in found:
            found.extend(node.children)
        return found


def parse(text: str) -> Node:
    """The tree that ``text`` shows.

    A quoted name may hold a newline and so fake lines of its own. No faking can hide a line that the engine
    prints; and as each node must have the number of children that its line says, and names and literals
    none, none can move one.

    Raises:
        UnclearSyntax: a line or a number of children is not as the engine prints it.
    """
    path: list[Node] = []
    root: Node | None = None
    for line in text.rstrip("\n").split("\n"):
        found = _LINE.fullmatch(line)
        depth = len(found["indent"]) if found else -1
        if found is None or depth > len(path) or (depth == 0) != (root is None):
            raise UnclearSyntax(line)
        node = Node(found["type"], found["name"] or "", int(found["children"] or 0))
        del path[depth:]
        if path:
            path[-1].children.append(node)
        else:
            root = node
        path.append(node)
    assert root is not None
    for node in root.walk():
        if node.declared != len(node.children) or (node.type in _LEAVES and node.children):
            raise UnclearSyntax(node.type)
    return root
