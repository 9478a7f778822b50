"""Brings the tables to this version: numbered migrations once each, then columns, lifetimes and views."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from importlib import resources
from typing import TYPE_CHECKING

from modelward_collector.store.ddl import columns, views
from modelward_collector.store.engine import execute, literal, rows

if TYPE_CHECKING:
    from chdb.state.sqlitelike import Connection

_log = logging.getLogger(__name__)

DURABLE = (
    "fsync_after_insert = 1, fsync_part_directory = 1, non_replicated_deduplication_window = 10000, "
    "min_bytes_for_wide_part = 33554432, min_compress_block_size = 32768, max_compress_block_size = 65536, "
    "vertical_merge_algorithm_min_rows_to_activate = 1, vertical_merge_algorithm_min_bytes_to_activate = 0"
)
"""Settings of every table whose rows are acknowledged. The engine's defaults lose rows at a power cut and deduplicate
nothing. Small parts stay compact: one file to sync instead of one for each column. Merges go column by column with small
buffers: else a merge of ten parts of 80 columns takes over 400 MB (measured at 60,000 rows/s: 47 MB this way)."""

_AS_EVENTS = {"batches": 2, "events_raw": 0, "hosts_raw": 2, "ledger_raw": 2, "quarantine": 0}
"""Days that a table keeps beyond the events: names of batches outlive them, so that a resend is known."""

_AS_DETECTIONS = {"detections_raw": 0, "exceptions_raw": 2}
"""Days that a table keeps beyond the detections: what silenced one must not go before it."""

_AS_BOTH = {"bindings": 2}
"""The same beyond whichever is kept longer: events and detections show their model to the end."""


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """Days that events and detections are kept."""

    events: int
    detections: int

    @property
    def tables(self) -> dict[str, int]:
        """Days of each table whose rows do not stay for ever."""
        found = {table: self.events + extra for table, extra in _AS_EVENTS.items()}
        found |= {table: self.detections + extra for table, extra in _AS_DETECTIONS.items()}
        return found | {table: max(self.events, self.detections) + extra for table, extra in _AS_BOTH.items()}


_FOR_EVER = 36_500


class MigrationError(Exception):
    """The store was written by a newer version, or a migration that ran was changed since."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered file."""

    number: int
    name: str
    text: str

    @property
    def checksum(self) -> str:
        """Of the text as shipped, before columns are filled in."""
        return sha256(self.text.encode()).hexdigest()[:16]

    def statements(self, lifetimes: Lifetimes) -> list[str]:
        """The statements with columns, lifetimes and settings filled in."""
        text = re.sub(r"^--.*\n", "", self.text, flags=re.MULTILINE)
        text = re.sub(r"\{columns:(\w+)\}", lambda m: columns.definitions(m[1]), text)
        text = re.sub(r"\{days:(\w+)\}", lambda m: str(lifetimes.tables[m[1]]), text)
        text = text.replace("{durable}", DURABLE)
        return [s.strip() for s in text.split(";\n") if s.strip()]


def shipped() -> list[Migration]:
    """All migrations of this version, in order."""
    found = []
    for file in resources.files(__package__).iterdir():
        if match := re.fullmatch(r"(\d{4})_(\w+)\.sql", file.name):
            found.append(Migration(int(match[1]), match[2], file.read_text(encoding="utf-8")))
    return sorted(found, key=lambda m: m.number)


def migrate(connection: Connection, retention_days: int, silent_after_s: int = 60, detection_days: int = 365) -> list[str]:
    """Apply what is missing and return the names of what was applied.

    ``retention_days``: that events are kept; ``detection_days``: that detections are.

    Raises:
        MigrationError: the store is of a newer version.
    """
    lifetimes = Lifetimes(retention_days, detection_days)
    _create_database(connection)
    done = dict(applied(connection))
    check(done)
    names: list[str] = []
    for migration in shipped():
        if migration.number not in done:
            _apply(connection, migration, lifetimes)
            names.append(f"{migration.number:04d}_{migration.name}")
    names += _add_columns(connection)
    _set_lifetimes(connection, lifetimes)
    for statement in views.statements(silent_after_s):
        execute(connection, statement)
    return names


def make_tables(connection: Connection, seen: Mapping[int, str]) -> None:
    """Empty tables as they are after the migrations ``seen`` (number and checksum), whose rows never expire.

    :func:`migrate` does the rest at the next start, as it does for any store of that version.

    Raises:
        MigrationError: this version does not know one of them.
    """
    check(seen)
    _create_database(connection)
    for migration in shipped():
        if migration.number in seen:
            _apply(connection, migration, Lifetimes(_FOR_EVER, _FOR_EVER))


def applied(connection: Connection) -> list[tuple[int, str]]:
    """Number and checksum of the migrations that the tables have seen."""
    return [(int(n), str(c)) for n, c in rows(
        connection, "SELECT number, checksum FROM modelward.schema_migrations ORDER BY number")]


def check(done: Mapping[int, str]) -> None:
    """Whether this version knows the migrations that a store has seen.

    Raises:
        MigrationError: it does not.
    """
    known = {m.number: m for m in shipped()}
    if newer := sorted(set(done) - set(known)):
        raise MigrationError(
            f"the store was written by a newer collector (migration {newer[-1]}; this one knows up to {max(known)}): "
            "install that version again, or start with another --data"
        )
    for number, checksum in done.items():
        if known[number].checksum != checksum:
            raise MigrationError(f"migration {number} ({known[number].name}) was changed after it had run here")


def _create_database(connection: Connection) -> None:
    execute(connection, "CREATE DATABASE IF NOT EXISTS modelward")
    execute(connection, """CREATE TABLE IF NOT EXISTS modelward.schema_migrations (
        number UInt32, name String, checksum String, applied_at DateTime64(3, 'UTC')
    ) ENGINE = MergeTree ORDER BY number SETTINGS fsync_after_insert = 1, fsync_part_directory = 1""")


def _apply(connection: Connection, migration: Migration, lifetimes: Lifetimes) -> None:
    for statement in migration.statements(lifetimes):
        # A crash between two statements leaves the first one done: it must be possible to go on from there.
        execute(connection, statement.replace("CREATE TABLE ", "CREATE TABLE IF NOT EXISTS ", 1))
    execute(connection, "INSERT INTO modelward.schema_migrations SETTINGS async_insert = 0 VALUES "
            f"({migration.number}, {literal(migration.name)}, {literal(migration.checksum)}, now64(3))")


def _add_columns(connection: Connection) -> list[str]:
    added: list[str] = []
    for table in columns.TABLES:
        present = {r[0] for r in rows(
            connection, "SELECT name FROM system.columns WHERE database = 'modelward' AND table = {t:String}", {"t": table})}
        for statement in columns.additions(table, present):
            execute(connection, statement)
            added.append(statement)
    return added


def _set_lifetimes(connection: Connection, lifetimes: Lifetimes) -> None:
    """Follow a changed retention without rewriting parts: the next merges drop what is too old."""
    for table, wanted in lifetimes.tables.items():
        [[create]] = rows(connection, "SELECT create_table_query FROM system.tables "
                          "WHERE database = 'modelward' AND name = {t:String}", {"t": table})
        found = re.search(r"TTL toDateTime\((\w+)\) \+ (?:toIntervalDay\((\d+)\)|INTERVAL (\d+) DAY)", create)
        if found is None:
            raise MigrationError(f"table {table} has no lifetime that this version understands")
        if int(found[2] or found[3]) != wanted:
            _log.info("lifetime of a table changed", extra={"table": table, "days": wanted})
            execute(connection, f"ALTER TABLE modelward.{table} MODIFY TTL toDateTime({found[1]}) + INTERVAL {wanted} DAY "
                    "SETTINGS materialize_ttl_after_modify = 0")
