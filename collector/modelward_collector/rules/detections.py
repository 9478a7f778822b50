"""Rows for the table ``detections`` from rows that matched."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass

import polars as pl
import pyarrow as pa
from modelward_proto.fields import BY_NAME, DETECTION_FIELDS, Field, arrow_schema

from modelward_collector.rules.compile_polars import POLARS_NUMBER
from modelward_collector.rules.evaluate import Match, prepare
from modelward_collector.rules.rule import Rule
from modelward_collector.rules.sentence import ARTIFACT, sentences
from modelward_collector.rules.validate import PLACEHOLDER

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


def group_key(host: str, rule: Rule, values: tuple[object, ...]) -> str:
    """``host|rule id|value|...``; what could be mistaken for the separator is escaped."""
    key = "|".join(str(part).replace("|", r"\x7c") for part in (host, rule.id, *values))
    if len(key) <= MAX_KEY:
        return key
    return f"{key[: MAX_KEY - 33]}~{hashlib.sha256(key.encode('utf-8', 'surrogatepass')).hexdigest()[:32]}"


def build(events: pl.DataFrame, match: Match, name: BatchName, artifacts: Callable[[pl.DataFrame], pl.Series]) -> pl.DataFrame:
    """One detection for each matched row of one rule. ``artifacts`` names the model file that each row is
    about.
    """
    rule = match.rule
    rows = events[match.rows]
    named = {*rule.group, *PLACEHOLDER.findall(rule.sentence), *(field.name for field in _COPIED)}
    known = prepare(rows, [field for field in BY_NAME.values() if field.name in named]).with_columns(
        artifacts(rows).alias(ARTIFACT)
    )
    known = known.with_columns(pl.lit(name.host).alias("host_name"), pl.lit(name.agent_id).alias("agent_id"))
    numbers = rows["row"].to_list() if "row" in rows.columns else match.rows.to_list()
    names = [f"{name.agent_id}/{name.epoch}/{name.number}/{number}" for number in numbers]
    keys = [
        group_key(name.host, rule, values) for values in known.select([BY_NAME[one].column for one in rule.group]).iter_rows()
    ]
    made = {
        "detection_id": [detection_id(rule, row, key) for row, key in zip(names, keys, strict=True)],
        "detected_at": [time.time_ns()] * len(names),
        "rule_id": [rule.id] * len(names),
        "rule_name": [rule.name] * len(names),
        "rule_title": [rule.title] * len(names),
        "rule_version": [rule.version] * len(names),
        "severity": [rule.severity] * len(names),
        "response": [rule.response] * len(names),
        "sentence": sentences(rule.sentence, known),
        "reason": [rule.reason] * len(names),
        "next_step": [rule.next_step] * len(names),
        "attack": [list(rule.attack)] * len(names),
        "group_key": keys,
        "events": [[row] for row in names],
    }
    copied = known.select([pl.col(field.column).cast(SCHEMA[field.column]) for field in _COPIED])
    host = known.select("host_name", "agent_id")
    frame = pl.DataFrame(made, schema_overrides={column: SCHEMA[column] for column in made if column != "detected_at"})
    frame = frame.with_columns(pl.from_epoch("detected_at", "ns").dt.replace_time_zone("UTC"))
    return pl.concat([frame, copied, host], how="horizontal").select(list(SCHEMA)).cast(SCHEMA)


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
