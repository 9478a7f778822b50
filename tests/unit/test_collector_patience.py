"""What may pass is tried again; and one host that ignores its credit does not take the room of all."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from modelward_collector.ingest import pending as pending_module
from modelward_collector.ingest.credit import PER_HOST_BYTES
from modelward_collector.ingest.pending import Pending
from modelward_collector.ingest.validate import Source
from modelward_proto.v1.store_pb2 import AppendReply, AppendRequest
from modelward_proto.v1.stream_pb2 import Batch

from tests.batches import Agent, envelope, events
from tests.running import Collector, collector

SOURCE = Source("gpu-17", b"A" * 16, 30)


class Link:
    """A store that takes everything; what it was given is kept."""

    def __init__(self) -> None:
        self.given: list[AppendRequest] = []

    async def append(self, request: AppendRequest) -> AppendReply:
        self.given.append(request)
        return AppendReply(stored=not request.quarantine, quarantined=request.quarantine)


async def judged_with(failures: int) -> list[AppendRequest]:
    rest = failures

    async def judge(batch: Batch, source: Source) -> Any:
        nonlocal rest
        if rest:
            rest -= 1
            raise MemoryError
        return SimpleNamespace(events=b"events", detections=b"", bindings=b"", decoded_bytes=0, kinds={"exec": 1})

    async def judge_own(*_: Any) -> Any:
        return SimpleNamespace(events=b"lost", detections=b"", bindings=b"", decoded_bytes=0)

    link = Link()
    held = Pending(SimpleNamespace(judge=judge, judge_own=judge_own), link, SimpleNamespace(keep=lambda *_: None))  # type: ignore[arg-type]
    await (await held.take(Batch(number=1, epoch=b"E" * 16, kinds={"exec": 1}), SOURCE))
    return link.given


@pytest.mark.parametrize("failures", [1, 3])
def test_a_batch_that_could_not_be_judged_for_a_while_is_stored_all_the_same(
        failures: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pending_module, "PAUSES_S", (0, 0, 0))
    [stored] = asyncio.run(judged_with(failures))
    assert (stored.events, stored.quarantine) == (b"events", "")


def test_a_batch_that_fails_every_time_is_set_aside_and_told_as_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pending_module, "PAUSES_S", (0, 0, 0))
    first, loss = asyncio.run(judged_with(99))
    assert "again and again" in first.quarantine
    assert loss.events == b"lost"


def in_flight(running: Collector) -> float:
    text = httpx.get(running.http_url + "/metrics", trust_env=False).text
    return sum(float(line.split()[1]) for line in text.splitlines() if line.startswith("modelward_in_flight_bytes "))


def test_a_host_that_ignores_its_credit_leaves_room_for_the_others(tmp_path: Path) -> None:
    with collector(tmp_path) as running:
        greedy = [Agent(running.grpc_address, agent_id=bytes([n]) * 16, host="greedy") for n in (1, 2)]
        modest = Agent(running.grpc_address, agent_id=b"M" * 16, host="modest")
        for agent in (*greedy, modest):
            agent.__enter__().wait_welcome()
        [store] = running.children("store.process")
        os.kill(store, signal.SIGSTOP)
        try:
            for agent in greedy:
                agent.send(*(envelope(n, events(1), arrow=os.urandom(1 << 20)) for n in range(1, 31)))
            until = time.monotonic() + 30
            while in_flight(running) < PER_HOST_BYTES * 0.9 and time.monotonic() < until:
                time.sleep(0.1)
            before = in_flight(running)
            modest.send(envelope(1, events(1), arrow=os.urandom(1 << 20)))
            while in_flight(running) <= before and time.monotonic() < until:
                time.sleep(0.1)
            assert PER_HOST_BYTES < in_flight(running) < PER_HOST_BYTES + (2 << 20)
        finally:
            os.kill(store, signal.SIGCONT)
        modest.wait_answered(1)
        for agent in greedy:
            agent.wait_answered(*range(1, 31), timeout_s=60)
        assert in_flight(running) == 0
        for agent in (*greedy, modest):
            agent.close()
