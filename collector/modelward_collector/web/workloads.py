"""Which workload a person means: by its id, the start of one, or a model that it loaded."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Any

from modelward_collector.web.store import Store

Row = dict[str, Any]

NEAR = 6
"""Names that are offered for a wrong one."""

MOST_OTHERS = 20




_BY_LOADS = """
SELECT host_name, workload_id, max(time) AS last, argMax(model_id, time) AS model,
    max(workload_id = {of:String}) AS exact,
    max(arrayExists(p -> startsWith(workload_id, concat(p, {of:String})), ['', 'container:', 'host:'])) AS begins,
    max(model_id = {of:String} OR (length({of:String}) >= 6 AND startsWith(model_digest, lower({of:String})))) AS by_model
FROM (SELECT host_name, workload_id, time, model_id, model_digest FROM bindings
    UNION ALL SELECT toString(host_name), workload_id, time, '', '' FROM detections_raw)
WHERE workload_id != '' AND ({host:String} = '' OR host_name = {host:String})
GROUP BY host_name, workload_id HAVING exact OR begins OR by_model ORDER BY exact DESC, begins DESC, last DESC LIMIT 200"""

_BY_EVENTS = """
SELECT host_name, workload_id, max(time) AS last FROM events_raw
WHERE time > now64(9, 'UTC') - INTERVAL 1 DAY AND event_name IN ('lifecycle', 'exec')
AND arrayExists(p -> startsWith(workload_id, concat(p, {of:String})), ['', 'container:', 'host:'])
AND ({host:String} = '' OR host_name = {host:String})
GROUP BY host_name, workload_id ORDER BY last DESC LIMIT 50"""

_NAMES = """
SELECT name FROM (
    SELECT workload_id AS name, max(time) AS last FROM bindings WHERE workload_id != '' GROUP BY name
    UNION ALL SELECT model_id AS name, max(time) AS last FROM bindings GROUP BY name
    UNION ALL SELECT workload_id AS name, max(time) AS last FROM detections_raw WHERE workload_id != '' GROUP BY name
) GROUP BY name ORDER BY max(last) DESC LIMIT 1000"""


class NoWorkload(Exception):
    """Nothing is called so, or several are; the message is for the person who asked."""


@dataclass(frozen=True, slots=True)
class Workload:
    """One workload of one host."""

    host: str
    id: str
    others: tuple[tuple[str, str], ...] = ()
    """Host and id of further ones that loaded the model that was asked for."""


async def find(store: Store, of: str, host: str) -> Workload:
    """The workload that ``of`` names; of a model the one that loaded it last.

    Raises:
        NoWorkload: none, or several.
        StoreError: the store is away.
    """
    asked = {"of": of, "host": host}
    found = (await store.select(_BY_LOADS, asked)).rows
    named = _named(found)
    if not named and not any(row["by_model"] for row in found):
        named = (await store.select(_BY_EVENTS, asked)).rows
        named = [row for row in named if row["workload_id"] == of] or named
    if len(named) == 1:
        return Workload(named[0]["host_name"], named[0]["workload_id"])
    if named:
        raise NoWorkload(_several(of, named))
    if found:
        first, *rest = found
        others = tuple((row["host_name"], row["workload_id"]) for row in rest[:MOST_OTHERS])
        return Workload(first["host_name"], first["workload_id"], others)
    raise NoWorkload(_nothing(of, host, [row["name"] for row in (await store.select(_NAMES)).rows]))


def _named(found: list[Row]) -> list[Row]:
    exact = [row for row in found if row["exact"]]
    return exact or [row for row in found if row["begins"]]


def _several(of: str, rows: list[Row]) -> str:
    if len({row["workload_id"] for row in rows}) == 1:
        hosts = ", ".join(row["host_name"] for row in rows[:NEAR])
        return f"Workload {of} is on several hosts ({hosts}): name one with --host."
    shown = ", ".join(f"{row['workload_id']} ({row['host_name']})" for row in rows[:NEAR])
    more = f", and {len(rows) - NEAR} more" if len(rows) > NEAR else ""
    return f"More than one workload begins with {of}: {shown}{more}."


def _nothing(of: str, host: str, names: list[str]) -> str:
    where = f" on host {host}" if host else ""
    near = difflib.get_close_matches(of, names, NEAR, 0.5)
    near += [name for name in names if of.lower() in name.lower() and name not in near][: NEAR - len(near)]
    wanted = "a workload, the start of its id, a model or the start of its digest"
    if near:
        return f"Nothing is called {of}{where}: {wanted} is wanted. Near it: {', '.join(near)}."
    recent = f" The latest: {', '.join(names[:3])}." if names else " No workload has loaded a model yet."
    return f"Nothing is called {of}{where}: {wanted} is wanted.{recent}"
