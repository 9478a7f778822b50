"""Exceptions: detections that an operator knows and does not want to be told of, for a while and for a reason.

They are rows of ``exceptions_raw``; the view ``detections`` looks up each detection's (``silenced_by``). Nothing is ever deleted
or marked, so a revoked exception shows at once what it had silenced.
"""

from __future__ import annotations

import re
import secrets
import time
from typing import TYPE_CHECKING

from modelward_proto.text import is_inert
from modelward_proto.v1.store_pb2 import ExceptionRequest

from modelward_collector.store.encode import timestamp
from modelward_collector.store.engine import insert_json, rows
from modelward_collector.store.interface import WriteRefused

if TYPE_CHECKING:
    from chdb.state.sqlitelike import Connection

MOST = 10_000
"""Exceptions that are neither expired nor revoked."""

LONGEST_DAYS = 366
_DAY_NS = 86_400 * 10**9

_LIMITS = {"rule_name": 200, "model_digest": 200, "executable_path": 20_000, "host_name": 255, "reason": 500, "author": 100}
_COLUMNS = ("rule_name", "model_digest", "executable_path", "host_name", "reason", "author")


def write(connection: Connection, request: ExceptionRequest) -> None:
    """Make an exception, or revoke one. Durable on return; doing the same twice changes nothing.

    Raises:
        WriteRefused: something in it is missing or wrong.
        EngineError: the engine cannot write it now.
    """
    if not re.fullmatch(r"[0-9a-f]{16}", request.id):
        raise WriteRefused("The id of an exception has 16 hex digits.")
    _check_texts(request)
    known = rows(connection, f"""SELECT {', '.join(_COLUMNS)}, toString(created), toString(expires), revoked,
        toUnixTimestamp64Nano(changed) FROM modelward.exceptions_raw FINAL WHERE id = {{id:String}}""", {"id": request.id})
    now = time.time_ns()
    if request.revoked:
        if not known:
            raise WriteRefused(f"There is no exception {request.id}.")
        *texts, created, expires, revoked, changed = known[0]
        if not revoked:
            # The later row counts, also when the clock was set back since.
            at = max(now, int(changed) + 1)
            _insert(connection, request.id, dict(zip(_COLUMNS, texts, strict=True)), created, expires, at, request.author)
        return
    texts_given = {name: str(getattr(request, name)) for name in _COLUMNS}
    if known:
        if list(texts_given.values()) == known[0][: len(_COLUMNS)] and not known[0][-2]:
            return
        raise WriteRefused(f"There is another exception {request.id} already.")
    _check_new(connection, request, now)
    _insert(connection, request.id, texts_given, timestamp(now), timestamp(request.expires_ns), now)


def _check_texts(request: ExceptionRequest) -> None:
    for name, limit in _LIMITS.items():
        value = str(getattr(request, name))
        if len(value) > limit:
            raise WriteRefused(f"{name} of an exception has at most {limit} characters.")
        if not is_inert(value):
            raise WriteRefused(f"{name} of an exception holds a character that cannot be shown.")


def _check_new(connection: Connection, request: ExceptionRequest, now: int) -> None:
    for name, wanted in (("rule_name", "the name of a rule"), ("executable_path", "the path of a program"),
                         ("reason", "a reason")):
        if not str(getattr(request, name)).strip():
            raise WriteRefused(f"An exception needs {wanted} ({name}).")
    if request.expires_ns <= now:
        raise WriteRefused("An exception must expire in the future.")
    if request.expires_ns > now + LONGEST_DAYS * _DAY_NS:
        raise WriteRefused(f"An exception lasts at most {LONGEST_DAYS} days.")
    [[active]] = rows(connection, """SELECT count() FROM modelward.exceptions_raw FINAL
        WHERE NOT revoked AND expires > now64(9, 'UTC')""")
    if int(active) >= MOST:
        raise WriteRefused(f"There are {MOST} exceptions in force already: revoke some first.")


def _insert(connection: Connection, id: str, texts: dict[str, str], created: str, expires: str, now: int,
            revoked_by: str | None = None) -> None:
    row = {"id": id, **texts, "created": created, "expires": expires, "revoked": revoked_by is not None,
           "revoked_by": revoked_by or "", "changed": timestamp(now)}
    insert_json(connection, "exceptions_raw", [row], secrets.token_hex(16))
