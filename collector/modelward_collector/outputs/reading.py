"""Detections in the order in which the store took them, and the durable mark of how far an output has read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from modelward_collector.outputs.unsettled import MOST
from modelward_collector.web.store import Store

PAGE = 100

_PAGE = f"""SELECT *, toUnixTimestamp64Nano(stored_at) AS stored_ns FROM detections
WHERE stored_at >= fromUnixTimestamp64Nano({{at:Int64}}, 'UTC')
AND (stored_at, detection_id) > (fromUnixTimestamp64Nano({{at:Int64}}, 'UTC'), {{id:String}})
ORDER BY stored_at, detection_id LIMIT {PAGE}"""

_THESE = """SELECT *, toUnixTimestamp64Nano(stored_at) AS stored_ns FROM detections
WHERE detection_id IN (SELECT arrayJoin(splitByChar(',', {ids:String}))) ORDER BY stored_at, detection_id"""

_UNSETTLED = f"""SELECT detection_id AS id FROM detections
WHERE stored_at > now64(9, 'UTC') - INTERVAL 1 DAY AND silenced_by != ''
AND (stored_at, detection_id) <= (fromUnixTimestamp64Nano({{at:Int64}}, 'UTC'), {{id:String}})
AND if(model_instance != 0, model_id = '' AND model_digest = '', lifecycle_origin_instance != 0 AND lifecycle_origin_model = '')
ORDER BY stored_at DESC, detection_id DESC LIMIT {MOST}"""

_MARK = "SELECT toUnixTimestamp64Nano(stored_at) AS at, detection_id AS id FROM outputs_raw FINAL WHERE output = {output:String}"

_LATEST = """SELECT toUnixTimestamp64Nano(stored_at) AS at, detection_id AS id FROM detections_raw
WHERE stored_at < fromUnixTimestamp64Nano({before:Int64}, 'UTC') ORDER BY stored_at DESC, detection_id DESC LIMIT 1"""

_EXCEPTIONS = """SELECT DISTINCT rule_name, executable_path, host_name FROM exceptions_raw FINAL
WHERE NOT revoked AND expires > now64(9, 'UTC')"""


class Mark(NamedTuple):
    """The last detection that was dealt with."""

    stored_ns: int
    detection_id: str


BEGINNING = Mark(0, "")


@dataclass(frozen=True, slots=True)
class Detections:
    """What one output reads.

    Every method raises :class:`~modelward_collector.web.store.StoreError` when the store is away.
    """

    store: Store
    output: str

    async def mark(self) -> Mark | None:
        """Where an earlier run stopped; None when there was none."""
        return _first((await self.store.select(_MARK, {"output": self.output}, seconds=10)).rows)

    async def latest(self, before_ns: int) -> Mark:
        """The newest detection that was stored before a time."""
        return _first((await self.store.select(_LATEST, {"before": str(before_ns)}, seconds=10)).rows) or BEGINNING

    async def after(self, mark: Mark) -> list[dict[str, Any]]:
        """The next detections, at most PAGE."""
        return (await self.store.select(_PAGE, {"at": str(mark.stored_ns), "id": mark.detection_id}, seconds=20)).rows

    async def these(self, ids: list[str]) -> list[dict[str, Any]]:
        """Those of some detections that are still kept."""
        return (await self.store.select(_THESE, {"ids": ",".join(ids)}, seconds=20)).rows

    async def unsettled(self, mark: Mark) -> list[str]:
        """Detections up to a mark, the oldest first, that an exception covers as long as their model is unknown."""
        given = {"at": str(mark.stored_ns), "id": mark.detection_id}
        return [row["id"] for row in reversed((await self.store.select(_UNSETTLED, given, seconds=20)).rows)]

    async def save(self, mark: Mark) -> None:
        """Make the mark durable."""
        await self.store.advance(self.output, mark.stored_ns, mark.detection_id)

    async def excepted(self) -> set[tuple[str, str, str]]:
        """Rule, executable and host (empty: every host) of the exceptions in force."""
        rows = (await self.store.select(_EXCEPTIONS, seconds=10)).rows
        return {(row["rule_name"], row["executable_path"], row["host_name"]) for row in rows}


def mark_of(row: Mapping[str, Any]) -> Mark:
    """The mark that stands behind a row."""
    return Mark(int(row["stored_ns"]), row["detection_id"])


def awaits_identity(row: Mapping[str, Any]) -> bool:
    """Whether a model may still be bound to it, and with the model an exception."""
    if int(row["model_instance"]):
        return not row["model_id"] and not row["model_digest"]
    return bool(int(row["lifecycle_origin_instance"])) and not row["lifecycle_origin_model"]


def _first(rows: list[dict[str, Any]]) -> Mark | None:
    return Mark(int(rows[0]["at"]), rows[0]["id"]) if rows else None
