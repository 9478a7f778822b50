"""``GET /api/v1/workload-timeline``: what a workload did in a span of time, as lanes of phases with effects on them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from modelward_collector.explain.gather import nanoseconds
from modelward_collector.explain.words import deed, program
from modelward_collector.web import lanes, workloads
from modelward_collector.web.api import bad, failed, problem
from modelward_collector.web.filters import BadFilter, instant, moment
from modelward_collector.web.lanes import Lane, Mark
from modelward_collector.web.store import Store, StoreError
from modelward_collector.web.workloads import NoWorkload, Workload

MOST_TRANSITIONS = 5000
MOST_EFFECTS = 1000
MOST_DETECTIONS = 300
MOST_LANES = 60
HOUR_NS = 3600 * 10**9

SENSITIVE = ("credential", "cloud_credential", "startup_hook", "runtime_socket")
"""Classes of files whose opening is shown."""

_FILTERS = ("of", "host", "since", "until", "model")
_KINDS = {"exec": "exec", "connect": "connect", "file_open": "open"}

_OF = "host_name = {host:String} AND workload_id = {workload:String}"
_SPAN = "time >= fromUnixTimestamp64Nano({since:Int64}, 'UTC') AND time < fromUnixTimestamp64Nano({until:Int64}, 'UTC')"
_PROCESS = "process_pid, process_entity_id, process_parent_entity_id, process_root_id, process_executable_path, thread_id"

_TRANSITIONS = f"""
SELECT time, event_name, event_outcome, {_PROCESS}, process_exit_code, process_exit_signal, file_path, model_instance, model_id,
    model_digest, lifecycle_phase, lifecycle_scope, lifecycle_from, lifecycle_trigger, lifecycle_detail, lifecycle_evidence,
    workload_runtime, workload_runtime_version
FROM events WHERE {_OF} AND time < fromUnixTimestamp64Nano({{until:Int64}}, 'UTC') AND (event_name = 'lifecycle'
    OR (event_name = 'exit' AND process_entity_id IN (
        SELECT process_entity_id FROM events_raw WHERE {_OF} AND event_name = 'lifecycle')))
ORDER BY time DESC, batch DESC, row DESC LIMIT {MOST_TRANSITIONS}"""

_EFFECTS = f"""
SELECT time, event_name, event_outcome, count, {_PROCESS}, process_executable_class, process_command_line, file_path, file_class,
    file_access, destination_address, destination_port, destination_class, lifecycle_phase, lifecycle_origin_instance
FROM events_raw WHERE {_OF} AND {_SPAN} AND (event_name IN ('exec', 'connect')
    OR (event_name = 'file_open' AND file_class IN {SENSITIVE}))
ORDER BY time DESC, batch DESC, row DESC LIMIT {MOST_EFFECTS}"""

_DETECTIONS = f"""
SELECT time, detection_id, severity, sentence, rule_title, silenced_by, lifecycle_phase, lifecycle_origin_instance, process_pid,
    process_entity_id, process_root_id
FROM detections WHERE {_OF} AND {_SPAN} AND silenced_by = '' ORDER BY time DESC, detection_id LIMIT {MOST_DETECTIONS}"""

_HOST = """
SELECT max(silent) AS silent, max(last_seen) AS last_seen FROM hosts WHERE host_name = {host:String} HAVING count() > 0"""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request wants. ``since``: None when it names no span."""

    of: str
    host: str
    model: str
    since: int | None
    until: int

    @classmethod
    def read(cls, given: Mapping[str, str]) -> Asked:
        """
        Raises:
            BadFilter: a parameter is unknown, missing or has a bad value.
        """
        for name, value in given.items():
            if name not in _FILTERS:
                raise BadFilter(f"'{name[:40]}' is no filter of a timeline; there are {', '.join(_FILTERS)}")
            if len(value) > 1000:
                raise BadFilter(f"{name}: the value is too long")
        if not given.get("of"):
            raise BadFilter("of: a workload or a model is wanted")
        now = time.time_ns()
        until = min(instant(given["until"]), now) if given.get("until") else now
        since = instant(given["since"]) if given.get("since") else None
        if since is not None and since >= until:
            raise BadFilter("since: it is not before the end of the span")
        return cls(given["of"], given.get("host", ""), given.get("model", ""), since, until)


async def answer(request: Request) -> Response:
    """The timeline as JSON; times are RFC 3339, UTC."""
    store: Store = request.app.state.store
    try:
        asked = Asked.read(dict(request.query_params))
        workload = await workloads.find(store, asked.of, asked.host)
        made = await _made(store, workload, asked)
    except BadFilter as e:
        return bad(e)
    except NoWorkload as e:
        return problem(str(e), 404)
    except StoreError as e:
        return failed(e)
    return JSONResponse(made, headers={"cache-control": "no-store"})


async def _made(store: Store, workload: Workload, asked: Asked) -> dict[str, Any]:
    of = {"host": workload.host, "workload": workload.id}
    found, hosts = await asyncio.gather(
        store.select(_TRANSITIONS, {**of, "until": str(asked.until)}), store.select(_HOST, {"host": workload.host}))
    transitions = found.rows
    for row in transitions:
        row["at"] = nanoseconds(row["time"])
    notes: list[str] = []
    since, until = _span(asked, transitions, notes)
    span = {**of, "since": str(since), "until": str(until)}
    effects, detections = await asyncio.gather(store.select(_EFFECTS, span), store.select(_DETECTIONS, span))
    heard = until
    if hosts.rows and hosts.rows[0]["silent"]:
        heard = nanoseconds(hosts.rows[0]["last_seen"])
        if heard < until:
            notes.append(f"Host {workload.host} was last heard of at {_clock(heard)}: what happened since is unknown.")
    return await asyncio.to_thread(
        _document, workload, asked.model, (since, until, heard), transitions, effects.rows, detections.rows, notes)


def _span(asked: Asked, transitions: list[dict[str, Any]], notes: list[str]) -> tuple[int, int]:
    """From when to when: as asked; else the last hour or what there is of it, or the hour up to an end that was before."""
    if asked.since is not None:
        return asked.since, asked.until
    since, until = asked.until - HOUR_NS, asked.until
    if transitions and transitions[0]["at"] < since and transitions[0]["event_name"] == "exit":
        until = min(until, transitions[0]["at"] + 60 * 10**9)
        since = until - HOUR_NS
        notes.append(f"It ended before the last hour: this is the hour up to {_clock(until)}.")
    if transitions and len(transitions) < MOST_TRANSITIONS and transitions[-1]["at"] > since:
        since = transitions[-1]["at"] - (until - transitions[-1]["at"]) // 50
    return since, until


def _clock(at: int) -> str:
    return f"{moment(at)[:19].replace('T', ' ')} UTC"


def _document(workload: Workload, model: str, times: tuple[int, int, int], transitions: list[dict[str, Any]],
              effects: list[dict[str, Any]], detections: list[dict[str, Any]], notes: list[str]) -> dict[str, Any]:
    since, until, heard = times
    made = lanes.build(transitions, since, until, heard)
    for row in effects:
        kind = _KINDS[row["event_name"]]
        at = nanoseconds(row["time"])
        made.effect(Mark(at, kind, f"{program(row)} {deed(row)}", row["lifecycle_phase"], count=int(row["count"])), row)
    for row in detections:
        at = nanoseconds(row["time"])
        made.effect(Mark(at, "detection", row["sentence"] or row["rule_title"], row["lifecycle_phase"], row["severity"],
                         row["detection_id"]), row)
    shown, there = made.shown(since, MOST_LANES)
    if model:
        shown = _only(shown, model)
        if not shown:
            notes.append(f"No lane is of model {model} in this span.")
    elif not shown:
        notes.append("Nothing is stored of this workload in this span.")
    if there > len(shown) and not model:
        notes.append(f"{there - len(shown)} more lanes are not shown: give a shorter span, or a model.")
    for rows, most, what in ((transitions, MOST_TRANSITIONS, "transitions"), (effects, MOST_EFFECTS, "effects"),
                             (detections, MOST_DETECTIONS, "detections")):
        if len(rows) == most:
            first = rows[-1]["time"][:19].replace("T", " ")
            notes.append(f"Only the latest {most:,} {what} are looked at: what was before {first} may be missing.")
    runtime = next((row for row in transitions if row["workload_runtime"]), {})
    return {
        "host": workload.host, "workload": workload.id, "runtime": runtime.get("workload_runtime", ""),
        "runtime_version": runtime.get("workload_runtime_version", ""), "since": moment(since), "until": moment(until),
        "others": [{"host": host, "workload": id} for host, id in workload.others],
        "lanes": [_lane(lane) for lane in shown], "notes": notes,
    }


def _only(shown: list[Lane], model: str) -> list[Lane]:
    """Loads of one model, and their processes."""
    loads = [lane for lane in shown if lane.instance and (lane.model == model or (
        len(model) >= 6 and lane.digest.startswith(model.lower())))]
    processes = {lane.process for lane in loads}
    ids = {id(lane) for lane in loads}
    return [lane for lane in shown if id(lane) in ids or (not lane.instance and lane.process in processes)]


def _lane(lane: Lane) -> dict[str, Any]:
    return {
        "process": lane.process, "pid": lane.pid, "program": lane.program, "thread": lane.thread, "instance": str(lane.instance),
        "model": lane.model, "digest": lane.digest, "ended": lane.ended,
        "bars": [{
            "phase": bar.phase, "scope": bar.scope, "from": moment(bar.begin), "to": moment(bar.end), "why": bar.why,
            "evidence": bar.evidence, "before": bar.before, "goes_on": bar.goes_on} for bar in lane.bars],
        "marks": [{
            "time": moment(mark.time), "kind": mark.kind, "text": mark.text, "phase": mark.phase, "severity": mark.severity,
            "detection": mark.detection, "count": mark.count} for mark in lane.marks],
    }
