"""A collector with a webhook, an agent's side of a stream, and what tests ask of both."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import grpc
import httpx
from modelward_proto.v1 import store_pb2_grpc
from modelward_proto.v1.store_pb2 import ExceptionRequest

from tests.batches import Agent, envelope, from_rows, now_ns
from tests.running import Collector
from tests.stories import process
from tests.webhook_receiver import Receiver

DIGEST = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"


def shell(name: str, instance: int = 8) -> dict[str, Any]:
    """An exec that makes one critical detection, told apart by its command line."""
    return process(4712, "/usr/bin/dash", "python3.11 > dash", f"sh -c {name}") | {
        "time": now_ns(), "event.name": "exec", "process.executable.asked": "/bin/sh", "lifecycle.phase": "load",
        "lifecycle.scope": "open", "lifecycle.origin.phase": "load", "lifecycle.origin.scope": "open",
        "lifecycle.origin.via": "fork", "lifecycle.origin.instance": instance, "model.instance": instance}


class Site(NamedTuple):
    collector: Collector
    receiver: Receiver
    agent: Agent
    numbers: Iterator[int]

    def send(self, *rows: dict[str, Any]) -> None:
        number = next(self.numbers)
        self.agent.send(envelope(number, from_rows(rows)))
        self.agent.wait_answered(number)

    def ids(self) -> list[str]:
        """Detections in the order in which they were stored."""
        return [row["detection_id"] for row in self.collector.select(
            "SELECT detection_id FROM detections_raw ORDER BY stored_at, detection_id")]

    def id_of(self, name: str) -> str:
        [row] = self.collector.select(
            "SELECT detection_id FROM detections_raw WHERE process_command_line = {line:String}", line=f"sh -c {name}")
        return str(row["detection_id"])

    def metric(self, name: str) -> float:
        text = httpx.get(self.collector.http_url + "/metrics", trust_env=False).text
        return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(name))


def numbers() -> Iterator[int]:
    number = 0
    while True:
        number += 1
        yield number


def eventually(found: Callable[[], list[Any]], timeout_s: float = 20) -> list[Any]:
    until = time.monotonic() + timeout_s
    while not (rows := found()) and time.monotonic() < until:
        time.sleep(0.1)
    return rows


def silence(site: Site, *, rule: str = "shell_in_load", program: str = "/usr/bin/dash", digest: str = DIGEST) -> str:
    id = secrets.token_hex(8)
    with grpc.insecure_channel(f"unix:{site.collector.data / 'run' / 'store.sock'}") as channel:
        reply = store_pb2_grpc.StoreStub(channel).Except(ExceptionRequest(
            id=id, rule_name=rule, executable_path=program, model_digest=digest, reason="test", author="test",
            expires_ns=now_ns() + 3600 * 10**9), timeout=20)
    assert not reply.error, reply.error
    return id


def revoke(site: Site, id: str) -> None:
    with grpc.insecure_channel(f"unix:{site.collector.data / 'run' / 'store.sock'}") as channel:
        reply = store_pb2_grpc.StoreStub(channel).Except(ExceptionRequest(id=id, author="test", revoked=True), timeout=20)
    assert not reply.error, reply.error
