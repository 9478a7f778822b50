"""Rows for the table ``detections`` from rows that matched."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass

import polars as pl
import pyarrow as pa
from modelward_proto.field import Field, arrow_schema
from modelward_proto.fields import BY_NAME, DETECTION_FIELDS

from modelward_collector.rules.compile_polars import POLARS_NUMBER
from modelward_collector.rules.evaluate import Match, prepare
from modelward_collector.rules.rule import Rule
from modelward_collector.rules.sentence import ARTIFACT, sentences
from modelward_collector.rules.tree import fields_of
from modelward_collector.rules.validate import PLACEHOLDER

MAX_EVENTS = 50
"""Rows that one detection names: the latest ones."""

MAX_KEY = 400
"""Characters of a group key; a longer one ends in a hash of the whole."""

ARROW_SCHEMA = arrow_schema(DETECTION_FIELDS)


@dataclass(frozen=True)
class BatchName:
    """Where rows come from; with the row number, the name of each."""

    host: str
    agent_id: str
    epoch: str
    number: int


def _polars(field: Field) -> pl.DataType:
    if field.type == "strings":
        return pl.List(pl.String())
    if field.type == "time":
        return pl.Datetime("ns", "UTC")
    if field.type == "bool":
        return pl.Boolean()
    return POLARS_NUMBER.get(field.type) or pl.String()


SCHEMA = pl.Schema({field.column: _polars(field) for field in DETECTION_FIELDS})
"""As :data:`ARROW_SCHEMA`, closed columns as plain text."""

_COPIED = tuple(field for field in DETECTION_FIELDS if field.name in BY_NAME and field.name not in ("host.name", "agent.id"))


def detection_id(rule: Rule, row_name: str, group_key: str) -> str:
    """128 bits of rule, version, last row and group, as hex: judging a batch again makes no second
    detection.
    """
    parts = "\0".join((rule.id, rule.version, row_name, group_key))
    return hashlib.sha256(parts.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def group_keys(host: str, rule: Rule, rows: pl.DataFrame) -> pl.Series:
    """``host|rule id|value|...`` for each row; what could be mistaken for the separator is escaped, length is bounded."""
    start = "|".join(part.replace("|", r"\x7c") for part in (host, rule.id))
    values = [pl.col(BY_NAME[one].column).cast(pl.String).str.replace_all("|", r"\x7c", literal=True) for one in rule.group]
    keys = rows.select(pl.concat_str([pl.repeat(start, pl.len()), *values], separator="|")).to_series()
    long = keys.filter(keys.str.len_chars() > MAX_KEY).unique().to_list()
    return keys.replace(long, [_shortened(key) for key in long]) if long else keys


def _shortened(key: str) -> str:
    return f"{key[: MAX_KEY - 33]}~{hashlib.sha256(key.encode('utf-8', 'surrogatepass')).hexdigest()[:32]}"


def _told(rule: Rule) -> list[Field]:
    """The fields of an event that a detection of the rule tells of, or that its key is made of."""
    named = {*rule.group, *PLACEHOLDER.findall(rule.sentence), *(field.name for field in _COPIED)}
    return [field for field in BY_NAME.values() if field.name in named]


def columns(rule: Rule) -> set[str]:
    """All columns of an event that a rule and its detections depend on."""
    return {field.column for field in (*fields_of(rule.tree), *_told(rule))}


def build(events: pl.DataFrame, match: Match, name: BatchName, artifacts: Callable[[pl.DataFrame], pl.Series]) -> pl.DataFrame:
    """Detections of one rule in a batch: one for each matched row, or for rows that differ in nothing but time.

    A process that opens one secret a million times is one finding with many rows, not a million findings.

    Args:
        artifacts: names the model file that each row is about.
    """
    rule = match.rule
    rows = events[match.rows]
    known = prepare(rows, _told(rule))
    number = rows["row"] if "row" in rows.columns else match.rows
    source = f"{name.agent_id}/{name.epoch}/{name.number}/"
    known = known.with_columns(
        artifacts(rows).alias(ARTIFACT),
        pl.lit(name.host).alias("host_name"),
        pl.lit(name.agent_id).alias("agent_id"),
        (pl.lit(source) + number.cast(pl.String)).alias("events"),
    )
    alike = [column for column in known.columns if column not in ("time", "events")]
    known = known.group_by(alike, maintain_order=True).agg(pl.col("time").last(), pl.col("events").tail(MAX_EVENTS))
    keys = group_keys(name.host, rule, known)
    last = known["events"].list.last().to_list()
    ids = [detection_id(rule, row, key) for row, key in zip(last, keys.to_list(), strict=True)]
    same = {
        "rule_id": rule.id, "rule_name": rule.name, "rule_title": rule.title, "rule_version": rule.version,
        "severity": rule.severity, "response": rule.response, "reason": rule.reason, "next_step": rule.next_step,
    }  # fmt: skip
    return known.with_columns(
        pl.Series("detection_id", ids, dtype=pl.String),
        pl.from_epoch(pl.lit(time.time_ns()), "ns").dt.replace_time_zone("UTC").alias("detected_at"),
        sentences(rule.sentence, known).alias("sentence"),
        keys.alias("group_key"),
        pl.lit(pl.Series([list(rule.attack)], dtype=pl.List(pl.String))).first().alias("attack"),
        *(pl.lit(text).alias(column) for column, text in same.items()),
    ).select(pl.col(column).cast(dtype) for column, dtype in SCHEMA.items())


def to_arrow(detections: pl.DataFrame) -> pa.RecordBatch:
    """The same rows with exactly the types of :data:`ARROW_SCHEMA`."""
    table = detections.to_arrow()
    arrays = []
    for field in ARROW_SCHEMA:
        column = table.column(field.name).combine_chunks()
        if pa.types.is_dictionary(field.type):
            column = column.cast(pa.string()).dictionary_encode().cast(field.type)
        arrays.append(column.cast(field.type))
    return pa.RecordBatch.from_arrays(arrays, schema=ARROW_SCHEMA)
