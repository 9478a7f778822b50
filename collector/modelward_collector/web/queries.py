"""The SQL behind the API: what each list shows, and how its filters become conditions with parameters.

A value that came over HTTP is only ever a parameter of the engine (``{name:Type}``), never part of the SQL.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from modelward_proto.fields import EVENT_NAMES, PHASES

SEVERITIES = ("informational", "low", "medium", "high", "critical")
MAX_LIMIT = 1000

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_SPAN = re.compile(r"(\d{1,6})([smhdw])", re.ASCII)
_ENTITY = re.compile(r"[0-9a-f]{8}-\d{1,10}-\d{1,20}", re.ASCII)
_NAME = re.compile(r"[0-9a-zA-Z_-]{1,80}/[0-9a-zA-Z_-]{1,80}/\d{1,20}/\d{1,10}", re.ASCII)


class BadFilter(ValueError):
    """A filter is unknown or has a value that cannot be right; the message is for the person who gave it."""


@dataclass(slots=True)
class Query:
    """A SELECT being put together."""

    conditions: list[str] = field(default_factory=list)
    parameters: dict[str, str] = field(default_factory=dict)

    def where(self, condition: str, **parameters: str | int) -> None:
        """Add a condition and the values of its ``{name:Type}``."""
        self.conditions.append(condition)
        self.parameters.update({name: str(value) for name, value in parameters.items()})

    def sql(self, select: str, order: str, limit: int) -> str:
        """The whole statement."""
        condition = " AND ".join(f"({c})" for c in self.conditions) or "1"
        return f"{select} WHERE {condition} ORDER BY {order} LIMIT {limit}"


Filter = Callable[[Query, str], None]


def instant(text: str, now: float | None = None) -> int:
    """Nanoseconds since 1970 of ``90s``, ``15m``, ``24h``, ``7d`` (ago) or an RFC 3339 time (UTC when it
    has no zone).

    Raises:
        BadFilter: it is neither.
    """
    if found := _SPAN.fullmatch(text):
        return int(((time.time() if now is None else now) - int(found[1]) * _UNITS[found[2]]) * 1e9)
    try:
        when = datetime.fromisoformat(text)
        when = when if when.tzinfo else when.replace(tzinfo=UTC)
        return int(when.timestamp() * 1e9)
    except (ValueError, OverflowError) as e:
        raise BadFilter(f"a time is wanted, such as 15m, 24h, 7d or 2026-11-25T07:00:00Z, not '{text[:40]}'") from e


def now() -> str:
    """The time of this machine, RFC 3339 UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _time(column: str, name: str, comparison: str) -> Filter:
    def add(query: Query, value: str) -> None:
        query.where(
            f"{column} {comparison} fromUnixTimestamp64Nano({{{name}:Int64}}, 'UTC')",
            **{name: instant(value)},
        )

    return add


def _equal(column: str, name: str) -> Filter:
    def add(query: Query, value: str) -> None:
        query.where(f"{column} = {{{name}:String}}", **{name: value})

    return add


def _one_of(column: str, name: str, values: tuple[str, ...]) -> Filter:
    def add(query: Query, value: str) -> None:
        wanted = value.split(",")
        for item in wanted:
            if item not in values:
                raise BadFilter(f"{name}: '{item[:40]}' is not one of {', '.join(values)}")
        query.where(f"{column} IN ({', '.join(repr(item) for item in wanted)})")

    return add


def _at_least(query: Query, value: str) -> None:
    if value not in SEVERITIES:
        raise BadFilter(f"min_severity: '{value[:40]}' is not one of {', '.join(SEVERITIES)}")
    _one_of("severity", "severity", SEVERITIES)(query, ",".join(SEVERITIES[SEVERITIES.index(value) :]))


def _text(*columns: str) -> Filter:
    def add(query: Query, value: str) -> None:
        found = " OR ".join(f"positionCaseInsensitive({c}, {{q:String}}) > 0" for c in columns)
        query.where(found, q=value)

    return add


def _model(*columns: str) -> Filter:
    def add(query: Query, value: str) -> None:
        query.where(" OR ".join(f"{c} = {{model:String}}" for c in columns), model=value)

    return add


def _process(query: Query, value: str) -> None:
    if value.isascii() and value.isdigit():
        query.where("process_pid = {pid:UInt32}", pid=value)
    elif _ENTITY.fullmatch(value):
        query.where("process_entity_id = {process:String}", process=value)
    else:
        query.where(
            "positionCaseInsensitive(process_executable_path, {process:String}) > 0"
            " OR positionCaseInsensitive(process_command_line, {process:String}) > 0",
            process=value,
        )


def _rows_by_name(query: Query, value: str) -> None:
    names = value.split(",")
    if len(names) > 200 or not all(_NAME.fullmatch(name) for name in names):
        raise BadFilter("names: at most 200 of agent/epoch/batch/row, with commas between them")
    # Batch and row are cut out of the text again, so that what the engine compares are numbers.
    query.where(
        "(agent_id, epoch, batch, row) IN (SELECT p[1], p[2], toUInt64(p[3]), toUInt32(p[4]) FROM "
        "(SELECT splitByChar('/', arrayJoin(splitByChar(',', {names:String}))) AS p))",
        names=value,
    )


def _ids(query: Query, value: str) -> None:
    query.where("detection_id IN (SELECT arrayJoin(splitByChar(',', {ids:String})))", ids=value)


@dataclass(frozen=True, slots=True)
class Listing:
    """One list of the API."""

    select: str
    order: str
    filters: Mapping[str, Filter]
    default_limit: int = 100
    default_since: str = ""


_RANK = "indexOf(['informational', 'low', 'medium', 'high', 'critical'], toString(severity))"

LISTINGS: dict[str, Listing] = {
    "detections": Listing(
        "SELECT * FROM detections",
        "time DESC, detection_id",
        {
            "since": _time("time", "since", ">="),
            "until": _time("time", "until", "<"),
            "host": _equal("host_name", "host"),
            "severity": _one_of("severity", "severity", SEVERITIES),
            "min_severity": _at_least,
            "rule": _equal("rule_name", "rule"),
            "workload": _equal("workload_id", "workload"),
            "model": _model("model_id", "lifecycle_origin_model", "model_digest"),
            "ids": _ids,
            "phase": _one_of("lifecycle_phase", "phase", PHASES),
            "process": _process,
            "event": _one_of("event_name", "event", tuple(EVENT_NAMES.values())),
            "q": _text(
                "sentence",
                "rule_title",
                "process_chain",
                "process_command_line",
                "model_id",
                "host_name",
                "workload_id",
            ),
        },
    ),
    "incidents": Listing(
        "SELECT * FROM incidents",
        f"last DESC, {_RANK} DESC, key",
        {
            "since": _time("last", "since", ">="),
            "until": _time("first", "until", "<"),
            "host": _equal("host_name", "host"),
            "severity": _one_of("severity", "severity", SEVERITIES),
            "min_severity": _at_least,
            "rule": _equal("rule_name", "rule"),
            "workload": _equal("workload_id", "workload"),
            "model": _model("model_id", "origin_model"),
            "key": _equal("key", "key"),
            "q": _text(
                "sentence",
                "rule_title",
                "rule_name",
                "chain",
                "model_id",
                "origin_model",
                "host_name",
                "workload_id",
            ),
        },
    ),
    "events": Listing(
        "SELECT * FROM events",
        "time DESC, batch DESC, row DESC",
        {
            "since": _time("time", "since", ">="),
            "until": _time("time", "until", "<"),
            "host": _equal("host_name", "host"),
            "event": _one_of("event_name", "event", tuple(EVENT_NAMES.values())),
            "process": _process,
            "model": _model("model_id", "lifecycle_origin_model", "model_digest"),
            "workload": _equal("workload_id", "workload"),
            "phase": _one_of("lifecycle_phase", "phase", PHASES),
            "names": _rows_by_name,
            "q": _text(
                "process_command_line",
                "process_executable_path",
                "file_path",
                "destination_address",
                "process_chain",
            ),
        },
        default_since="24h",
    ),
    "hosts": Listing(
        "SELECT * FROM hosts",
        "silent DESC, lost > 0 DESC, host_name",
        {"host": _equal("host_name", "host"), "since": _time("last_seen", "since", ">=")},
        default_limit=500,
    ),
    "models": Listing(
        "SELECT * FROM models",
        "last_loaded DESC, model_id",
        {
            "model": _model("model_id", "digest"),
            "since": _time("last_loaded", "since", ">="),
            "q": _text("model_id", "digest", "path", "source"),
        },
    ),
    "ledger": Listing(
        "SELECT * FROM ledger",
        "host_name, agent_id, kind, hop",
        {"host": _equal("host_name", "host"), "since": _time("at", "since", ">=")},
        default_limit=1000,
    ),
}


def listing(name: str, given: Mapping[str, str]) -> tuple[str, dict[str, str], int]:
    """SQL, parameters and limit of a list with the filters that a request gave.

    Raises:
        BadFilter: a filter is unknown or has a bad value.
    """
    shape = LISTINGS[name]
    query = Query()
    limit = shape.default_limit
    for key, value in given.items():
        if key == "limit":
            if not (value.isascii() and value.isdigit() and 1 <= int(value) <= MAX_LIMIT):
                raise BadFilter(f"limit: a number from 1 to {MAX_LIMIT} is wanted, not '{value[:40]}'")
            limit = int(value)
        elif key not in shape.filters:
            known = ", ".join(sorted([*shape.filters, "limit"]))
            raise BadFilter(f"'{key[:40]}' is no filter of {name}; there are {known}")
        elif len(value) > 20_000:
            raise BadFilter(f"{key}: the value is too long")
        elif value:
            shape.filters[key](query, value)
    if shape.default_since and not given.keys() & {"since", "names"}:
        shape.filters["since"](query, shape.default_since)
    return query.sql(shape.select, shape.order, limit), query.parameters, limit


PAGE = 1000
"""Rows of one look for new ones."""

NEW_DETECTIONS = f"""
SELECT * FROM detections WHERE detected_at > fromUnixTimestamp64Nano({{after:Int64}}, 'UTC')
ORDER BY detected_at, detection_id LIMIT {PAGE}"""

NEW_EVENTS = f"""
SELECT * FROM events WHERE batch_time > fromUnixTimestamp64Nano({{after:Int64}}, 'UTC')
AND time > fromUnixTimestamp64Nano({{after:Int64}}, 'UTC') - INTERVAL 1 HOUR
ORDER BY batch_time, batch, row LIMIT {PAGE}"""

TIMELINE = """
SELECT intDiv(toUnixTimestamp64Nano(time) - {since:Int64}, {step:Int64}) AS bin, severity, count() AS n
FROM detections WHERE time >= fromUnixTimestamp64Nano({since:Int64}, 'UTC')
GROUP BY bin, severity ORDER BY bin"""
