"""The way to the store process: tries until a batch is stored, and says when the store is away, so that agents wait."""

from __future__ import annotations

import asyncio
import logging
import random
import time

import grpc
from modelward_proto.v1 import store_pb2_grpc
from modelward_proto.v1.store_pb2 import (
    AppendReply,
    AppendRequest,
    HeldRequest,
    ReportRequest,
    SelectReply,
    SelectRequest,
)
from modelward_proto.v1.stream_pb2 import Range

from modelward_collector.store.interface import MAX_MESSAGE_BYTES

_log = logging.getLogger(__name__)

APPEND_TIMEOUT_S = 60.0
HELD_TIMEOUT_S = 15.0
REPORT_TIMEOUT_S = 10.0
PAUSE_AFTER_S = 1.0
"""A store away for less than this, such as one being restarted, is not worth pausing agents for."""

LAG_S = 4.0
"""A batch that waits longer than this for its answer means that the store lags."""

_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES), ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # A restarted store must be found at once, not after gRPC's own backoff of up to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.use_local_subchannel_pool", 1),
)


class StoreLink:
    """Client of the store process. One for each receiver."""

    def __init__(self, target: str) -> None:
        self._channel = grpc.aio.insecure_channel(target, options=list(_OPTIONS))
        self._stub = store_pb2_grpc.StoreStub(self._channel)
        self._failing_since: float | None = None
        self._reason = ""
        self._waiting: dict[int, float] = {}
        self._ticket = 0

    @property
    def accepts(self) -> bool:
        """Whether agents should send: the store answers, and without lagging."""
        now = time.monotonic()
        if self._failing_since is not None and now - self._failing_since > PAUSE_AFTER_S:
            return False
        oldest = next(iter(self._waiting.values()), now)
        return now - oldest < LAG_S

    async def append(self, request: AppendRequest) -> AppendReply:
        """Store one batch, however long it takes."""
        self._ticket += 1
        ticket = self._ticket
        self._waiting[ticket] = time.monotonic()
        try:
            pause = 0.05
            while True:
                try:
                    reply: AppendReply = await self._stub.Append(request, timeout=APPEND_TIMEOUT_S)
                except grpc.aio.AioRpcError as e:
                    self._failed(e)
                    await asyncio.sleep(pause * random.uniform(0.5, 1.0))
                    pause = min(pause * 2, 2.0)
                else:
                    self._worked()
                    return reply
        finally:
            del self._waiting[ticket]

    async def held(self, request: HeldRequest) -> list[Range]:
        """Which batches are stored, asked until the store answers."""
        pause = 0.05
        while True:
            try:
                reply = await self._stub.Held(request, timeout=HELD_TIMEOUT_S)
            except grpc.aio.AioRpcError as e:
                self._failed(e)
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))
                pause = min(pause * 2, 2.0)
            else:
                self._worked()
                return list(reply.held)

    async def report(self, request: ReportRequest) -> None:
        """Pass on an agent's word. Lost when the store is away: the next one, five seconds later, says the same and more."""
        try:
            await self._stub.Report(request, timeout=REPORT_TIMEOUT_S)
        except grpc.aio.AioRpcError as e:
            _log.debug("a report did not reach the store", extra={"error": e.details()})

    async def select(self, request: SelectRequest) -> SelectReply | None:
        """Run a query of ours; None when the store does not answer."""
        try:
            reply: SelectReply = await self._stub.Select(request, timeout=REPORT_TIMEOUT_S)
        except grpc.aio.AioRpcError:
            return None
        return reply

    async def close(self) -> None:
        """Close the channel."""
        await self._channel.close(None)

    def _failed(self, error: grpc.aio.AioRpcError) -> None:
        reason = error.details() or error.code().name
        if self._failing_since is None:
            self._failing_since = time.monotonic()
        if reason != self._reason:
            self._reason = reason
            _log.warning("the store takes no batches; they are kept and tried again", extra={"reason": reason})

    def _worked(self) -> None:
        if self._failing_since is not None:
            _log.info("the store takes batches again", extra={"after_s": round(time.monotonic() - self._failing_since, 1)})
        self._failing_since = None
        self._reason = ""
