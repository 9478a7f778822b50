"""A receiver: serves agents' streams, checks and judges their batches, and passes them to the store process.

Started by the supervisor, once or several times on one port: ``python -m modelward_collector.ingest.receiver``.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator

import grpc
import pyarrow as pa
from modelward_proto.v1 import stream_pb2_grpc
from modelward_proto.v1.stream_pb2 import AgentMessage

from modelward_collector import child, local_socket, metrics
from modelward_collector.ingest.control import Control
from modelward_collector.ingest.credit import credit
from modelward_collector.ingest.identity import Context
from modelward_collector.ingest.judging import Judging
from modelward_collector.ingest.pending import Pending
from modelward_collector.ingest.quarantine import QuarantineFolder
from modelward_collector.ingest.silence import Silence
from modelward_collector.ingest.store_link import StoreLink
from modelward_collector.ingest.stream import AgentStream, Streams
from modelward_collector.ingest.twice import Twice
from modelward_collector.settings import CollectorSettings, split_address

_log = logging.getLogger(__name__)

MAX_MESSAGE_BYTES = 64 << 20
DRAIN_S = 6.0
IDLE_DRAIN_S = 0.5
CREDIT_PERIOD_S = 0.25

_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.so_reuseport", 1),
    # A host that lost power sends no FIN: ping it, and let agents ping us.
    ("grpc.keepalive_time_ms", 20_000), ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1), ("grpc.http2.min_recv_ping_interval_without_data_ms", 4_000),
    ("grpc.http2.max_ping_strikes", 0),
)


class CollectorService(stream_pb2_grpc.CollectorServicer):  # type: ignore[misc]
    """``modelward.v1.Collector``."""

    def __init__(self, streams: Streams) -> None:
        self._streams = streams

    async def Stream(self, request_iterator: AsyncIterator[AgentMessage], context: Context) -> None:
        """Serve one agent."""
        metrics.AGENTS.inc()
        try:
            await AgentStream(self._streams, context).run(request_iterator)
        finally:
            metrics.AGENTS.dec()


def credentials(settings: CollectorSettings) -> grpc.ServerCredentials | None:
    """TLS that asks every agent for a certificate of our CA; None on loopback without TLS."""
    if settings.tls_cert is None or settings.tls_key is None or settings.tls_client_ca is None:
        return None
    return grpc.ssl_server_credentials(
        [(settings.tls_key.read_bytes(), settings.tls_cert.read_bytes())],
        root_certificates=settings.tls_client_ca.read_bytes(), require_client_auth=True)


async def serve(settings: CollectorSettings, index: int) -> None:
    """Serve until a signal comes, then answer what has arrived."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    folder = settings.folder
    judging = await asyncio.to_thread(Judging, settings.rules)
    link = StoreLink(folder.store_target)
    pending = Pending(judging, link, QuarantineFolder(folder.quarantine, settings.max_quarantine_bytes))
    streams = Streams(pending, link, settings.retention_days, split_address(settings.listen, "--listen")[1])
    server = grpc.aio.server(options=list(_OPTIONS))
    stream_pb2_grpc.add_CollectorServicer_to_server(CollectorService(streams), server)
    tls = credentials(settings)
    if tls is None:
        server.add_insecure_port(settings.listen)
    else:
        server.add_secure_port(settings.listen, tls)
    streams.set_credit(credit(0, True))
    await server.start()
    tasks = [asyncio.create_task(_keep_credit(streams))]
    if index == 0:
        tasks.append(asyncio.create_task(Silence(streams, judging, settings.silent_after_s).watch()))
        tasks.append(asyncio.create_task(Twice(streams, judging).watch()))
    control = await local_socket.serve(folder.receiver_socket(index), Control(streams).answer)
    child.ready(settings.listen)
    await stop.wait()
    control.close()
    for task in tasks:
        task.cancel()
    await _close(server, streams, pending)
    judging.close()
    await link.close()


async def _close(server: grpc.aio.Server, streams: Streams, pending: Pending) -> None:
    streams.closing = True
    for stream in list(streams.open.values()):
        stream.end()
    # A store that takes nothing now will hardly do so before the end.
    rest = await pending.drain(DRAIN_S if streams.link.accepts else IDLE_DRAIN_S)
    if rest:
        _log.warning("batches were not stored before the stop; their agents send them again", extra={"batches": rest})
    await server.stop(1.0)


async def _keep_credit(streams: Streams) -> None:
    while True:
        streams.set_credit(credit(len(streams.open), streams.link.accepts))
        metrics.CREDIT.set(streams.credit_bytes)
        await asyncio.sleep(CREDIT_PERIOD_S)


def main() -> int:
    """Entry of the process."""
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    settings = child.start(CollectorSettings)
    asyncio.run(serve(settings, int(os.environ.get(child.INDEX_VARIABLE, "0"))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
