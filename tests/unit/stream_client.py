"""The agent's end of a stream, for tests: numbered batches, a client in a thread of its own, and a server for it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator

import pytest
from modelward_agent.spool.ranges import Range, within
from modelward_agent.transport import reconnect
from modelward_agent.transport.connection import Outgoing
from modelward_agent.transport.reconnect import Reconnect
from modelward_agent.transport.target import Target
from modelward_proto.v1 import stream_pb2 as pb

from tests.unit.stream_server import StreamServer

EPOCH = b"e" * 16


class Batches:
    """A source of numbered batches of 1,000 bytes, which notes what became of them."""

    def __init__(self, numbers: list[int], size: int = 1000) -> None:
        self.waiting = list(numbers)
        self.size = size
        self.is_stored: list[int] = []
        self.is_quarantined: list[tuple[int, str]] = []
        self.is_held: list[int] = []
        self.times_opened = 0

    def hello(self) -> pb.Hello:
        return pb.Hello(epoch=EPOCH, schema_version=1, first_unacked=min(self.waiting, default=0))

    def heartbeat(self) -> pb.Heartbeat:
        return pb.Heartbeat(time_ns=1)

    def opened(self, welcome: pb.Welcome, held: list[Range]) -> None:
        self.times_opened += 1
        self.is_held = within(self.waiting, held)
        self.waiting = [n for n in self.waiting if n not in self.is_held]

    def next(self) -> Outgoing | None:
        if not self.waiting:
            return None
        number = self.waiting.pop(0)
        return Outgoing(number, pb.Batch(number=number, epoch=EPOCH, arrow=bytes(self.size)))

    def sending(self, batch: Outgoing) -> None: ...

    def stored(self, number: int) -> None:
        self.is_stored.append(number)

    def quarantined(self, number: int, reason: str) -> None:
        self.is_quarantined.append((number, reason))

    def unsent(self, numbers: list[int]) -> None:
        self.waiting = sorted([*numbers, *self.waiting])


@pytest.fixture
def server() -> Iterator[StreamServer]:
    server = StreamServer().start()
    yield server
    server.cut()


class Client:
    """The agent's side, in a thread of its own, so that a test reads top down."""

    def __init__(self, source: Batches, target: Target) -> None:
        self.source = source
        self.problems: list[str] = []
        self._target = target
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self._thread.start()
        assert self._ready.wait(10)

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stream = Reconnect(self._target, self.source, EPOCH, self.problems.append)
        self._ready.set()
        await self._stream.run()

    def wake(self) -> None:
        self._loop.call_soon_threadsafe(self._stream.wake)

    def stop(self, timeout_s: float = 10.0) -> bool:
        """Whether the stream ended in time after all was answered."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stream.stop)
            self._thread.join(timeout_s)
        return not self._thread.is_alive()


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Client]]:
    monkeypatch.setattr(reconnect, "REFUSED_DELAY_S", 0.5)
    clients: list[Client] = []

    def start(server: StreamServer, source: Batches, target: Target | None = None) -> Client:
        clients.append(Client(source, target or Target("127.0.0.1", server.port)))
        return clients[-1]

    yield start
    for client in clients:
        client.stop(0.2)
