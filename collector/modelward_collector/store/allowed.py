"""What a query may be made of: each node, table and function of its tree must be on a list. What no list knows is refused."""

from __future__ import annotations

import difflib
import re
from typing import Any

from modelward_collector.store import functions
from modelward_collector.store.engine import EngineError, execute
from modelward_collector.store.refusal import SETTINGS_REFUSED, Refused, explain_failure
from modelward_collector.store.syntax import Node

MAX_TABLE_READS = 40

VIEWS = ("events", "detections", "incidents", "models", "hosts", "ledger", "exceptions", "outputs")
TABLES = frozenset(VIEWS) | {"events_raw", "detections_raw", "bindings", "hosts_raw", "ledger_raw"}
"""What a query may read: the views, and the tables below them."""

SYSTEM_COLUMNS: dict[str, frozenset[str]] = {
    "system.tables": frozenset({"database", "name", "engine", "total_rows", "total_bytes", "comment"}),
    "system.columns": frozenset({"database", "table", "name", "type", "position", "comment"}),
    "system.functions": frozenset({"name", "is_aggregate", "case_insensitive", "alias_to", "description"}),
}
"""What a client needs to offer completion. Everything else in ``system`` tells of the machine."""

_NODES_WORDS = """
    SelectWithUnionQuery SelectIntersectExceptQuery SelectQuery Subquery WithElement ExpressionList
    Identifier Literal Function Asterisk QualifiedAsterisk ColumnsRegexpMatcher
    QualifiedColumnsRegexpMatcher ColumnsListMatcher QualifiedColumnsListMatcher ColumnsTransformerList
    ColumnsExceptTransformer ColumnsReplaceTransformer ColumnsReplaceTransformer::Replacement OrderByElement
    StorageOrderByElement InterpolateElement WindowDefinition WindowListElement TablesInSelectQuery
    TablesInSelectQueryElement TableExpression TableIdentifier TableJoin ArrayJoin SampleRatio
"""
_NODES = frozenset(_NODES_WORDS.split())
_REFUSED_NODES = {
    "Set": SETTINGS_REFUSED,
    # Names a function that the tree does not show.
    "ColumnsApplyTransformer": "APPLY is not allowed: name the columns and call the function on each.",
}

_LOOKUPS = frozenset(
    f"{scope}{negation}{null}in"
    for scope in ("", "global")
    for negation in ("", "not")
    for null in ("", "null")
)
_TYPED = frozenset({"cast", "_cast", "accuratecast", "accuratecastornull", "accuratecastordefault"})
"""Functions whose second argument names a type: an expression there would name one that no list has seen."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def check_tree(connection: Any, root: Node) -> None:
    """Return if a query of this tree may run on ``connection``, whose current database is ours.

    Raises:
        Refused: something in it is on no list, with a sentence that says what.
    """
    nodes = root.walk()
    with_names = any(node.type == "WithElement" for node in nodes)
    # Each use of a named subquery is expanded: two uses of the one before double it.
    if with_names and sum(node.type == "TableIdentifier" for node in nodes) > MAX_TABLE_READS:
        raise Refused(f"The query reads tables and subqueries more than {MAX_TABLE_READS} times.", "limit")
    sources = {id(child) for node in nodes if node.type == "TableExpression" for child in node.children}
    for node in nodes:
        if node.type not in _NODES:
            raise Refused(_REFUSED_NODES.get(node.type, f"'{node.type}' is not allowed in a query."))
        if "aggregatefunction" in node.name.lower():
            raise Refused("The type AggregateFunction is not allowed: its values are memory of the engine.")
        if node.type == "TableIdentifier":
            _check_table(connection, node.name, with_names)
        elif node.type == "SelectQuery":
            _check_system(node)
        elif node.type == "Function" and id(node) in sources:
            if node.name.lower() not in functions.TABLE_FUNCTIONS:
                raise Refused(f"The table function '{node.name}' is not allowed: only our tables are read.")
            _check_table_function(node)
        elif node.type == "Function":
            _check_function(connection, node, with_names)


def _check_table_function(node: Node) -> None:
    arguments = node.children[0].children if node.children else []
    # What names the columns and their types of a table of values, or is its first row.
    if node.name.lower() == "values" and arguments and not (
        arguments[0].type == "Literal" or (arguments[0].type == "Function" and arguments[0].name.lower() == "tuple")
    ):
        raise Refused("The columns of 'values' must be written out: a computed text is not checked.")


def _check_function(connection: Any, node: Node, with_names: bool) -> None:
    if not functions.allowed(node.name):
        near = difflib.get_close_matches(node.name.lower(), functions.known(), 1, 0.85)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise Refused(f"The function '{node.name}' is not on the list of allowed functions.{hint}")
    arguments = node.children[0].children if node.children else []
    if node.name.lower() in _TYPED and not (len(arguments) == 2 and arguments[1].type == "Literal"):
        raise Refused(f"The type in '{node.name}' must be written out: a computed one is not checked.")
    if node.name.lower() == "arrayreduce" and not (
        arguments and arguments[0].type == "Literal" and functions.aggregate(arguments[0].name.strip("'").partition("(")[0])
    ):
        raise Refused("The aggregate function in 'arrayReduce' must be written out, and be on the list of allowed functions.")
    if node.name.lower() in _LOOKUPS and arguments:
        # The right side of IN may be a table, written like a column.
        right = arguments[-1]
        if right.type == "Identifier":
            _check_table(connection, right.name, with_names, lookup=True)


def _check_table(connection: Any, name: str, with_names: bool, *, lookup: bool = False) -> None:
    parts = name.split(".")
    if not all(_NAME.fullmatch(part) for part in parts):
        raise unknown_table(name)
    if name in TABLES or (name in SYSTEM_COLUMNS and not lookup):
        return
    if len(parts) == 2 and parts[1] in TABLES and parts[0] == _scalar(connection, "SELECT currentDatabase()"):
        return
    # What is left may be the name of a subquery, or after IN of a column; never a table that is not on the
    # list, nor a file in the folder that the engine runs in.
    if lookup:
        may_be_name = parts[0].lower() not in ("system", "information_schema")
    else:
        may_be_name = with_names and len(parts) == 1
    if may_be_name:
        table = ".".join(f"`{part}`" for part in parts[:2])
        if _scalar(connection, f"EXISTS TABLE {table}") == "0":
            return
    raise unknown_table(name)


def _check_system(select: Node) -> None:
    """A SELECT directly from a system table reads that table alone and names its columns, all of them on
    the list.
    """
    elements = [
        e for clause in select.children if clause.type == "TablesInSelectQuery" for e in clause.children
    ]
    expressions = [expression for element in elements for expression in element.children]
    sources = [source for expression in expressions for source in expression.children]
    system = [s.name for s in sources if s.type == "TableIdentifier" and s.name in SYSTEM_COLUMNS]
    if not system:
        return
    if len(sources) > 1:
        raise Refused(f"{system[0]} cannot be joined.")
    columns = SYSTEM_COLUMNS[system[0]]
    for node in select.walk():
        every = node.type.removeprefix("Qualified").startswith(("Asterisk", "Columns"))
        if every or (node.type == "Identifier" and node.name.rpartition(".")[2] not in columns):
            raise Refused(f"Of {system[0]} these columns can be read, by name: {', '.join(sorted(columns))}.")


def _scalar(connection: Any, sql: str) -> str:
    try:
        return execute(connection, sql, None, "TSVRaw").decode("utf-8", "replace").strip()
    except EngineError as e:
        raise explain_failure(e) from e


def unknown_table(name: str) -> Refused:
    """What to say of a table that no query may read."""
    return Refused(f"There is no table '{name}' for queries; there are {', '.join(VIEWS)}.")
