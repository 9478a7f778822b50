"""The SQL behind the API: a list with the filters of a request, counts of it, and what is new.

A value that came over HTTP is only ever a parameter of the engine (``{name:Type}``), never part of the SQL.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping

from modelward_collector.store.ddl.views import incidents, loads
from modelward_collector.web.filters import NAMED, BadFilter, Query, instant, lasting, moment, whole
from modelward_collector.web.listings import LISTINGS

MAX_LIMIT = 1000

_OF_MODEL = NAMED.format(id="model_id", digest="model_digest")

_SILENT = "max(host_name IN (SELECT host_name FROM hosts WHERE silent))"


def _loads(given: Mapping[str, str]) -> str:
    """Where models were loaded: a row for each model, host and workload."""
    of = _OF_MODEL if given.get("model") else "1"
    return f"""SELECT * FROM (
    SELECT b.model_id AS model_id, b.model_digest AS digest, toString(b.host_name) AS host_name, b.workload_id AS workload_id,
        argMax(b.workload_runtime, b.time) AS runtime, argMax(b.workload_runtime_version, b.time) AS runtime_version,
        argMax(b.model_path, b.time) AS path, count() AS loads, countIf(l.state = 'loaded') AS loaded_now,
        countIf(l.state = 'unknown') AS loaded_unknown, min(b.time) AS first_loaded, max(b.time) AS last_loaded,
        argMax(l.phase, (l.state IN ('loaded', 'unknown'), l.state != '', l.changed)) AS phase,
        if(max(l.state) = '', last_loaded, argMax(l.changed, (l.state IN ('loaded', 'unknown'), l.state != '', l.changed)))
            AS since
    FROM (SELECT * FROM bindings FINAL WHERE {of}) AS b
    LEFT JOIN ({loads(_SILENT, of)}) AS l ON l.host = sipHash64(b.host_name) AND l.model_instance = b.model_instance
    GROUP BY model_id, digest, host_name, workload_id
)"""


_GROUPS = "(group_key, host_name) IN (SELECT group_key, host_name FROM {} WHERE {})"


def _source(name: str, given: Mapping[str, str]) -> str:
    """What a list selects from: of incidents only the groups that can be in it, all detections of them."""
    if name == "loads":
        return _loads(given)
    if name != "incidents":
        return LISTINGS[name].select
    conditions = []
    if given.get("host"):
        conditions.append("host_name = {host:String}")
    if given.get("id"):
        conditions.append(_GROUPS.format("detections_raw", "detection_id = {id:String}"))
    if given.get("since"):
        conditions.append(_GROUPS.format("detections_raw", "time >= fromUnixTimestamp64Nano({since:Int64}, 'UTC')"))
    if given.get("model"):
        named = "model_id = {model:String} OR lifecycle_origin_model = {model:String}"
        conditions.append(_GROUPS.format("detections", named))
    if given.get("key"):
        conditions.append("startsWith({key:String}, concat(group_key, '@'))")
    return f"SELECT * FROM ({incidents(' AND '.join(conditions) or '1')})"


def steps(name: str, given: Mapping[str, str]) -> Iterator[Mapping[str, str]]:
    """The filters of a request, first with shorter spans; the first answer with as many rows as wanted is the answer to all.

    Raises:
        BadFilter: a time has a bad value.
    """
    shape = LISTINGS[name]
    if shape.steps and not given.keys() & shape.selective:
        until = instant(given["until"]) if given.get("until") else time.time_ns()
        asked = given.get("since") or shape.default_since
        wanted = instant(asked) if asked else 0
        for step in shape.steps:
            since = until - lasting(step)
            if since > wanted:
                yield {**given, "since": moment(since)}
    yield given


def filtered(name: str, given: Mapping[str, str]) -> Query:
    """The conditions that the filters of a request put on a list.

    Raises:
        BadFilter: a filter is unknown or has a bad value.
    """
    filters = LISTINGS[name].filters
    query = Query()
    # What a request names itself is shown, silenced or not.
    if "silenced" in filters and not given.keys() & {"ids", "key", "id"}:
        given = {**given, "silenced": given.get("silenced") or "0"}
    for key, value in given.items():
        if key not in filters:
            raise BadFilter(f"'{key[:40]}' is no filter of {name}; there are {', '.join(sorted([*filters, 'limit']))}")
        if len(value) > 20_000:
            raise BadFilter(f"{key}: the value is too long")
        if value:
            filters[key](query, value)
    return query


def listing(name: str, given: Mapping[str, str]) -> tuple[str, dict[str, str], int]:
    """SQL, parameters and limit of a list with the filters that a request gave.

    Raises:
        BadFilter: a filter is unknown or has a bad value.
    """
    shape = LISTINGS[name]
    filters = dict(given)
    limit = whole("limit", filters.pop("limit", str(shape.default_limit)), MAX_LIMIT)
    if shape.default_since and not filters.keys() & {"since", "names"}:
        filters["since"] = shape.default_since
    query = filtered(name, filters)
    return query.sql(_source(name, filters), shape.order, limit), query.parameters, limit


def timeline(given: Mapping[str, str]) -> tuple[str, dict[str, str], int, int, int]:
    """SQL and parameters that count detections in equal spans; and start and length of these (ns), and how many.

    Raises:
        BadFilter: a filter is unknown or has a bad value.
    """
    filters = dict(given)
    bins = whole("bins", filters.pop("bins", "48"), 500)
    since = filters.setdefault("since", "24h")
    query = filtered("detections", filters)
    start = instant(since)
    step = max(1, (time.time_ns() - start) // bins)
    query.parameters |= {"since": str(start), "step": str(step)}
    sql = f"""
SELECT intDiv(toUnixTimestamp64Nano(time) - {{since:Int64}}, {{step:Int64}}) AS bin, severity, count() AS n
FROM detections WHERE {query.condition} GROUP BY bin, severity ORDER BY bin"""
    return sql, query.parameters, start, step, bins


def severities(given: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """SQL and parameters that count incidents by severity, and in each how many are silenced as a whole.

    Raises:
        BadFilter: a filter is unknown or has a bad value.
    """
    shown = "count()" if given.get("silenced") == "1" else "countIf(NOT all_silenced)"
    filters = {"since": "24h", **given, "silenced": "1"}
    query = filtered("incidents", filters)
    select = f"SELECT severity, {shown} AS n, countIf(all_silenced) AS silenced FROM ({_source('incidents', filters)})"
    return f"{select} WHERE {query.condition} GROUP BY severity", query.parameters


PAGE = 1000
"""Rows of one look for new ones."""

NEW_DETECTIONS = f"""
SELECT * FROM detections WHERE detected_at > fromUnixTimestamp64Nano({{after:Int64}}, 'UTC') AND silenced_by = ''
ORDER BY detected_at, detection_id LIMIT {PAGE}"""

NEW_EVENTS = f"""
SELECT * FROM events WHERE batch_time > fromUnixTimestamp64Nano({{after:Int64}}, 'UTC')
AND time > fromUnixTimestamp64Nano({{after:Int64}}, 'UTC') - INTERVAL 1 HOUR
ORDER BY batch_time, batch, row LIMIT {PAGE}"""
