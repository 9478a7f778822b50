"""The stream against a real gRPC server: outages, credit, held ranges, quarantine, strange answers, and TLS."""

from __future__ import annotations

import asyncio
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from modelward_agent.spool.ranges import Range, to_ranges, within
from modelward_agent.transport import reconnect
from modelward_agent.transport.connection import Outgoing
from modelward_agent.transport.reconnect import Reconnect
from modelward_agent.transport.target import Target, TargetError
from modelward_proto.v1 import stream_pb2 as pb

from tests.unit.stream_server import StreamServer, ack, credit, quarantine

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


def test_batches_arrive_in_order_and_acks_settle_them(server: StreamServer, connect: Callable[..., Client]) -> None:
    source = Batches([1, 2, 3])
    client = connect(server, source)
    server.wait_for(lambda: source.is_stored == [1, 2, 3])
    assert server.numbers() == [1, 2, 3]
    assert client.stop()


def test_heartbeat_comes_with_the_opening_and_before_the_end(server: StreamServer, connect: Callable[..., Client]) -> None:
    client = connect(server, Batches([]))
    server.wait_for(lambda: len(server.heartbeats) == 1)
    assert client.stop()
    server.wait_for(lambda: len(server.heartbeats) == 2)


def test_stream_comes_back_after_an_outage_and_resends_what_was_not_acked(
    server: StreamServer, connect: Callable[..., Client]
) -> None:
    server.answer = lambda batch: [ack(EPOCH, 1)] if batch.number == 1 else []
    source = Batches([1, 2, 3])
    client = connect(server, source)
    server.wait_for(lambda: len(server.batches) == 3 and source.is_stored == [1])
    server.cut()
    server.wait_for(lambda: bool(client.problems))
    server.answer = lambda batch: [ack(EPOCH, batch.number)]
    server.start()
    server.wait_for(lambda: source.is_stored == [1, 2, 3])
    assert server.numbers() == [1, 2, 3, 2, 3]


def test_collector_that_starts_later_is_found(connect: Callable[..., Client]) -> None:
    server = StreamServer().start()
    server.cut()
    source = Batches([1])
    client = connect(server, source)
    server.wait_for(lambda: len(client.problems) >= 2)
    server.start()
    server.wait_for(lambda: source.is_stored == [1])
    server.cut()


def test_held_batches_are_not_sent(server: StreamServer, connect: Callable[..., Client]) -> None:
    server.held = [(1, 2), (4, 2**63)]
    source = Batches([1, 2, 3, 7])
    connect(server, source)
    server.wait_for(lambda: source.is_stored == [3])
    assert server.numbers() == [3]
    assert source.is_held == [1, 2, 7]


def test_quarantined_batch_is_reported_and_the_rest_goes_on(server: StreamServer, connect: Callable[..., Client]) -> None:
    server.answer = lambda b: [quarantine(EPOCH, 2, "bad time")] if b.number == 2 else [ack(EPOCH, b.number)]
    source = Batches([1, 2, 3])
    connect(server, source)
    server.wait_for(lambda: source.is_stored == [1, 3])
    assert source.is_quarantined == [(2, "bad time")]


def test_no_more_is_in_flight_than_the_credit(server: StreamServer, connect: Callable[..., Client]) -> None:
    server.credit_bytes = 2500
    server.answer = lambda batch: []
    source = Batches([1, 2, 3, 4, 5])
    connect(server, source)
    server.wait_for(lambda: len(server.batches) == 2 and bool(server.heartbeats))
    server.push(ack(EPOCH, 1))
    server.wait_for(lambda: len(server.batches) == 3)
    assert source.is_stored == [1]


def test_credit_of_zero_pauses_batches_but_not_heartbeats(
    server: StreamServer, connect: Callable[..., Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modelward_agent.transport.connection.HEARTBEAT_S", 0.05)
    server.credit_bytes = 0
    source = Batches([1])
    connect(server, source)
    server.wait_for(lambda: len(server.heartbeats) >= 5)
    assert server.batches == []
    server.push(credit(10_000))
    server.wait_for(lambda: source.is_stored == [1])


def test_batch_larger_than_the_whole_credit_still_goes(server: StreamServer, connect: Callable[..., Client]) -> None:
    server.credit_bytes = 10
    source = Batches([1, 2])
    connect(server, source)
    server.wait_for(lambda: source.is_stored == [1, 2])


def test_ack_that_comes_twice_or_for_another_epoch_settles_nothing_more(
    server: StreamServer, connect: Callable[..., Client]
) -> None:
    server.answer = lambda b: [ack(b"x" * 16, b.number), ack(EPOCH, b.number), ack(EPOCH, b.number)]
    source = Batches([1, 2])
    connect(server, source)
    server.wait_for(lambda: source.is_stored == [1, 2])


def test_ack_of_a_batch_that_was_not_sent_deletes_nothing(server: StreamServer, connect: Callable[..., Client]) -> None:
    server.credit_bytes = 1000
    server.answer = lambda batch: [ack(EPOCH, batch.number + 1, 2**63), quarantine(EPOCH, 3, "never sent")]
    source = Batches([1, 2, 3])
    connect(server, source)
    server.wait_for(lambda: len(server.batches) == 1)
    server.push(ack(EPOCH, 1))
    server.wait_for(lambda: len(server.batches) == 2)
    assert (source.is_stored, source.is_quarantined) == ([1], [])


def test_refusal_is_told_and_tried_again(server: StreamServer, connect: Callable[..., Client]) -> None:
    server.refusal = "unknown agent"
    client = connect(server, Batches([1]))
    server.wait_for(lambda: bool(client.problems))
    assert "refuses this agent: unknown agent" in client.problems[0]
    server.refusal = ""
    server.wait_for(lambda: client.source.is_stored == [1])


def test_collector_of_another_schema_gets_no_batch(server: StreamServer, connect: Callable[..., Client]) -> None:
    server.schema = (7, 9)
    client = connect(server, Batches([1]))
    server.wait_for(lambda: bool(client.problems))
    assert "payload versions 7 to 9" in client.problems[0]
    assert server.batches == []


def test_collector_that_says_nothing_is_left(
    server: StreamServer, connect: Callable[..., Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modelward_agent.transport.connection.WELCOME_S", 0.3)
    server.silent = True
    client = connect(server, Batches([1]))
    server.wait_for(lambda: server.streams >= 2)
    assert client.problems
    server.silent = False
    server.wait_for(lambda: client.source.is_stored == [1])


def test_new_batches_are_sent_when_told(server: StreamServer, connect: Callable[..., Client]) -> None:
    source = Batches([])
    client = connect(server, source)
    server.wait_for(lambda: source.times_opened == 1)
    source.waiting.append(8)
    client.wake()
    server.wait_for(lambda: source.is_stored == [8])


def test_stop_delivers_what_waits_first(server: StreamServer, connect: Callable[..., Client]) -> None:
    source = Batches([])
    client = connect(server, source)
    server.wait_for(lambda: source.times_opened == 1)
    source.waiting += [1, 2, 3]
    assert client.stop()
    assert source.is_stored == [1, 2, 3]


@pytest.mark.parametrize("address", ["192.0.2.7:4460", "collector.invalid:4460", "[2001:db8::1]:4460", "0.0.0.0:4460"])
def test_plaintext_off_this_host_is_refused(address: str) -> None:
    with pytest.raises(TargetError, match="--tls-ca, --tls-cert and --tls-key"):
        Target.parse(address)


@pytest.mark.parametrize("address", ["127.0.0.1:4460", "127.9.9.9:1", "[::1]:4460", "localhost:4460"])
def test_plaintext_on_this_host_is_allowed(address: str) -> None:
    assert Target.parse(address).address == address


@pytest.mark.parametrize(
    "address", ["", "collector", "host:", ":4460", "host:port", "host:0", "host:70000", "::1:4460", "host:²"]
)
def test_wrong_address_is_a_clear_error(address: str) -> None:
    with pytest.raises(TargetError, match=r"HOST:PORT|brackets"):
        Target.parse(address)


def test_missing_certificate_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match=r"not set: --tls-key"):
        Target.parse("192.0.2.7:4460", "ca.pem", "cert.pem", "")
    with pytest.raises(TargetError, match=r"ca\.pem: No such file"):
        Target.parse("192.0.2.7:4460", str(tmp_path / "ca.pem"), "cert.pem", "key.pem")
    (tmp_path / "ca.pem").write_text("no certificate")
    with pytest.raises(TargetError, match=r"ca\.pem: not a PEM file"):
        Target.parse("192.0.2.7:4460", str(tmp_path / "ca.pem"), "cert.pem", "key.pem")


def test_a_key_of_another_certificate_is_named_before_anything_runs(tmp_path: Path) -> None:
    ours = Authority(tmp_path, "ours")
    (cert, key), (_, other) = ours.issue("gpu-1", "DNS:gpu-1"), ours.issue("gpu-2", "DNS:gpu-2")
    Target.parse("192.0.2.7:4460", str(ours.ca), str(cert), str(key)).check_pair()
    with pytest.raises(TargetError, match=r"gpu-2\.key are no certificate and its key"):
        Target.parse("192.0.2.7:4460", str(ours.ca), str(cert), str(other)).check_pair()


class Authority:
    """A certificate authority made with openssl."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder / name
        self.folder.mkdir()
        self.ca = self.folder / "ca.pem"
        self._openssl("req", "-x509", *_NEW_KEY, "ca.key", "-out", "ca.pem", "-days", "2", "-subj", f"/CN={name}")

    def issue(self, name: str, alternatives: str) -> tuple[Path, Path]:
        """Certificate and key."""
        (self.folder / f"{name}.ext").write_text(f"subjectAltName={alternatives}\n")
        self._openssl("req", *_NEW_KEY, f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        self._openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
                      "-days", "2", "-extfile", f"{name}.ext", "-out", f"{name}.pem")
        return self.folder / f"{name}.pem", self.folder / f"{name}.key"

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=self.folder, check=True, capture_output=True)


_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout")


def secure_server(authority: Authority, certificate: tuple[Path, Path]) -> StreamServer:
    pem, key = certificate
    return StreamServer(credentials=grpc.ssl_server_credentials(
        [(key.read_bytes(), pem.read_bytes())], authority.ca.read_bytes(), require_client_auth=True
    )).start()


def test_mutual_tls_carries_batches(tmp_path: Path, connect: Callable[..., Client]) -> None:
    ours = Authority(tmp_path, "ours")
    server = secure_server(ours, ours.issue("collector", "DNS:localhost,IP:127.0.0.1"))
    cert, key = ours.issue("gpu-17", "DNS:gpu-17")
    source = Batches([1])
    connect(server, source, Target.parse(f"127.0.0.1:{server.port}", str(ours.ca), str(cert), str(key)))
    server.wait_for(lambda: source.is_stored == [1])
    server.cut()


def test_collector_of_a_foreign_authority_gets_nothing(tmp_path: Path, connect: Callable[..., Client]) -> None:
    ours, foreign = Authority(tmp_path, "ours"), Authority(tmp_path, "foreign")
    server = secure_server(ours, foreign.issue("collector", "IP:127.0.0.1"))
    cert, key = ours.issue("gpu-17", "DNS:gpu-17")
    client = connect(
        server, Batches([1]), Target.parse(f"127.0.0.1:{server.port}", str(ours.ca), str(cert), str(key))
    )
    server.wait_for(lambda: bool(client.problems))
    assert server.hellos == []
    server.cut()


def test_collector_of_another_name_gets_nothing(tmp_path: Path, connect: Callable[..., Client]) -> None:
    ours = Authority(tmp_path, "ours")
    server = secure_server(ours, ours.issue("collector", "DNS:collector.example"))
    cert, key = ours.issue("gpu-17", "DNS:gpu-17")
    client = connect(
        server, Batches([1]), Target.parse(f"127.0.0.1:{server.port}", str(ours.ca), str(cert), str(key))
    )
    server.wait_for(lambda: bool(client.problems))
    assert server.hellos == []
    server.cut()


def test_renewed_certificate_counts_from_the_next_connection_on(tmp_path: Path, connect: Callable[..., Client]) -> None:
    ours, foreign = Authority(tmp_path, "ours"), Authority(tmp_path, "foreign")
    server = secure_server(ours, ours.issue("collector", "IP:127.0.0.1"))
    cert, key = foreign.issue("gpu-17", "DNS:gpu-17")
    client = connect(
        server, Batches([1]), Target.parse(f"127.0.0.1:{server.port}", str(ours.ca), str(cert), str(key))
    )
    server.wait_for(lambda: bool(client.problems))
    for old, new in zip((cert, key), ours.issue("gpu-17", "DNS:gpu-17"), strict=True):
        new.replace(old)
    server.wait_for(lambda: client.source.is_stored == [1])
    server.cut()


@pytest.mark.parametrize(
    ("numbers", "ranges"), [([], []), ([3], [(3, 3)]), ([2, 1, 3, 7, 8, 8], [(1, 3), (7, 8)]), ([5, 1], [(1, 1), (5, 5)])]
)
def test_ranges_hold_exactly_the_numbers(numbers: list[int], ranges: list[Range]) -> None:
    assert to_ranges(numbers) == ranges
    assert sorted(set(numbers)) == within(range(10), ranges)
