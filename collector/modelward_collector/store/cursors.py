"""How far each output has read the detections, in the order in which they were stored."""

from __future__ import annotations

import re
import secrets
import time
from typing import TYPE_CHECKING

from modelward_proto.v1.store_pb2 import AdvanceRequest

from modelward_collector.store.encode import timestamp
from modelward_collector.store.engine import insert_json, rows
from modelward_collector.store.interface import WriteRefused

if TYPE_CHECKING:
    from chdb.state.sqlitelike import Connection

MOST = 100
"""Outputs that may have a cursor."""

LATEST_NS = 9_214_646_400 * 10**9
"""2262-01-01: later detections are stored behind it, and the engine's times end a few months later."""


class Cursors:
    """Writes cursors: the last one given for an output is the one that counts. For one thread alone."""

    def __init__(self) -> None:
        self._last_ns = 0

    def advance(self, connection: Connection, request: AdvanceRequest) -> None:
        """Write one; durable on return.

        Raises:
            WriteRefused: its name or time cannot be right.
            EngineError: the engine cannot write it now.
        """
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", request.output):
            raise WriteRefused("The name of an output has up to 64 letters, digits, dots, dashes and underscores.")
        if not 0 <= request.stored_at_ns <= LATEST_NS or len(request.detection_id) > 64:
            raise WriteRefused("That is no place among the detections.")
        known = rows(connection, "SELECT output, toUnixTimestamp64Nano(at) FROM modelward.outputs_raw FINAL")
        if len(known) >= MOST and request.output not in {name for name, _ in known}:
            raise WriteRefused(f"At most {MOST} outputs can have a cursor.")
        self._last_ns = max(time.time_ns(), self._last_ns + 1, *(int(at) + 1 for _, at in known))
        insert_json(connection, "outputs_raw", [{
            "output": request.output, "stored_at": timestamp(request.stored_at_ns), "detection_id": request.detection_id,
            "at": timestamp(self._last_ns)}], secrets.token_hex(16))
