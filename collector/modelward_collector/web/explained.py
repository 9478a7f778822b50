"""``GET /api/v1/detections/{id}/explain``: one detection in words, for the page and the command."""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from modelward_collector.explain.gather import NotFound, gather
from modelward_collector.explain.sections import explanation
from modelward_collector.web.api import failed, problem
from modelward_collector.web.rules_status import RulesStatus
from modelward_collector.web.store import Store, StoreError


async def explain(request: Request) -> Response:
    """The explanation as JSON: :class:`~modelward_collector.explain.document.Explanation`."""
    store: Store = request.app.state.store
    rules: RulesStatus = request.app.state.rules
    try:
        facts = await gather(store, request.path_params["id"])
    except NotFound as e:
        return problem(str(e), 404)
    except StoreError as e:
        return failed(e)
    # The rule is asked again of the event, which is work for a thread.
    made = await asyncio.to_thread(explanation, facts, rules.rule(facts.detection["rule_id"]))
    return JSONResponse(made.as_json(), headers={"cache-control": "no-store"})
