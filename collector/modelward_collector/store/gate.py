"""The one gate for SQL that people write: the HTTP endpoint, ``modelward query``, hunts and the console
pass it.

The engine's ``readonly=1`` is not enough: on an unlocked connection ``SELECT * FROM "/etc/passwd"`` reads
the file (the default database of chdb has the file system as its tables), and ``DESCRIBE url()`` calls out.
So, in this order:

1. the engine's own classifier, which runs nothing, must say: one statement, and it only reads
   (``EXPLAIN AST SELECT 1; DROP TABLE t`` drops t);
2. ``EXPLAIN AST`` on a connection locked by :func:`lock` gives the syntax tree, which must be a SELECT;
3. each node, table, function and output format in it must be on a list of ours. What no list knows is
   refused.

Written against chdb 26.9 (``connection._conn.classify_query`` is private; the package pins the version).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Any, Literal

from modelward_proto.fields import DETECTION_FIELDS, STORED

from modelward_collector.store import functions
from modelward_collector.store.engine import DATABASE, EngineError, execute, literal
from modelward_collector.store.syntax import Node, UnclearSyntax, parse

Kind = Literal["refused", "syntax", "limit", "unavailable"]

MAX_SQL_BYTES = 65_536
MAX_NODES = 5_000
MAX_TABLE_READS = 40
MAX_ROWS = 10_000

VIEWS = ("events", "detections", "incidents", "models", "hosts", "ledger", "exceptions", "outputs")
TABLES = frozenset(VIEWS) | {"events_raw", "detections_raw", "bindings", "hosts_raw", "ledger_raw"}
"""What a query may read: the views, and the tables below them."""

SYSTEM_COLUMNS: dict[str, frozenset[str]] = {
    "system.tables": frozenset({"database", "name", "engine", "total_rows", "total_bytes", "comment"}),
    "system.columns": frozenset({"database", "table", "name", "type", "position", "comment"}),
    "system.functions": frozenset({"name", "is_aggregate", "case_insensitive", "alias_to", "description"}),
}
"""What a client needs to offer completion. Everything else in ``system`` tells of the machine."""

_NAMED_BY = {"system.tables": "name", "system.columns": "`table`"}
"""Lists of tables, in which only the views are shown of what is ours; SHOW TABLES reads them too."""

_FORMATS_WORDS = """
    JSON JSONCompact JSONEachRow JSONCompactEachRow JSONStrings CSV CSVWithNames CSVWithNamesAndTypes TSV
    TSVWithNames TSVWithNamesAndTypes TabSeparated TabSeparatedWithNames TabSeparatedWithNamesAndTypes
    Pretty PrettyCompact PrettyCompactMonoBlock PrettySpace Vertical Markdown Values Arrow ArrowStream
    Parquet Native RowBinary RowBinaryWithNames RowBinaryWithNamesAndTypes
"""
FORMATS = frozenset(_FORMATS_WORDS.split())
"""Output formats that need nothing but the result: no schema file, no template."""

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
    "Set": "A SETTINGS clause is not allowed: the collector sets the limits.",
    # Names a function that the tree does not show.
    "ColumnsApplyTransformer": "APPLY is not allowed: name the columns and call the function on each.",
}
_ONLY = (
    "Only SELECT, EXPLAIN of a SELECT, and SHOW TABLES, SHOW CREATE, DESCRIBE and EXISTS of Modelward's "
    "tables are allowed."
)

_LOOKUPS = frozenset(
    f"{scope}{negation}{null}in"
    for scope in ("", "global")
    for negation in ("", "not")
    for null in ("", "null")
)
_TYPED = frozenset({"cast", "_cast", "accuratecast", "accuratecastornull", "accuratecastordefault"})
"""Functions whose second argument names a type: an expression there would name one that no list has seen."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ABOUT_TABLES = re.compile(
    r"""\s*(?:SHOW\s+(?:FULL\s+)?TABLES (?:\s+(?:NOT\s+)?I?LIKE\s+'[^'\\]*')?
        |(?:SHOW\s+CREATE(?:\s+TABLE|\s+VIEW)? |SHOW\s+(?:FULL\s+)?COLUMNS\s+FROM |DESCRIBE(?:\s+TABLE)?
           |DESC(?:\s+TABLE)? |EXISTS(?:\s+TABLE|\s+VIEW)?) \s+(?P<table>[A-Za-z_]\w*))
        (?:\s+FORMAT\s+(?P<format>\w+))? \s*;?\s*""",
    re.IGNORECASE | re.ASCII | re.VERBOSE,
)
"""Statements about tables, in these plain forms only: their trees do not show everything that they read."""

_EXPLAIN = re.compile(
    r"\s*EXPLAIN\s+(?:(?:AST|SYNTAX|PLAN|PIPELINE|ESTIMATE|QUERY\s+TREE)\s+)?"
    r"(?=[\s(]*(?:SELECT|WITH|FROM)\b)",
    re.IGNORECASE,
)
_LIMIT_CODES = frozenset({128, 158, 159, 160, 161, 162, 167, 168, 191, 241, 307, 394, 396})
_READONLY = 164


_DOTTED = re.compile(r"[`'\"]([A-Za-z_]\w*(?:\.\w+)+)[`'\"]", re.ASCII)
_COLUMNS = frozenset(f.column for f in (*STORED, *DETECTION_FIELDS))


class Refused(Exception):
    """A query that is not run. ``reason`` is a sentence for the person who asked, ``kind`` is
    SelectReply.kind.
    """

    def __init__(self, reason: str, kind: Kind = "refused") -> None:
        super().__init__(reason)
        self.reason = reason
        self.kind: Kind = kind


def lock(
    connection: Any, *, max_rows: int = MAX_ROWS, seconds: float = 20, memory_bytes: int = 120_000_000
) -> None:
    """Limit a connection for a person's query, then lock it: after ``readonly=1`` no setting can change.

    A connection stays locked for good; make a fresh one for each query (2.3 ms). Its current database must
    be ours.
    """
    settings: dict[str, int | float | str] = {
        "max_execution_time": seconds,
        "timeout_overflow_mode": "throw",
        "max_memory_usage": memory_bytes,
        "max_bytes_before_external_group_by": memory_bytes // 2,
        "max_bytes_before_external_sort": memory_bytes // 2,
        "max_threads": 1,
        # The engine looks at its clock between blocks.
        "max_block_size": 8192,
        "max_result_bytes": 64 << 20,
        "result_overflow_mode": "throw",
        "limit": min(max_rows, MAX_ROWS) if max_rows else MAX_ROWS,
        "max_subquery_depth": 20,
        "max_expanded_ast_elements": 50_000,
        "allow_introspection_functions": 0,
        "output_format_json_quote_64bit_integers": 1,
        "output_format_json_quote_denormals": 1,
        "readonly": 1,
    }
    views = ", ".join(map(literal, VIEWS))
    filters = ", ".join(
        f"{literal(table)}: {literal(f'database != {literal(DATABASE)} OR {column} IN ({views})')}"
        for table, column in _NAMED_BY.items()
    )
    execute(connection, f"SET additional_table_filters = {{{filters}}}")
    for name, value in settings.items():
        execute(connection, f"SET {name} = {literal(value)}")


def admit(connection: Any, sql: str, parameters: Mapping[str, str] | None = None) -> None:
    """Return if ``sql`` may run on ``connection``, which :func:`lock` has locked and whose current database
    is ours.

    Raises:
        Refused: it may not, with a sentence that says why.
    """
    if len(sql.encode("utf-8", "surrogatepass")) > MAX_SQL_BYTES:
        raise Refused(f"The query is longer than {MAX_SQL_BYTES // 1024} KiB.", "limit")
    if "\0" in sql:
        raise Refused("The query holds a NUL character.")
    _one_reading_statement(connection, sql)
    if about := _ABOUT_TABLES.fullmatch(sql):
        if about["table"] and about["table"] not in TABLES:
            raise _unknown_table(about["table"])
        _check_format(about["format"])
        return
    if explained := _EXPLAIN.match(sql):
        sql = sql[explained.end() :]
        _one_reading_statement(connection, sql)
    root = _tree(connection, sql, parameters)
    if root.type != "SelectWithUnionQuery":
        raise Refused(_ONLY)
    for clause in root.children[1:]:
        if clause.type != "Identifier":
            raise Refused("Only a FORMAT clause may follow the query: no SETTINGS, no INTO OUTFILE.")
        _check_format(clause.name)
    _check(connection, root)


def explain_failure(error: EngineError) -> Refused:
    """The engine's error as a sentence and a kind for the person whose query it was."""
    text = re.sub(r"\s*\([A-Z_]+\)\s*$", "", " ".join(str(error).split()))
    text = re.sub(r"\b(?:Code: \d+\. )?DB::Exception: ", "", text)[:600]
    if error.code in _LIMIT_CODES or "tree is too big" in text:
        return Refused(f"The query goes over a limit: {text}", "limit")
    if error.code == _READONLY:
        if "setting" in text:
            return Refused(_REFUSED_NODES["Set"])
        return Refused("Queries only read; this one wants to change something.")
    return Refused((text or "The engine gave no reason.") + _hint(text), "syntax")


def _hint(text: str) -> str:
    """What to write instead of a field's name with dots, as rules have it."""
    for name in _DOTTED.findall(text):
        # An alias of the table may stand before it.
        for dotted in (name, name.partition(".")[2]):
            if (column := dotted.replace(".", "_")) in _COLUMNS:
                return f" In SQL a name has underscores for its dots: {column}."
    return ""


def _one_reading_statement(connection: Any, sql: str) -> None:
    verdict = connection._conn.classify_query(sql)
    if verdict["statement_count"] == 0:
        raise Refused("This is not SQL that the engine understands.", "syntax")
    if verdict["statement_count"] != 1:
        raise Refused("One statement at a time.")
    if getattr(verdict["query_class"], "name", "") != "READ_ONLY":
        raise Refused("Queries only read: this statement changes or controls something.")


def _tree(connection: Any, sql: str, parameters: Mapping[str, str] | None) -> Node:
    try:
        text = execute(connection, "EXPLAIN AST " + sql, parameters, "TSVRaw").decode("utf-8", "replace")
    except EngineError as e:
        raise explain_failure(e) from e
    if text.count("\n") > MAX_NODES:
        raise Refused(f"The query has more than {MAX_NODES} elements.", "limit")
    try:
        return parse(text)
    except UnclearSyntax as e:
        raise Refused("A name in the query holds characters that are not allowed.") from e


def _check(connection: Any, root: Node) -> None:
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
        raise _unknown_table(name)
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
    raise _unknown_table(name)


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


def _check_format(name: str | None) -> None:
    if name and name not in FORMATS:
        raise Refused(f"The format '{name}' is not offered; there are {', '.join(sorted(FORMATS))}.")


def _scalar(connection: Any, sql: str) -> str:
    try:
        return execute(connection, sql, None, "TSVRaw").decode("utf-8", "replace").strip()
    except EngineError as e:
        raise explain_failure(e) from e


def _unknown_table(name: str) -> Refused:
    return Refused(f"There is no table '{name}' for queries; there are {', '.join(VIEWS)}.")
