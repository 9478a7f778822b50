"""The embedded engine: how chdb is opened and bounded, and connections that each live on a thread of their own.

Measured pitfalls that this file is made around (chdb-core 26.9): one process per path; a connection serialises its queries and
must stay on one thread; ``fork`` after opening hangs; ``async_insert`` is on by default; memory is unbounded by default.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from modelward_collector.store.encode import write_ipc

if TYPE_CHECKING:
    import pyarrow as pa
    from chdb.state.sqlitelike import Connection

T = TypeVar("T")
DATABASE = "modelward"

_SERVER = {
    "max_server_memory_usage": 340_000_000,
    "mark_cache_size": 16_000_000,
    "primary_index_cache_size": 16_000_000,
    "uncompressed_cache_size": 0,
    "index_mark_cache_size": 8_000_000,
    "query_condition_cache_size": 8_000_000,
    "compiled_expression_cache_size": 8_000_000,
    "background_pool_size": 2,
    "background_schedule_pool_size": 2,
    "max_thread_pool_size": 128,
    "max_thread_pool_free_size": 8,
}
"""Bounds of the whole engine. Without them one ORDER BY took 3.4 GB, and the caches may grow to 10 GB."""

READ_LIMITS: Mapping[str, int | str] = {
    "max_memory_usage": 100_000_000,
    "max_bytes_before_external_group_by": 50_000_000,
    "max_bytes_before_external_sort": 50_000_000,
    "max_threads": 1,
    "max_execution_time": 20,
    "timeout_overflow_mode": "throw",
}
"""Settings of one query of ours. The engine serves inserts first: a few heavy queries slow them by ten."""


_INSERT: Mapping[str, int] = {
    "async_insert": 0,
    "insert_deduplicate": 1,
    "max_insert_threads": 1,
    "max_threads": 1,
    "input_format_parallel_parsing": 0,
    "max_insert_block_size": 4_000_000,
    "min_insert_block_size_rows": 4_000_000,
    "min_insert_block_size_bytes": 2_000_000_000,
    "max_memory_usage": 300_000_000,
}
"""Settings of an insert: on return its rows are in one part, which is there or not after a crash, never in half."""

_ROWS_CODES = frozenset({6, 26, 27, 32, 33, 38, 41, 53, 69, 70, 72, 117, 131, 190, 321, 349, 469, 636})


class EngineError(Exception):
    """The engine refused a statement. ``code`` is ClickHouse's number, 0 when it gave none."""

    def __init__(self, message: str) -> None:
        found = re.search(r"Code: (\d+)\. ", message)
        self.code = int(found.group(1)) if found else 0
        super().__init__(_sentence(message))

    @property
    def blames_rows(self) -> bool:
        """Whether rows cannot be parsed or converted, are out of range or violate a constraint. After any other error, such as
        memory, disk or a missing table, an insert is tried again: nothing is set aside for what is not its fault."""
        return self.code in _ROWS_CODES


def _sentence(message: str) -> str:
    """What is left for a person: the engine's own text without its number, prefix, stack and version."""
    text = re.sub(r"^.*?Code: \d+\. (DB::Exception: )?", "", message, flags=re.DOTALL)
    text = re.split(r"(?:, )?Stack trace|\s*\(version ", text)[0]
    return text.strip()[:2000]


def _connect(path: Path) -> Connection:
    from chdb.state.sqlitelike import Connection

    bounds = "&".join(f"{k}={v}" for k, v in _SERVER.items())
    return Connection(f"file:{path}?{bounds}")


class Lane:
    """One connection on one thread. Work given to it runs in order, one at a time."""

    def __init__(self, name: str, path: Path, settings: Mapping[str, int | str] | None = None) -> None:
        self._path = path
        self._settings = dict(settings or {})
        self._connection: Connection | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)

    async def run(self, work: Callable[[Connection], T]) -> T:
        """Run ``work`` with the connection on this lane's thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._call, work)

    def call(self, work: Callable[[Connection], T]) -> T:
        """The same, waiting for the result; for use before the event loop runs."""
        return self._thread.submit(self._call, work).result()

    def close(self) -> None:
        """Close the connection once the work under way is done."""
        self._thread.submit(self._close).result()
        self._thread.shutdown()

    def _call(self, work: Callable[[Connection], T]) -> T:
        if self._connection is None:
            self._connection = _connect(self._path)
            for name, value in self._settings.items():
                execute(self._connection, f"SET {name} = {literal(value)}")
        return work(self._connection)

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def execute(connection: Connection, sql: str, parameters: Mapping[str, Any] | None = None,
            format: str = "TSV") -> bytes:
    """Run one statement and return its result in a ClickHouse format.

    ``{name:Type}`` in the statement is replaced by the engine, so that a value is never read as SQL.

    Raises:
        EngineError: the engine refused it.
    """
    from chdb._exceptions import ChdbError

    given = {name: _parameter(value) for name, value in (parameters or {}).items()}
    try:
        result = connection.query(sql, format, params=given)
    except (ChdbError, RuntimeError) as e:
        raise EngineError(str(e)) from e
    data: bytes = result.bytes()
    return data


def rows(connection: Connection, sql: str, parameters: Mapping[str, Any] | None = None) -> list[list[Any]]:
    """Run one query and return its rows; for small results of our own."""
    data = execute(connection, sql, parameters, "JSONCompactEachRow")
    return [json.loads(line) for line in data.splitlines()]


def insert(connection: Connection, table: str, columns: tuple[str, ...], arrow: bytes, token: str, scratch: Path) -> None:
    """Insert one Arrow IPC stream as one part, durable on return.

    ``token``: the engine drops a second insert with the same token, whatever its content.
    ``scratch``: a folder for the file that the engine reads the rows from. Not ``send_insert``: that one returns as
    if all were well when writing the part fails (seen with a constraint): rows would be acknowledged and lost.

    Raises:
        EngineError: the engine refused it; whether rows are in the table must then be asked.
        OSError: the file cannot be written; nothing was inserted.
    """
    _insert_file(connection, table, columns, token, scratch, lambda path: path.write_bytes(arrow))


def insert_table(connection: Connection, table: str, rows: pa.Table, token: str, scratch: Path) -> None:
    """The same for rows in memory, without a copy of them as bytes; columns that ``rows`` lacks get the zero of their type."""
    _insert_file(connection, table, tuple(rows.column_names), token, scratch, lambda path: write_ipc(rows, path))


def _insert_file(
    connection: Connection, table: str, columns: tuple[str, ...], token: str, scratch: Path, write: Callable[[Path], object]
) -> None:
    path = scratch / f"{token}.arrow"
    try:
        write(path)
        names = ", ".join(f"`{c}`" for c in columns)
        execute(connection, f"INSERT INTO {DATABASE}.{table} ({names}) {_settings(token)} "
                f"SELECT {names} FROM file({literal(str(path))}, 'ArrowStream')")
    finally:
        path.unlink(missing_ok=True)


def insert_json(connection: Connection, table: str, objects: Sequence[Mapping[str, Any]], token: str) -> None:
    """The same for a few rows of one shape, given as mappings."""
    names = ", ".join(f"`{c}`" for c in objects[0])
    data = "\n".join(json.dumps(o, ensure_ascii=True) for o in objects)
    execute(connection, f"INSERT INTO {DATABASE}.{table} ({names}) {_settings(token)} FORMAT JSONEachRow\n{data}")


def _settings(token: str) -> str:
    settings = ", ".join(f"{k} = {v}" for k, v in _INSERT.items())
    return f"SETTINGS {settings}, insert_deduplication_token = {literal(token)}"


def literal(value: int | float | str) -> str:
    """A value of ours as an SQL literal."""
    if isinstance(value, (int, float)):
        return str(value)
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r", "\0": "\\0", "\b": "\\b", "\f": "\\f", "'": "\\'"})


def _parameter(value: Any) -> str:
    """The engine reads a parameter as a field of TabSeparated: unescaped text would be cut or refused."""
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(literal(v) for v in value) + "]"
    return str(value).translate(_ESCAPES)
