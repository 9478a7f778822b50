"""A test alert: the agent of a host is asked to provoke a harmless effect, which is then followed hop by hop until it left."""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections import OrderedDict, deque
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from modelward_collector import local_socket
from modelward_collector.settings import CollectorSettings
from modelward_collector.web import outputs_status
from modelward_collector.web.api import failed, problem
from modelward_collector.web.store import Store, StoreError

PAUSE_S = 2.0
"""Between two tests of one host."""

MOST_A_MINUTE = 60
MOST_HOSTS = 1000

_ID = re.compile(r"[0-9a-f]{16}")

_HOST = "SELECT silent, last_seen FROM hosts WHERE host_name = {host:String} ORDER BY last_seen DESC LIMIT 1"

_EVENT = """SELECT time, agent_id FROM events_raw
WHERE host_name = {host:String} AND event_name = 'canary' AND endsWith(process_command_line, {id:String})
AND batch_time > now64(9, 'UTC') - INTERVAL 1 DAY ORDER BY time LIMIT 1"""

_DETECTION = """SELECT detection_id, detected_at, stored_at, severity, sentence, silenced_by FROM detections
WHERE host_name = {host:String} AND event_name = 'canary' AND endsWith(process_command_line, {id:String})
AND stored_at > now64(9, 'UTC') - INTERVAL 1 DAY ORDER BY stored_at LIMIT 1"""


class TestAlerts:
    """The two addresses under ``/api/v1/hosts/{host}/test-alert``."""

    __test__ = False

    def __init__(self, settings: CollectorSettings, store: Store) -> None:
        self._settings = settings
        self._store = store
        self._last: OrderedDict[str, float] = OrderedDict()
        self._latest: deque[float] = deque(maxlen=MOST_A_MINUTE)

    async def begin(self, request: Request) -> Response:
        """``POST``: ask the host's agents. The answer names the test, and to whom it was sent when."""
        host = request.path_params["host"]
        if (wait := self._wait(host)) > 0:
            return problem(f"Not sent: there are too many test alerts; the next may come in {wait:.0f} seconds.", 429)
        id = secrets.token_hex(8)
        answers = await self._ask({"host": host, "test_alert": id})
        sent = [one for answer in answers if answer for one in answer.get("sent", ())]
        if not sent:
            return await self._away(host, receivers=any(answer is not None for answer in answers))
        return _json({"id": id, "host": host, "sent": sent, "outputs": outputs_status.configured(self._settings)})

    async def follow(self, request: Request) -> Response:
        """``GET``: how far a test has come. What is not known yet is null or empty."""
        host, id = request.path_params["host"], request.path_params["id"]
        if not _ID.fullmatch(id):
            return problem("A test alert is named by 16 hex digits.", 400)
        parameters = {"host": host, "id": id}
        try:
            answers, events, detections = await asyncio.gather(
                self._ask({"host": host, "answers": id}), self._store.select(_EVENT, parameters),
                self._store.select(_DETECTION, parameters))
        except StoreError as e:
            return failed(e)
        detection = detections.rows[0] if detections.rows else None
        return _json({
            "answers": [one for answer in answers if answer for one in answer.get("answers", ())],
            "event": events.rows[0] if events.rows else None,
            "detection": detection,
            "outputs": await outputs_status.outcome(self._settings, detection["detection_id"]) if detection else [],
        })

    async def _ask(self, question: dict[str, Any]) -> list[dict[str, Any] | None]:
        sockets = (self._settings.folder.receiver_socket(index) for index in range(self._settings.receivers))
        return await asyncio.gather(*(local_socket.ask(path, question) for path in sockets))

    async def _away(self, host: str, *, receivers: bool) -> Response:
        """Why nobody could be asked."""
        if not receivers:
            return problem("Not sent: the receivers do not answer; they may be starting. The collector's log says more.", 503)
        try:
            known = (await self._store.select(_HOST, {"host": host})).rows
        except StoreError as e:
            return failed(e)
        if not known:
            return problem("Not sent: no agent of this host was ever seen; 'modelward hosts' shows those that were.", 404)
        heard = f"its last word came {known[0]['last_seen']}"
        if known[0]["silent"]:
            sentence = f"the agent is silent, {heard}. See whether the host is up and modelward-agent runs on it."
        else:
            sentence = f"the agent is not connected, {heard}. Its log says more: 'journalctl -u modelward-agent' on that host."
        return problem(f"Not sent: {sentence}", 409)

    def _wait(self, host: str) -> float:
        """Seconds until another test of this host is allowed; 0: now, and it counts."""
        now = time.monotonic()
        wait = self._last.get(host, -PAUSE_S) + PAUSE_S - now
        if len(self._latest) == MOST_A_MINUTE:
            wait = max(wait, self._latest[0] + 60 - now)
        if wait > 0:
            return max(1.0, wait)
        self._latest.append(now)
        self._last[host] = now
        self._last.move_to_end(host)
        while len(self._last) > MOST_HOSTS:
            self._last.popitem(last=False)
        return 0


def _json(found: dict[str, Any]) -> Response:
    return JSONResponse(found, headers={"cache-control": "no-store"})
