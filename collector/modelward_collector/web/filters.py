"""Filters of the API: how what a request gives becomes conditions with parameters.

A value that came over HTTP is only ever a parameter of the engine (``{name:Type}``), never part of the SQL.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from modelward_proto.fields import SEVERITIES

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
    threads: int = 1
    """More than one only for what must read much: it takes them from the inserts."""

    def where(self, condition: str, **parameters: str | int) -> None:
        """Add a condition and the values of its ``{name:Type}``."""
        self.conditions.append(condition)
        self.parameters.update({name: str(value) for name, value in parameters.items()})

    @property
    def condition(self) -> str:
        """What follows WHERE."""
        return " AND ".join(f"({c})" for c in self.conditions) or "1"

    def sql(self, select: str, order: str, limit: int) -> str:
        """The whole statement."""
        settings = f" SETTINGS max_threads = {self.threads}" if self.threads > 1 else ""
        return f"{select} WHERE {self.condition} ORDER BY {order} LIMIT {limit}{settings}"


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


def lasting(text: str) -> int:
    """Nanoseconds of a span such as ``12h``, ``7d`` or ``4w``.

    Raises:
        BadFilter: it is none, or nothing.
    """
    found = _SPAN.fullmatch(text)
    if not found or not int(found[1]):
        raise BadFilter(f"a span is wanted, such as 12h, 7d or 4w, not '{text[:40]}'")
    return int(found[1]) * _UNITS[found[2]] * 10**9


def moment(nanoseconds: int) -> str:
    """A time as :func:`instant` reads it, to the microsecond."""
    return datetime.fromtimestamp(nanoseconds // 1000 / 10**6, UTC).isoformat(timespec="microseconds")


def now() -> str:
    """The time of this machine, RFC 3339 UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def by_time(column: str, name: str, comparison: str) -> Filter:
    """A time before or after what is given."""

    def add(query: Query, value: str) -> None:
        query.where(
            f"{column} {comparison} fromUnixTimestamp64Nano({{{name}:Int64}}, 'UTC')",
            **{name: instant(value)},
        )

    return add


def equal(column: str, name: str) -> Filter:
    """Exactly what is given."""

    def add(query: Query, value: str) -> None:
        query.where(f"{column} = {{{name}:String}}", **{name: value})

    return add


def has(column: str, name: str) -> Filter:
    """A list that holds what is given."""

    def add(query: Query, value: str) -> None:
        query.where(f"has({column}, {{{name}:String}})", **{name: value})

    return add


def one_of(column: str, name: str, values: tuple[str, ...]) -> Filter:
    """One of the values given, with commas between them; only these values are known."""

    def add(query: Query, value: str) -> None:
        wanted = value.split(",")
        for item in wanted:
            if item not in values:
                raise BadFilter(f"{name}: '{item[:40]}' is not one of {', '.join(values)}")
        query.where(f"{column} IN ({', '.join(repr(item) for item in wanted)})")

    return add


def at_least(query: Query, value: str) -> None:
    """As severe as what is given, or worse."""
    if value not in SEVERITIES:
        raise BadFilter(f"min_severity: '{value[:40]}' is not one of {', '.join(SEVERITIES)}")
    one_of("severity", "severity", SEVERITIES)(query, ",".join(SEVERITIES[SEVERITIES.index(value) :]))


def text(*columns: str, threads: int = 1) -> Filter:
    """Any of the columns holds what is given, whatever its case."""

    def add(query: Query, value: str) -> None:
        query.threads = threads
        found = " OR ".join(f"positionCaseInsensitive({c}, {{q:String}}) > 0" for c in columns)
        query.where(found, q=value)

    return add


def of_model(*columns: str) -> Filter:
    """Any of the columns names the model."""

    def add(query: Query, value: str) -> None:
        query.where(" OR ".join(f"{c} = {{model:String}}" for c in columns), model=value)

    return add


NAMED = (
    "{id} = {{model:String}} OR {digest} = lower({{model:String}}) OR "
    "(length({{model:String}}) >= 6 AND startsWith({digest}, lower({{model:String}})))"
)
"""A model by its name, its digest, or the start of that."""


def named_model(id: str, digest: str) -> Filter:
    """One model, as a person names it: by name, by digest, or by the start of a digest."""

    def add(query: Query, value: str) -> None:
        query.where(NAMED.format(id=id, digest=digest), model=value)

    return add


_LOADS = "SELECT host_name, model_instance FROM bindings WHERE model_id = {model:String} OR model_digest = {model:String}"


def of_loads(query: Query, value: str) -> None:
    """Events of the model: of its loads, and of what came from them. By the numbers of the loads first, for which there is an
    index; numbers of two hosts may be equal.
    """
    query.threads = 2
    numbers, names = f"SELECT model_instance FROM ({_LOADS})", _LOADS
    query.where(
        f"(model_instance IN ({numbers}) OR lifecycle_origin_instance IN ({numbers})) AND "
        f"((host_name, model_instance) IN ({names}) OR (host_name, lifecycle_origin_instance) IN ({names}))",
        model=value,
    )


def of_process(query: Query, value: str) -> None:
    """A process by its pid, its key, or part of its path or command line."""
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


def rows_by_name(query: Query, value: str) -> None:
    """Rows by their names: agent/epoch/batch/row, with commas between them."""
    names = value.split(",")
    if len(names) > 200 or not all(_NAME.fullmatch(name) for name in names):
        raise BadFilter("names: at most 200 of agent/epoch/batch/row, with commas between them")
    # Batch and row are cut out of the text again, so that what the engine compares are numbers. Rows lie host by host, and a
    # host that was never heard of before is listed only a second or two after its first events are stored.
    agents = "SELECT splitByChar('/', arrayJoin(splitByChar(',', {names:String})))[1] AS agent"
    query.where(
        f"(host_name IN (SELECT host_name FROM hosts_raw WHERE agent_id IN ({agents})) OR "
        f"(SELECT uniqExact(agent_id) FROM hosts_raw WHERE agent_id IN ({agents})) < (SELECT uniqExact(agent) FROM ({agents}))) "
        "AND (agent_id, epoch, batch, row) IN (SELECT p[1], p[2], toUInt64(p[3]), toUInt32(p[4]) FROM "
        "(SELECT splitByChar('/', arrayJoin(splitByChar(',', {names:String}))) AS p))",
        names=value,
    )


def by_ids(query: Query, value: str) -> None:
    """Detections by their ids, with commas between them."""
    query.where("detection_id IN (SELECT arrayJoin(splitByChar(',', {ids:String})))", ids=value)


def labelled(condition: str) -> Filter:
    """Hosts with a label, ``env=prod``; ``condition`` tells of ``{label:String}``."""

    def add(query: Query, value: str) -> None:
        if "=" not in value:
            raise BadFilter(f"label: NAME=VALUE is wanted, such as env=prod, not '{value[:40]}'")
        query.where(condition, label=value)

    return add


def silenced(condition: str) -> Filter:
    """``0`` (as if not given) leaves out what an exception covers, ``1`` does not, ``only`` leaves out the rest."""

    def add(query: Query, value: str) -> None:
        if value not in ("0", "1", "only"):
            raise BadFilter(f"silenced: 0, 1 or only is wanted, not '{value[:40]}'")
        if value != "1":
            query.where(f"{'' if value == 'only' else 'NOT '}({condition})")

    return add


def whole(name: str, value: str, most: int) -> int:
    """A number from 1 to ``most``.

    Raises:
        BadFilter: it is none.
    """
    if not (value.isascii() and value.isdigit() and len(value) < 20 and 1 <= int(value) <= most):
        raise BadFilter(f"{name}: a number from 1 to {most} is wanted, not '{value[:40]}'")
    return int(value)
