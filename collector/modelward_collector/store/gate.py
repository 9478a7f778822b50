"""The one gate for SQL that people write: the HTTP endpoint, ``modelward query``, hunts and the console
pass it.

The engine's ``readonly=1`` is not enough: on an unlocked connection ``SELECT * FROM "/etc/passwd"`` reads
the file (the default database of chdb has the file system as its tables), and ``DESCRIBE url()`` calls out.
So, in this order:

1. the engine's own classifier, which runs nothing, must say: one statement, and it only reads
   (``EXPLAIN AST SELECT 1; DROP TABLE t`` drops t);
2. ``EXPLAIN AST`` on a connection locked by :func:`lock` gives the syntax tree, which must be a SELECT;
3. each node, table, function and output format in it must be on a list of ours
   (:mod:`modelward_collector.store.allowed`). What no list knows is refused.

Written against chdb 26.9 (``connection._conn.classify_query`` is private; the package pins the version).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from modelward_collector.store.allowed import TABLES, VIEWS, check_tree, unknown_table
from modelward_collector.store.engine import DATABASE, EngineError, execute, literal
from modelward_collector.store.refusal import Refused, explain_failure
from modelward_collector.store.syntax import Node, UnclearSyntax, parse

MAX_SQL_BYTES = 65_536
MAX_NODES = 5_000
MAX_ROWS = 10_000

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

_ONLY = (
    "Only SELECT, EXPLAIN of a SELECT, and SHOW TABLES, SHOW CREATE, DESCRIBE and EXISTS of Modelward's "
    "tables are allowed."
)

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
            raise unknown_table(about["table"])
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
    check_tree(connection, root)


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


def _check_format(name: str | None) -> None:
    if name and name not in FORMATS:
        raise Refused(f"The format '{name}' is not offered; there are {', '.join(sorted(FORMATS))}.")
