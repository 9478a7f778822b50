"""How the outputs stand: what their process says of itself, beside the marks in the store."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from modelward_collector import local_socket
from modelward_collector.outputs.address import shown
from modelward_collector.settings import CollectorSettings
from modelward_collector.web.api import as_json, failed
from modelward_collector.web.store import Rows, Store, StoreError

WEBHOOK = "webhook"
DOWN = "The outputs process does not answer; the collector's log says why."

_MARKS = "SELECT output, stored_at, at, behind FROM outputs"


def configured(settings: CollectorSettings) -> list[str]:
    """Names of the outputs that are set."""
    return [WEBHOOK] if settings.webhook_url else []


async def states(settings: CollectorSettings) -> list[dict[str, Any]]:
    """Of each output that is set: as :meth:`~modelward_collector.outputs.state.State.answer`; a problem when it is down."""
    if not settings.webhook_url:
        return []
    answer = await local_socket.ask(settings.folder.outputs_socket, {})
    if answer is None:
        return [{"output": WEBHOOK, "address": shown(settings.webhook_url), "problem": DOWN}]
    return list(answer["outputs"])


async def outcome(settings: CollectorSettings, detection_id: str) -> list[dict[str, Any]]:
    """What became of a detection at each output that is set."""
    if not settings.webhook_url:
        return []
    answer = await local_socket.ask(settings.folder.outputs_socket, {"detection": detection_id})
    if answer is None:
        return [{"output": WEBHOOK, "outcome": "", "at": 0.0, "problem": DOWN}]
    return list(answer["outputs"])


class OutputsStatus:
    """``GET /api/v1/outputs``."""

    def __init__(self, settings: CollectorSettings, store: Store) -> None:
        self._settings = settings
        self._store = store

    async def answer(self, request: Request) -> Response:
        """Each output that is set: where to, what is wrong, how many were delivered since its process started, how many wait."""
        try:
            marks = {row["output"]: row for row in (await self._store.select(_MARKS)).rows}
        except StoreError as e:
            return failed(e)
        rows = [
            {"output": state["output"], "address": state["address"], "problem": state["problem"],
             "delivered": state.get("delivered", 0), "silenced": state.get("silenced", 0),
             "set_aside": state.get("set_aside", 0), "behind": marks.get(state["output"], {}).get("behind", "0"),
             "reached": marks.get(state["output"], {}).get("stored_at", "")}
            for state in await states(self._settings)
        ]
        return as_json(Rows(list(rows[0]) if rows else [], rows))
