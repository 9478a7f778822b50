"""Columns of the tables whose columns are fields: type and codec of each, and what is added when the field table grows."""

from __future__ import annotations

from modelward_proto.field import Field
from modelward_proto.fields import BINDING_FIELDS, DETECTION_FIELDS, STORED

TABLES: dict[str, tuple[Field, ...]] = {
    "events_raw": STORED,
    "bindings": BINDING_FIELDS,
    "detections_raw": DETECTION_FIELDS,
}
"""Tables made from the field table. A new field there becomes a column at the next start, without a migration of its own."""

_CODECS = {
    "time": "CODEC(Delta(8), ZSTD(1))",
    "string": "CODEC(ZSTD(1))",
    "strings": "CODEC(ZSTD(1))",
    "u64": "CODEC(T64, ZSTD(1))",
    "u32": "CODEC(T64, ZSTD(1))",
    "u16": "CODEC(T64, ZSTD(1))",
    "i64": "CODEC(T64, ZSTD(1))",
    "i32": "CODEC(T64, ZSTD(1))",
}

_LOW_CARDINALITY = frozenset({"host.name"})
"""Open texts with few values. Never one that a workload can write: each new value would grow a dictionary."""

_CODEC_OF = {
    "batch": "CODEC(Delta(8), ZSTD(1))",
    "row": "CODEC(Delta(4), ZSTD(1))",
}


def type_of(field: Field) -> str:
    """ClickHouse type of a field's column."""
    return "LowCardinality(String)" if field.name in _LOW_CARDINALITY else field.clickhouse


def definition(field: Field) -> str:
    """One line of CREATE TABLE."""
    codec = "" if type_of(field).startswith("LowCardinality") else _CODEC_OF.get(field.name, _CODECS.get(field.type, ""))
    return f"`{field.column}` {type_of(field)} {codec}".rstrip()


def definitions(table: str) -> str:
    """All columns of a table, for CREATE TABLE."""
    return ",\n    ".join(definition(f) for f in TABLES[table])


def additions(table: str, present: set[str]) -> list[str]:
    """Statements that add the columns which a table of an older version lacks, each after its predecessor."""
    found: list[str] = []
    before: Field | None = None
    for field in TABLES[table]:
        if field.column not in present:
            place = f"AFTER `{before.column}`" if before else "FIRST"
            found.append(f"ALTER TABLE modelward.{table} ADD COLUMN IF NOT EXISTS {definition(field)} {place}")
        before = field
    return found
