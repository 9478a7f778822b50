"""A small collector for tests of the agent: a real gRPC server of ``modelward.v1.Collector`` that a test tells what to answer."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from dataclasses import dataclass, field

import grpc
from modelward_proto.v1 import stream_pb2 as pb
from modelward_proto.v1 import stream_pb2_grpc

Answer = Callable[[pb.Batch], list[pb.CollectorMessage]]


def ack(epoch: bytes, first: int, last: int | None = None) -> pb.CollectorMessage:
    ranges = [pb.Range(first=first, last=first if last is None else last)]
    return pb.CollectorMessage(ack=pb.Ack(epoch=epoch, batches=ranges))


def quarantine(epoch: bytes, number: int, reason: str) -> pb.CollectorMessage:
    return pb.CollectorMessage(quarantine=pb.Quarantine(epoch=epoch, number=number, reason=reason))


def credit(size: int) -> pb.CollectorMessage:
    return pb.CollectorMessage(credit=pb.Credit(bytes=size))


def ack_each(batch: pb.Batch) -> list[pb.CollectorMessage]:
    return [ack(batch.epoch, batch.number)]


@dataclass
class StreamServer(stream_pb2_grpc.CollectorServicer):
    """Notes what it gets; answers each batch with ``answer``; ``push`` sends anything at any time."""

    answer: Answer = ack_each
    held: list[tuple[int, int]] = field(default_factory=list)
    checksums: list[int] = field(default_factory=list)
    credit_bytes: int = 1 << 24
    refusal: str = ""
    schema: tuple[int, int] = (1, 1)
    silent: bool = False
    """Accept the stream and say nothing."""
    credentials: grpc.ServerCredentials | None = None
    hellos: list[pb.Hello] = field(default_factory=list)
    batches: list[pb.Batch] = field(default_factory=list)
    heartbeats: list[pb.Heartbeat] = field(default_factory=list)
    address: str = "127.0.0.1:0"
    port: int = 0
    streams: int = 0

    def __post_init__(self) -> None:
        self._changed = threading.Condition()
        self._out: queue.SimpleQueue[pb.CollectorMessage | None] = queue.SimpleQueue()
        self._server: grpc.Server | None = None

    def start(self) -> StreamServer:
        """Listen; after a :meth:`cut`, on the same port again."""
        host = self.address.rpartition(":")[0]
        self._server = grpc.server(
            futures.ThreadPoolExecutor(8),
            options=[("grpc.so_reuseport", 1), ("grpc.max_receive_message_length", 64 << 20)],
        )
        stream_pb2_grpc.add_CollectorServicer_to_server(self, self._server)
        where = f"{host}:{self.port}"
        if self.credentials is None:
            self.port = self._server.add_insecure_port(where)
        else:
            self.port = self._server.add_secure_port(where, self.credentials)
        self._server.start()
        return self

    def cut(self) -> None:
        """End every stream at once and stop listening."""
        if self._server is not None:
            self._out.put(None)
            self._server.stop(grace=0).wait()
            self._server = None
            self._out = queue.SimpleQueue()

    def push(self, *messages: pb.CollectorMessage) -> None:
        for message in messages:
            self._out.put(message)

    def wait_for(self, condition: Callable[[], bool], timeout_s: float = 15.0) -> None:
        """Until the condition holds. The test fails when that takes too long."""
        until = time.monotonic() + timeout_s
        with self._changed:
            while not condition():
                assert time.monotonic() < until, "the agent did not do in time what the test waits for"
                self._changed.wait(0.05)

    def numbers(self) -> list[int]:
        return [batch.number for batch in self.batches]

    def Stream(
        self, request_iterator: Iterator[pb.AgentMessage], context: grpc.ServicerContext
    ) -> Iterator[pb.CollectorMessage]:
        out = self._out
        first = next(request_iterator)
        with self._changed:
            self.hellos.append(first.hello)
            self.streams += 1
            self._changed.notify_all()
        if self.refusal:
            yield pb.CollectorMessage(refusal=pb.Refusal(reason=self.refusal))
            return
        if self.silent:
            context.add_callback(lambda: out.put(None))
            out.get()
            return
        yield pb.CollectorMessage(welcome=pb.Welcome(
            collector_version="test", schema_min=self.schema[0], schema_max=self.schema[1],
            held=[pb.Range(first=a, last=b, checksums=self.checksums) for a, b in self.held],
            credit_bytes=self.credit_bytes, host_name="test",
        ))
        threading.Thread(target=self._listen, args=(request_iterator, out), daemon=True).start()
        while (message := out.get()) is not None:
            yield message

    def _listen(self, messages: Iterator[pb.AgentMessage], out: queue.SimpleQueue[pb.CollectorMessage | None]) -> None:
        try:
            for message in messages:
                with self._changed:
                    if message.HasField("batch"):
                        self.batches.append(message.batch)
                        for answer in self.answer(message.batch):
                            out.put(answer)
                    elif message.HasField("heartbeat"):
                        self.heartbeats.append(message.heartbeat)
                    self._changed.notify_all()
        except grpc.RpcError:
            pass
        finally:
            out.put(None)
