"""The stream against a real gRPC server: outages, credit, held ranges, quarantine, and strange answers."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.unit.stream_client import EPOCH, Batches, Client, connect, server
from tests.unit.stream_server import StreamServer, ack, credit, quarantine

__all__ = ["connect", "server"]


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
