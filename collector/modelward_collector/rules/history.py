"""A rule held against events that are stored: the same expressions as on the stream, the same detections.

The stored events come in pages of Arrow, each the size that the collector allows, and only what the rule can match at all: for
each closed field that the rule's tree can decide on, the values with which it can still hold (:func:`needs`). The classes of
programs, files and addresses are those of the time when the event came, unless a ``classes.yml`` is tried as well.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import polars as pl
from modelward_proto.field import Field
from modelward_proto.fields import BY_NAME, STORED

from modelward_collector.rules.artifacts import NAMELESS
from modelward_collector.rules.classes import Classes
from modelward_collector.rules.detections import BatchName, build, columns
from modelward_collector.rules.evaluate import Evaluator, Match
from modelward_collector.rules.rule import Rule
from modelward_collector.rules.tree import FALSE, OneOf, leaves, specialise

ROW_NAME = ("host_name", "agent_id", "epoch", "batch", "row")
MOST_MATCHES = 100_000
"""Matched rows of which detections are made; beyond, rows are only counted."""
MOST_SAMPLES = 5

_CLASS_FIELDS = ("process.executable.class", "file.class", "destination.class")
_CLASS_SOURCES = (
    "process.executable.path", "process.command_line", "file.path", "file.path_asked", "destination.address",
)

Pages = Callable[["Needs"], Iterable[pl.DataFrame]]
"""Stored events that fit, in pages, as frames with the columns asked for."""


@dataclass(frozen=True, slots=True)
class Needs:
    """What of the stored events a rule has to see."""

    columns: tuple[str, ...]
    values: Mapping[str, tuple[str, ...]]
    """Column of a closed field to the values that the rule can match; a field that is not here may have any."""


@dataclass(slots=True)
class Findings:
    """What a rule would have found."""

    rule: Rule
    looked_at: int = 0
    """Rows that were fetched and asked."""
    matches: int = 0
    """Rows that match."""
    by_day: Counter[str] = field(default_factory=Counter)
    by_host: Counter[str] = field(default_factory=Counter)
    alerts: int = 0
    """Detections that the stream would have made of them."""
    ids: list[str] = field(default_factory=list)
    groups: int = 0
    """Incidents at most: groups of detections that belong together, however far apart."""
    samples: list[dict[str, Any]] = field(default_factory=list)
    complete: bool = True
    """False when there were more matches than detections were made of."""


def needs(rule: Rule, *, reclassify: bool = False) -> Needs:
    """The columns and values that a rule depends on. ``reclassify``: classes are computed anew, so they select nothing."""
    wanted = {*columns(rule), *ROW_NAME, "time", "count"}
    closed = {leaf.field for leaf in leaves(rule.tree) if isinstance(leaf, OneOf)}
    if reclassify:
        wanted |= {BY_NAME[name].column for name in _CLASS_SOURCES}
        closed -= {BY_NAME[name] for name in _CLASS_FIELDS}
    values = {one.column: _possible(rule, one) for one in closed}
    ordered = tuple(f.column for f in STORED if f.column in wanted)
    return Needs(ordered, {column: some for column, some in sorted(values.items()) if len(some) < len(_values(column))})


def _possible(rule: Rule, one: Field) -> tuple[str, ...]:
    return tuple(value for value in one.values if specialise(rule.tree, {one.name: value}) != FALSE)


def _values(column: str) -> tuple[str, ...]:
    return next(f.values for f in STORED if f.column == column)


def search(rule: Rule, pages: Pages, classes: Classes | None = None) -> Findings:
    """Hold a rule against stored events.

    Raises:
        RuntimeError: the rule cannot be evaluated on a page.
    """
    found = Findings(rule)
    evaluator = Evaluator([rule])
    kept: list[pl.DataFrame] = []
    for page in pages(needs(rule, reclassify=classes is not None)):
        events = classes.classify(page) if classes else page
        found.looked_at += events.height
        matches, failures = evaluator.run(events)
        if failures:
            raise RuntimeError(failures[0].message)
        if not matches:
            continue
        rows = events[matches[0].rows]
        _count(found, rows)
        room = MOST_MATCHES - sum(frame.height for frame in kept)
        found.complete = found.complete and rows.height <= room
        if room > 0:
            kept.append(rows.head(room))
    if kept:
        _detect(found, pl.concat(kept))
    return found


def _count(found: Findings, rows: pl.DataFrame) -> None:
    found.matches += rows.height
    for day, number in rows["time"].dt.date().value_counts().iter_rows():
        found.by_day[str(day)] += number
    for host, number in rows["host_name"].cast(pl.String).value_counts().iter_rows():
        found.by_host[host] += number


def _detect(found: Findings, rows: pl.DataFrame) -> None:
    made = [_of_batch(found.rule, batch) for batch in _batches(rows)]
    detections = pl.concat(made).sort("time")
    found.alerts = detections.height
    found.ids = detections["detection_id"].to_list()
    found.groups = detections["group_key"].n_unique()
    shown = detections.tail(MOST_SAMPLES).select("time", "host_name", "sentence", "process_chain")
    found.samples = [{**row, "time": _rfc3339(row["time"])} for row in shown.iter_rows(named=True)]


def _batches(rows: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """The matched rows of each batch, in the order of the batch: what the stream judged together."""
    yield from rows.sort("batch", "row").partition_by("host_name", "agent_id", "epoch", "batch", maintain_order=True)


def _of_batch(rule: Rule, batch: pl.DataFrame) -> pl.DataFrame:
    host, agent, epoch, number = (batch[column][0] for column in ("host_name", "agent_id", "epoch", "batch"))
    match = Match(rule, pl.Series(range(batch.height), dtype=pl.UInt32))
    # Which file a model has is part of no key, only of the sentence.
    return build(batch, match, BatchName(str(host), str(agent), str(epoch), int(number)),
                 lambda some: pl.Series([NAMELESS] * some.height, dtype=pl.String))


def _rfc3339(time: datetime) -> str:
    return time.isoformat().replace("+00:00", "Z")
