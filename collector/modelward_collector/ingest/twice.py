"""Two agents with one identity, made an event and an alert: once a day for each, however often their streams take turns."""

from __future__ import annotations

import asyncio
import json
import logging
import time

from modelward_proto.v1.store_pb2 import SelectRequest

from modelward_collector.ingest.judging import Judging
from modelward_collector.ingest.own_events import number_of, own_batch, twice
from modelward_collector.ingest.stream import Streams
from modelward_collector.store.twins import CLONED, SHARED

_log = logging.getLogger(__name__)

PERIOD_S = 5.0
DAY_NS = 86_400 * 10**9
_TWICE = """SELECT host_name, agent_id FROM hosts_raw FINAL
WHERE (has(problems, {cloned:String}) OR has(problems, {shared:String})) AND connected LIMIT 1000"""


class Twice:
    """Looks at what the store noticed, in one receiver of a collector."""

    def __init__(self, streams: Streams, judging: Judging) -> None:
        self._streams = streams
        self._judging = judging
        self._told: set[int] = set()

    async def watch(self) -> None:
        """Never returns."""
        while True:
            await asyncio.sleep(PERIOD_S)
            try:
                await self.look()
            except Exception:
                _log.exception("looking for agents with one identity failed")

    async def look(self) -> None:
        """Look once."""
        reply = await self._streams.link.select(SelectRequest(
            sql=_TWICE, parameters={"cloned": CLONED, "shared": SHARED}, format="JSONCompactEachRow"))
        if reply is None or reply.error:
            return
        now = time.time_ns()
        found = {number_of("twice", host, agent, now // DAY_NS): (host, agent)
                 for host, agent in map(json.loads, reply.data.splitlines())}
        for number in found.keys() - self._told:
            host, agent = found[number]
            _log.warning("two agents use one identity", extra={"host": host, "agent": agent})
            await self._streams.link.append(
                await own_batch(self._judging, host, bytes.fromhex(agent), number, now, [twice()]))
        self._told = set(found)
