"""Hosts that fell silent: a dead agent says nothing, so the collector must. One event and its detections for each silence.

The event is named after the last word of the host, so that two collectors, or one that restarted, make the same one.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time

import numpy as np
import pyarrow as pa
from modelward_proto.fields import EVENT_NAMES, STORED, Field, Kind
from modelward_proto.v1.store_pb2 import AppendRequest, SelectRequest

from modelward_collector import metrics
from modelward_collector.ingest.judging import Judging
from modelward_collector.ingest.stream import Streams
from modelward_collector.ingest.validate import STORED_SCHEMA
from modelward_collector.rules.judge import BatchName
from modelward_collector.store.names import OWN_EPOCH

_log = logging.getLogger(__name__)

PERIOD_S = 5.0
GRACE_S = 15.0
"""After the collector's or the store's own absence, agents have this long to be heard again, beside the usual time."""

FORGOTTEN_S = 7 * 86_400
"""A host silent for longer was told of long ago, or taken out of service."""

_SILENT = """SELECT host_name, agent_id, toUnixTimestamp64Milli(last_seen) FROM hosts_raw FINAL
WHERE last_seen < now64(3) - toIntervalSecond({silent:UInt32}) AND last_seen > now64(3) - toIntervalSecond({old:UInt32})
ORDER BY last_seen DESC LIMIT 10000"""


class Silence:
    """Looks for silent hosts every few seconds, in one receiver of a collector."""

    def __init__(self, streams: Streams, judging: Judging, silent_after_s: int) -> None:
        self._streams = streams
        self._judging = judging
        self._after_s = silent_after_s
        self._told: dict[tuple[str, str], int] = {}
        self._answering_since: float | None = None
        self._started = time.time()

    async def watch(self) -> None:
        """Never returns."""
        while True:
            await asyncio.sleep(min(PERIOD_S, self._after_s / 2))
            try:
                await self.look()
            except Exception:
                _log.exception("looking for silent hosts failed")

    async def look(self) -> None:
        """Look once."""
        reply = await self._streams.link.select(SelectRequest(
            sql=_SILENT, parameters={"silent": str(self._after_s), "old": str(FORGOTTEN_S)}, format="JSONCompactEachRow"))
        if reply is None or reply.error:
            self._answering_since = None
            return
        now = time.time()
        self._answering_since = self._answering_since or now
        silent = {(host, agent): int(last) for host, agent, last in map(json.loads, reply.data.splitlines())}
        metrics.SILENT_HOSTS.set(len(silent))
        self._told = {who: last for who, last in self._told.items() if silent.get(who) == last}
        heard_until = max(self._answering_since, self._started) + min(GRACE_S, self._after_s)
        if now < heard_until:
            return
        connected = {(host, agent.hex()) for host, agent in self._streams.open}
        for (host, agent), last_ms in silent.items():
            if (host, agent) not in connected and self._told.get((host, agent)) != last_ms:
                await self._tell(host, agent, last_ms)
                self._told[host, agent] = last_ms

    async def _tell(self, host: str, agent: str, last_ms: int) -> None:
        _log.warning("a host is silent", extra={"host": host, "agent": agent, "last_word": last_ms / 1000})
        at_ns = last_ms * 10**6 + self._after_s * 10**9
        events = silent_event(host, agent, last_ms, at_ns)
        judged = await self._judging.judge_own(events, BatchName(host, agent, OWN_EPOCH.hex(), last_ms))
        await self._streams.link.append(AppendRequest(
            agent_id=bytes.fromhex(agent), epoch=OWN_EPOCH, number=last_ms, batch_time_ns=at_ns, host=host,
            events=judged.events, detections=judged.detections, kinds={EVENT_NAMES[Kind.HOST_SILENT]: 1}))


def silent_event(host: str, agent: str, number: int, at_ns: int) -> pa.Table:
    """One row that says that a host is silent."""
    values: dict[str, object] = {
        "host_name": host, "agent_id": agent, "epoch": OWN_EPOCH.hex(), "batch": number, "row": 0, "batch_time": at_ns,
        "time": at_ns, "event_name": EVENT_NAMES[Kind.HOST_SILENT], "count": 1,
    }
    return pa.Table.from_arrays([_one(f, values) for f in STORED], schema=STORED_SCHEMA)


def _one(field: Field, values: dict[str, object]) -> pa.Array:
    if field.type == "closed":
        index = field.values.index(str(values.get(field.column, field.values[0])))
        return pa.DictionaryArray.from_arrays(pa.array(np.array([index], np.int8)), pa.array(field.values))
    zero: object = "" if field.type == "string" else False if field.type == "bool" else 0
    return pa.array([values.get(field.column, zero)], field.arrow)
