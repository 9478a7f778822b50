"""The web process's side of ``modelward.v1.Store``: rows of trusted SQL, and people's SQL through the
gate.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import grpc
from modelward_proto.v1 import store_pb2, store_pb2_grpc

_OPTIONS = (
    ("grpc.max_receive_message_length", 128 << 20),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.initial_reconnect_backoff_ms", 100),
)


class StoreError(Exception):
    """A query gave no rows. ``kind`` is SelectReply.kind: refused, syntax, limit or unavailable."""

    def __init__(self, sentence: str, kind: str) -> None:
        super().__init__(sentence)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Rows:
    """A result: column names, and rows as JSON objects with 64-bit numbers as strings and times as RFC 3339
    UTC.
    """

    columns: list[str]
    rows: list[dict[str, Any]]


class Store:
    """One channel to the store process. It reconnects by itself; while the store is away, calls fail at
    once.
    """

    def __init__(self, target: str) -> None:
        self._target = target

    def open(self) -> None:
        """Make the channel: in the event loop that will use it."""
        self._channel = grpc.aio.insecure_channel(self._target, options=_OPTIONS)
        self._stub = store_pb2_grpc.StoreStub(self._channel)

    async def select(
        self, sql: str, parameters: Mapping[str, str] | None = None, *, max_rows: int = 0, seconds: float = 20
    ) -> Rows:
        """Rows of a query of ours.

        Raises:
            StoreError: the store is away, or the query failed.
        """
        reply = await self._call(self._stub.Select, sql, parameters or {}, "JSON", max_rows, seconds)
        try:
            return _rows(reply)
        except ValueError as e:
            raise StoreError("The store gave an answer that cannot be read.", "unavailable") from e

    async def arrow(self, sql: str, parameters: Mapping[str, str], *, max_rows: int) -> bytes:
        """Rows of a query of ours as an Arrow stream.

        Raises:
            StoreError: the store is away, or the query failed.
        """
        return await self._call(self._stub.Select, sql, parameters, "ArrowStream", max_rows, 40)

    async def ask(
        self, sql: str, *, form: str = "JSON", max_rows: int = 0, parameters: Mapping[str, str] | None = None
    ) -> bytes:
        """The result of a person's query, as the engine writes it in format ``form``.

        Raises:
            StoreError: the gate refused it, it failed, or the store is away.
        """
        return await self._call(self._stub.Ask, sql, parameters or {}, form, max_rows, 40)

    async def advance(self, output: str, stored_at_ns: int, detection_id: str) -> None:
        """Make durable how far an output has read.

        Raises:
            StoreError: the store is away, or refused it.
        """
        await self._write(
            self._stub.Advance,
            store_pb2.AdvanceRequest(output=output, stored_at_ns=stored_at_ns, detection_id=detection_id),
        )

    async def make_exception(self, request: store_pb2.ExceptionRequest) -> None:
        """Make an exception, or with ``revoked`` end one.

        Raises:
            StoreError: the store is away, or refused it.
        """
        await self._write(self._stub.Except, request)

    async def alive(self) -> bool:
        """Whether the store answers within two seconds."""
        try:
            await self.select("SELECT 1", seconds=2)
        except StoreError:
            return False
        return True

    async def close(self) -> None:
        """End the channel and the calls on it."""
        await self._channel.close(None)

    async def _write(self, method: Any, request: Any) -> None:
        try:
            reply = await method(request, timeout=10)
        except grpc.aio.AioRpcError as e:
            raise StoreError("The store does not answer; it may be starting.", "unavailable") from e
        if reply.error:
            raise StoreError(reply.error, "refused")

    async def _call(
        self, method: Any, sql: str, parameters: Mapping[str, str], form: str, max_rows: int, seconds: float
    ) -> bytes:
        request = store_pb2.SelectRequest(sql=sql, parameters=parameters, format=form, max_rows=max_rows)
        started = time.monotonic()
        try:
            reply = await method(request, timeout=seconds)
        except grpc.aio.AioRpcError as e:
            if e.code() == grpc.StatusCode.DEADLINE_EXCEEDED:
                took = time.monotonic() - started
                raise StoreError(f"The store gave no answer within {took:.0f} seconds.", "limit") from e
            raise StoreError("The store does not answer; it may be starting.", "unavailable") from e
        if reply.error or reply.kind:
            raise StoreError(reply.error or "The store gave no reason.", reply.kind or "unavailable")
        data: bytes = reply.data
        return data


def _rows(data: bytes) -> Rows:
    if not data:
        return Rows([], [])
    document = json.loads(data)
    columns = [column["name"] for column in document["meta"]]
    rows: list[dict[str, Any]] = document["data"]
    for column in document["meta"]:
        name, kind = column["name"], column["type"]
        if "DateTime" in kind and "Array" not in kind:
            for row in rows:
                row[name] = rfc3339(row[name])
        elif kind in ("UInt64", "Int64"):
            for row in rows:
                row[name] = str(row[name])
    return Rows(columns, rows)


def rfc3339(value: str | None) -> str | None:
    """The engine's ``2026-11-25 07:00:00.123`` (always UTC here) as RFC 3339."""
    return value if not value or "T" in value else value.replace(" ", "T") + "Z"
