"""Hosts that fell silent: a dead agent says nothing, so the collector must. One event and its detections for each silence.

The event is named after the last word of the host, so that two collectors, or one that restarted, make the same one.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from datetime import UTC, datetime

from modelward_proto.v1.store_pb2 import SelectRequest

from modelward_collector import metrics
from modelward_collector.ingest.judging import Judging
from modelward_collector.ingest.own_events import own_batch, silent
from modelward_collector.ingest.stream import Streams

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
        # An open stream proves little: the agent may hang while its transport still answers pings.
        heard = {(host, agent.hex()) for (host, agent), stream in self._streams.open.items()
                 if now - stream.heard < self._after_s}
        for (host, agent), last_ms in silent.items():
            if (host, agent) not in heard and self._told.get((host, agent)) != last_ms:
                await self._tell(host, agent, last_ms)
                self._told[host, agent] = last_ms

    async def _tell(self, host: str, agent: str, last_ms: int) -> None:
        last_word = datetime.fromtimestamp(last_ms / 1000, UTC).isoformat(timespec="milliseconds")
        _log.warning("a host is silent", extra={"host": host, "agent": agent, "last_word": last_word})
        at_ns = last_ms * 10**6 + self._after_s * 10**9
        await self._streams.link.append(await own_batch(
            self._judging, host, bytes.fromhex(agent), last_ms, at_ns, [silent()]))
