"""Exceptions over HTTP: what one would cover, making one, ending one.

One is made from a detection: its rule, its program and the digest of its model are what later detections must equal. Whoever
makes it sends back what the preview showed, so that nothing else is silenced than what a person has read.
"""

from __future__ import annotations

import json
import secrets
import time
from dataclasses import asdict, dataclass
from typing import Any

from modelward_proto.v1.store_pb2 import ExceptionRequest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from modelward_collector.explain.gather import NotFound, Row, detection_of
from modelward_collector.store.ddl.views import MODELS
from modelward_collector.web.api import bad, failed, problem
from modelward_collector.web.filters import BadFilter, lasting
from modelward_collector.web.store import Store, StoreError

MAX_BODY = 64 * 1024
DAYS = 7
"""How far back a preview counts what would have been covered."""

_DIGEST = f"""if(model_instance != 0, model_digest,
    dictGetOrDefault('{MODELS}', 'model_digest', (host_name, lifecycle_origin_instance), ''))"""
"""As the view ``detections`` has it: of the detection's own load, else of the load that its process came from."""


@dataclass(frozen=True, slots=True)
class Covers:
    """What a detection must equal to be silenced; an empty host is every host."""

    rule_name: str
    model_digest: str
    executable_path: str
    host_name: str


async def _covers(store: Store, detection: Row, all_hosts: bool) -> Covers:
    sql = f"SELECT {_DIGEST} AS digest FROM detections WHERE detection_id = {{id:String}} LIMIT 1"
    found = await store.select(sql, {"id": detection["detection_id"]})
    return Covers(
        rule_name=detection["rule_name"],
        model_digest=found.rows[0]["digest"] if found.rows else "",
        executable_path=detection["process_executable_path"],
        host_name="" if all_hosts else detection["host_name"],
    )


async def preview(request: Request) -> Response:
    """``GET /api/v1/exceptions/preview?detection=ID&all_hosts=1``: what would be silenced, and what it would have been so far."""
    store: Store = request.app.state.store
    all_hosts = request.query_params.get("all_hosts", "") in ("1", "true")
    try:
        detection = await detection_of(store, request.query_params.get("detection", ""))
        covers = await _covers(store, detection, all_hosts)
        counted = await store.select(
            f"""SELECT count() AS count, uniqExact(host_name) AS hosts, countIf(silenced_by != '') AS silenced FROM detections
            WHERE time > now64(9, 'UTC') - INTERVAL {DAYS} DAY AND rule_name = {{rule:String}}
            AND process_executable_path = {{path:String}} AND {_DIGEST} = {{digest:String}}
            AND ({{host:String}} = '' OR host_name = {{host:String}})""",
            {"rule": covers.rule_name, "path": covers.executable_path, "digest": covers.model_digest, "host": covers.host_name},
        )
    except NotFound as e:
        return problem(str(e), 404)
    except StoreError as e:
        return failed(e)
    answer = {
        "detection_id": detection["detection_id"],
        "covers": asdict(covers),
        "rule_title": detection["rule_title"],
        "model_id": detection["model_id"] or detection["lifecycle_origin_model"],
        "days": DAYS,
        **counted.rows[0],
        "notes": _notes(detection, covers),
    }
    return JSONResponse(answer, headers={"cache-control": "no-store"})


def _notes(detection: Row, covers: Covers) -> list[str]:
    """What a person should know before saving."""
    if not covers.executable_path:
        return ["It cannot be silenced: an exception names a program, and this detection has none."]
    notes: list[str] = []
    if not covers.model_digest:
        notes.append("No digest of a model is known for it, so it covers what is found of this program without a known model.")
        if str(detection["model_instance"]) != "0" or str(detection["lifecycle_origin_instance"]) != "0":
            notes.append("Its model may still be identified; from then on this exception covers it no more.")
    if detection["silenced_by"]:
        notes.append(f"Exception {detection['silenced_by']} covers this detection already.")
    return notes


async def make(request: Request) -> Response:
    """``POST /api/v1/exceptions`` with ``{"detection", "covers", "reason", "for", "author"}``: answers its id and end."""
    store: Store = request.app.state.store
    try:
        given = await _body(request)
        detection = await detection_of(store, given["detection"])
        covers = given["covers"]
        wanted = await _covers(store, detection, all_hosts=covers.get("host_name") == "")
        if covers != asdict(wanted):
            return problem("What would be silenced is not what was shown: look at it again before you save.", 409)
        made = ExceptionRequest(
            id=secrets.token_hex(8), **asdict(wanted), reason=given["reason"].strip(), author=given["author"],
            expires_ns=time.time_ns() + lasting(given["for"]),
        )
        await store.make_exception(made)
    except NotFound as e:
        return problem(str(e), 404)
    except BadFilter as e:
        return bad(e)
    except StoreError as e:
        return _refused(e)
    return JSONResponse({"id": made.id, "expires_ns": str(made.expires_ns)}, 201, {"cache-control": "no-store"})


async def revoke(request: Request) -> Response:
    """``DELETE /api/v1/exceptions/{id}?author=``: what it silenced shows again, at once."""
    store: Store = request.app.state.store
    made = ExceptionRequest(
        id=request.path_params["id"][:80], revoked=True, author=request.query_params.get("author", "")[:100]
    )
    try:
        await store.make_exception(made)
    except StoreError as e:
        return _refused(e)
    return JSONResponse({"id": made.id}, headers={"cache-control": "no-store"})


def _refused(error: StoreError) -> Response:
    """What the store refuses is the fault of the request."""
    return problem(str(error), 400) if error.kind == "refused" else failed(error)


async def _body(request: Request) -> dict[str, Any]:
    raw = b""
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > MAX_BODY:
            raise BadFilter(f"the body is longer than {MAX_BODY // 1024} KiB")
    try:
        given = json.loads(raw)
    except (ValueError, RecursionError) as e:
        raise BadFilter("the body is no JSON") from e
    if not isinstance(given, dict):
        raise BadFilter("the body is an object with detection, covers, reason and for")
    for name in ("detection", "reason", "for", "author"):
        if not isinstance(given.setdefault(name, ""), str):
            raise BadFilter(f"{name}: a text is wanted")
    if not isinstance(given.get("covers"), dict):
        raise BadFilter("covers: what 'exceptions/preview' answered is wanted")
    return given
