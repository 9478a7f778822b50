"""What the store knows around one detection. All queries are bounded in rows, and by host and time or an index.

A detection outlives its events (they have a time to live of their own), a rule may have changed since, and a host's list of
hooks is that of now: what is missing stays empty here, and is said to be missing in the explanation.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from modelward_proto.fields import STORED

from modelward_collector.web.filters import Query, rows_by_name
from modelward_collector.web.store import Rows

Row = dict[str, Any]

MAX_ANCESTORS = 12
NEAR_NS = 30 * 10**9
"""How far before and after the detection the same workload is looked at."""
LOSS_NS = 600 * 10**9
"""How far around the detection losses of its host are looked for."""
AROUND = 8
"""Rows shown before, and after."""

_ID = re.compile(r"[0-9a-f]{6,32}", re.ASCII)

_EVENT = ", ".join(f.column for f in STORED)
_SHORT = (
    "time, event_name, event_outcome, count, process_pid, process_entity_id, process_parent_entity_id, process_chain, "
    "process_executable_path, process_executable_class, process_command_line, process_entry, file_path, file_class, file_access, "
    "destination_address, destination_port, destination_class, lifecycle_phase, lifecycle_scope, lifecycle_from, "
    "lifecycle_trigger, lifecycle_detail, lifecycle_evidence, process_exit_code, process_exit_signal, model_id, loss_kind, "
    "loss_hop"
)
_TELLING = (
    "event_name IN ('exec', 'connect', 'listen', 'exit', 'lifecycle') OR (event_name = 'file_open' AND "
    "((file_access != 'read' AND file_class NOT IN ('shm', 'device', 'gpu_device', 'proc')) "
    "OR file_class IN ('credential', 'cloud_credential', 'runtime_socket')))"
)
_WHEN = "fromUnixTimestamp64Nano({%s:Int64}, 'UTC')"


class Asks(Protocol):
    """A store that runs our own SQL."""

    async def select(self, sql: str, parameters: Mapping[str, str] | None = None, *, max_rows: int = 0) -> Rows: ...


class NotFound(Exception):
    """No detection has this id, or several begin so; the message is for the person who asked."""


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything around one detection; lists oldest first."""

    detection: Row
    events: Sequence[Row]
    """The rows that made the rule match, as far as they are still stored."""
    ancestors: Sequence[Row]
    """How each process of the chain came to be, the root first, the actor last."""
    lifecycle: Sequence[Row]
    """Transitions of the model instance and of the workload's first process."""
    before: Sequence[Row]
    after: Sequence[Row]
    related: Sequence[Row]
    """Other detections of the same process tree or the same load."""
    host: Row | None
    losses: Sequence[Row]
    identity: Row | None
    """The model of the load that it happened in, else of the load that its process came from."""
    fleet: Row | None
    """How often and where the file with the same digest was loaded."""


def nanoseconds(time: str) -> int:
    """Exact nanoseconds since 1970 of an RFC 3339 time in UTC with up to nine decimals, as the store gives it."""
    seconds, _, decimals = time.removesuffix("Z").partition(".")
    whole = int(datetime.fromisoformat(seconds).replace(tzinfo=UTC).timestamp())
    return whole * 10**9 + int(decimals.ljust(9, "0")[:9] or 0)


async def detection_of(store: Asks, name: str) -> Row:
    """A detection by its id, or by the start of it.

    Raises:
        NotFound: there is none, or more than one.
    """
    if not _ID.fullmatch(name):
        raise NotFound(
            "An id of a detection is 32 digits of 0-9 and a-f, of which the first 6 or more are enough; "
            "'modelward detections' shows them."
        )
    condition = "detection_id = {id:String}" if len(name) == 32 else "startsWith(detection_id, {id:String})"
    found = (await store.select(f"SELECT * FROM detections WHERE {condition} ORDER BY time LIMIT 3", {"id": name})).rows
    if not found:
        raise NotFound(f"No detection has an id that begins with {name}. It may have gone with its time to live.")
    if len(found) > 1:
        raise NotFound(f"More than one detection has an id that begins with {name}: give more of its digits.")
    return found[0]


async def gather(store: Asks, name: str) -> Facts:
    """Everything around a detection.

    Raises:
        NotFound: no such detection.
        StoreError: the store is away.
    """
    detection = await detection_of(store, name)
    at = nanoseconds(detection["time"])
    events = await _events(store, detection)
    actor = events[-1] if events else detection
    ancestors, lifecycle, (before, after) = await asyncio.gather(
        _ancestors(store, detection, actor, at),
        _lifecycle(store, detection, at),
        _around(store, detection, at),
    )
    related, host, losses, identity = await asyncio.gather(
        _related(store, detection),
        _one(
            store,
            "SELECT * FROM hosts WHERE host_name = {host:String} ORDER BY last_seen DESC LIMIT 1",
            host=detection["host_name"],
        ),
        _losses(store, detection, at),
        identity_of(store, detection),
    )
    return Facts(
        detection=detection,
        events=events,
        ancestors=ancestors,
        lifecycle=lifecycle,
        before=before,
        after=after,
        related=related,
        host=host,
        losses=losses,
        identity=identity,
        fleet=await _fleet(store, identity),
    )


async def _one(store: Asks, sql: str, **parameters: str) -> Row | None:
    rows = (await store.select(sql, parameters)).rows
    return rows[0] if rows else None


async def _events(store: Asks, detection: Row) -> list[Row]:
    """The matched rows; the host and a span of time around them let the engine skip all others."""
    if not detection["events"]:
        return []
    at = nanoseconds(detection["time"])
    query = Query()
    query.where("host_name = {host:String}", host=detection["host_name"])
    query.where(f"time >= {_WHEN % 'since'} AND time <= {_WHEN % 'until'}", since=at - 86_400 * 10**9, until=at)
    rows_by_name(query, ",".join(detection["events"]))
    return (await store.select(query.sql(f"SELECT {_EVENT} FROM events", "time, batch, row", 50), query.parameters)).rows


async def _ancestors(store: Asks, detection: Row, actor: Row, at: int) -> list[Row]:
    """From the actor up to the workload's first process: what each was last known as before it did anything further."""
    found: list[Row] = []
    key, root = actor.get("process_entity_id", ""), detection["process_root_id"]
    while key and len(found) < MAX_ANCESTORS:
        row = await _one(
            store,
            f"SELECT {_SHORT} FROM events WHERE host_name = {{host:String}} AND process_entity_id = {{key:String}} "
            f"AND event_name IN ('exec', 'fork') AND time <= {_WHEN % 'at'} ORDER BY time DESC, event_name = 'exec' DESC LIMIT 1",
            host=detection["host_name"],
            key=key,
            at=str(at),
        )
        if row is None:
            break
        found.append(row)
        key = "" if key == root else row["process_parent_entity_id"]
    return found[::-1]


async def _lifecycle(store: Asks, detection: Row, at: int) -> list[Row]:
    looks: list[tuple[str, dict[str, str]]] = [
        ("model_instance = {instance:UInt64}", {"instance": instance})
        for instance in {str(detection["model_instance"]), str(detection["lifecycle_origin_instance"])} - {"0"}
    ]
    if detection["process_root_id"]:
        looks.append(("process_entity_id = {root:String}", {"root": detection["process_root_id"]}))
    found: dict[tuple[str, ...], Row] = {}
    # One by one: of an OR the engine uses no index.
    for condition, parameters in looks:
        rows = await store.select(
            f"SELECT {_SHORT} FROM events WHERE host_name = {{host:String}} AND {condition} AND event_name = 'lifecycle' "
            f"AND time <= {_WHEN % 'until'} ORDER BY time DESC LIMIT 40",
            {"host": detection["host_name"], "until": str(at + NEAR_NS), **parameters},
        )
        for row in rows.rows:
            found[row["time"], row["lifecycle_from"], row["lifecycle_phase"], row["lifecycle_trigger"]] = row
    return sorted(found.values(), key=lambda row: str(row["time"]))


async def _around(store: Asks, detection: Row, at: int) -> tuple[list[Row], list[Row]]:
    """What the same workload did just before and just after that tells something: no reading of libraries."""
    if not detection["process_root_id"]:
        return [], []
    sides: list[list[Row]] = []
    for since, until, order in ((at - NEAR_NS, at - 1, "DESC"), (at + 1, at + NEAR_NS, "ASC")):
        rows = await store.select(
            f"SELECT {_SHORT} FROM events WHERE host_name = {{host:String}} AND process_root_id = {{root:String}} "
            f"AND time >= {_WHEN % 'since'} AND time <= {_WHEN % 'until'} AND ({_TELLING}) ORDER BY time {order} LIMIT {AROUND}",
            {"host": detection["host_name"], "root": detection["process_root_id"], "since": str(since), "until": str(until)},
        )
        sides.append(rows.rows)
    return sides[0][::-1], sides[1]


async def _related(store: Asks, detection: Row) -> list[Row]:
    if not detection["process_root_id"] and str(detection["lifecycle_origin_instance"]) == "0":
        return []
    rows = await store.select(
        "SELECT time, detection_id, severity, rule_title, sentence FROM detections WHERE host_name = {host:String} "
        "AND detection_id != {id:String} AND ((process_root_id != '' AND process_root_id = {root:String}) "
        "OR (lifecycle_origin_instance != 0 AND lifecycle_origin_instance = {origin:UInt64})) ORDER BY time LIMIT 12",
        {
            "host": detection["host_name"],
            "id": detection["detection_id"],
            "root": detection["process_root_id"],
            "origin": str(detection["lifecycle_origin_instance"]),
        },
    )
    return rows.rows


async def _losses(store: Asks, detection: Row, at: int) -> list[Row]:
    rows = await store.select(
        "SELECT loss_hop, loss_kind, sum(count) AS lost, max(time) AS last FROM events WHERE host_name = {host:String} "
        f"AND time >= {_WHEN % 'since'} AND time <= {_WHEN % 'until'} AND event_name = 'loss' "
        "GROUP BY loss_hop, loss_kind ORDER BY lost DESC LIMIT 20",
        {"host": detection["host_name"], "since": str(at - LOSS_NS), "until": str(at + LOSS_NS)},
    )
    return rows.rows


async def identity_of(store: Asks, detection: Row) -> Row | None:
    """Which model a detection is about, as exceptions see it: of its own load, else of the load that its process came from."""
    if detection["model_id"]:
        return detection
    return await _one(
        store,
        "SELECT model_id, model_digest, model_format, model_path FROM bindings WHERE host_name = {host:String} "
        "AND model_instance = {instance:UInt64} AND model_instance != 0 ORDER BY time DESC LIMIT 1",
        host=detection["host_name"],
        instance=str(detection["lifecycle_origin_instance"]),
    )


async def _fleet(store: Asks, identity: Row | None) -> Row | None:
    if identity is None or not identity["model_digest"]:
        return None
    return await _one(
        store,
        "SELECT uniqExact(host_name) AS hosts, uniqExact(host_name, model_instance) AS instances, min(time) AS first_loaded "
        "FROM bindings FINAL WHERE model_digest = {digest:String} HAVING count() > 0",
        digest=identity["model_digest"],
    )
