"""The store process: ``modelward.v1.Store`` on a unix socket, in front of the one engine.

It is a process of its own, so that a crash or a stall of the engine never touches the agents' streams.
Started by the supervisor: ``python -m modelward_collector.store.process``.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import grpc
import pyarrow as pa
from modelward_proto.v1 import store_pb2_grpc
from modelward_proto.v1.store_pb2 import (
    AdvanceRequest,
    AppendReply,
    AppendRequest,
    BackupRequest,
    ExceptionRequest,
    HeldReply,
    HeldRequest,
    ReportReply,
    ReportRequest,
    SelectReply,
    SelectRequest,
    WriteReply,
)

from modelward_collector import child
from modelward_collector.settings import CollectorSettings
from modelward_collector.store.ddl.migrations import MigrationError
from modelward_collector.store.embedded import EmbeddedStore
from modelward_collector.store.engine import EngineError
from modelward_collector.store.interface import MAX_MESSAGE_BYTES, Store, StoreUnavailable

_log = logging.getLogger(__name__)

STOP_S = 10.0

Request = TypeVar("Request")
Reply = TypeVar("Reply")
Context = grpc.aio.ServicerContext[Any, Any]


class StoreService(store_pb2_grpc.StoreServicer):  # type: ignore[misc]
    """Puts a :class:`Store` on the wire: UNAVAILABLE means, not stored and worth another try."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def Append(self, request: AppendRequest, context: Context) -> AppendReply:
        return await _call(self._store.append, request, context)

    async def Held(self, request: HeldRequest, context: Context) -> HeldReply:
        return await _call(self._store.held, request, context)

    async def Report(self, request: ReportRequest, context: Context) -> ReportReply:
        return await _call(self._store.report, request, context)

    async def Select(self, request: SelectRequest, context: Context) -> SelectReply:
        return await _call(self._store.select, request, context)

    async def Ask(self, request: SelectRequest, context: Context) -> SelectReply:
        return await _call(self._store.ask, request, context)

    async def Except(self, request: ExceptionRequest, context: Context) -> WriteReply:
        return await _call(self._store.make_exception, request, context)

    async def Advance(self, request: AdvanceRequest, context: Context) -> WriteReply:
        return await _call(self._store.advance, request, context)

    async def Backup(self, request: BackupRequest, context: Context) -> WriteReply:
        return await _call(self._store.backup, request, context)


async def _call(work: Callable[[Request], Awaitable[Reply]], request: Request, context: Context) -> Reply:
    try:
        return await work(request)
    except StoreUnavailable as e:
        await context.abort(grpc.StatusCode.UNAVAILABLE, str(e))
        raise


async def serve(settings: CollectorSettings) -> None:
    """Open the store, serve until a signal comes, then finish what is under way."""
    folder = settings.folder
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    store = await EmbeddedStore.open(folder, settings)
    folder.store_socket.unlink(missing_ok=True)
    server = grpc.aio.server(options=[
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES), ("grpc.max_send_message_length", MAX_MESSAGE_BYTES)])
    store_pb2_grpc.add_StoreServicer_to_server(StoreService(store), server)
    before = os.umask(0o177)
    try:
        server.add_insecure_port(folder.store_target)
    finally:
        os.umask(before)
    await server.start()
    child.ready(str(folder.store_socket))
    await stop.wait()
    # New calls are refused at once; callers that wait for their insert get their answer.
    stopped = asyncio.ensure_future(server.stop(STOP_S))
    await store.close()
    await stopped


def main() -> int:
    """Entry of the process."""
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    settings = child.start(CollectorSettings)
    try:
        asyncio.run(serve(settings))
    except (EngineError, MigrationError) as e:
        _log.critical("the store cannot be opened", extra={"error": str(e)})
        return child.GIVE_UP if isinstance(e, MigrationError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
