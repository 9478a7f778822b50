"""Every detection reaches the webhook at least once and in order, whatever is killed, and whatever the receiver does."""

from __future__ import annotations

import json
import os
import random
import secrets
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import httpx
import pytest
from modelward_proto.v1 import store_pb2_grpc
from modelward_proto.v1.store_pb2 import ExceptionRequest

from tests.batches import Agent, envelope, from_rows, now_ns
from tests.running import Collector, collector
from tests.stories import HOSTILE, identified, process, stolen_credentials
from tests.unit.test_collector_delivery import RULE
from tests.webhook_receiver import Delivery, Receiver, listening, secret_file

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


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("webhook")
    (folder / "rules").mkdir()
    (folder / "rules" / "low.yml").write_text(RULE.replace("level: high", "level: low"))
    with listening(Receiver()) as receiver:
        with collector(folder, rules=folder / "rules", webhook_url=receiver.url, webhook_secret_file=secret_file(folder)) as made:
            made.wait_log("an output begins")
            with Agent(made.grpc_address) as agent:
                agent.wait_welcome()
                yield Site(made, receiver, agent, numbers())


@pytest.fixture
def site(running: Site) -> Iterator[Site]:
    running.receiver.answer = lambda delivery: (204, {}, b"")
    _eventually(lambda: running.collector.select("SELECT 1 FROM outputs WHERE behind = 0"), 60)
    running.receiver.taken.clear()
    running.receiver.refused.clear()
    yield running
    running.receiver.answer = lambda delivery: (204, {}, b"")


def in_order(receiver: Receiver, stored: list[str]) -> bool:
    """Whether first arrivals came in the order of the store."""
    place = {id: index for index, id in enumerate(stored)}
    places = [place[id] for id in receiver.ids]
    return places == sorted(places)


def test_a_detection_arrives_signed_whole_and_as_documented(site: Site) -> None:
    name = f"whole {HOSTILE}"
    site.send(shell(name), identified(8, "bad.joblib", now_ns()))
    site.receiver.wait(lambda r: r.taken)
    [found] = site.receiver.taken
    assert found.is_signed()
    assert not found.is_signed(b"another secret of the tests")
    assert found.path == "/hook?token=abc123"
    assert found.headers["content-type"] == "application/json"
    assert found.id == found.detection["detection_id"] == site.id_of(name)
    assert {key: found.document[key] for key in ("schema", "test", "reduced", "truncated")} == {
        "schema": "modelward.detection/1", "test": False, "reduced": False, "truncated": []}
    assert found.detection["process_command_line"] == f"sh -c {name}"
    assert found.detection["severity"] == "critical"
    assert found.detection["host_labels"] == {}
    assert "silenced_by" not in found.detection
    assert found.body.isascii()


def test_those_less_severe_than_set_are_left_out(site: Site) -> None:
    site.send({"time": now_ns(), "event.name": "file_open", "file.path": "/srv/canary"})
    site.send(shell("after the low one"))
    site.receiver.wait(lambda r: r.taken)
    assert [d.detection["rule_name"] for d in site.receiver.taken] == ["shell_in_load"]
    assert site.collector.select("SELECT severity FROM detections_raw WHERE rule_name = 'low'") == [{"severity": "low"}]


def test_while_the_receiver_fails_nothing_is_lost_or_overtaken(site: Site) -> None:
    chance = random.Random(5)
    troubles: list[tuple[int, dict[str, str], bytes]] = [
        (500, {}, b"oops"), (503, {"retry-after": "1"}, b""), (429, {"retry-after": "soon"}, b""), (408, {}, b""),
        (401, {}, b""), (302, {"location": "http://127.0.0.1:1/elsewhere"}, b""), (404, {}, b"\x1b[31m\xff" * 100)]
    site.receiver.answer = lambda delivery: chance.choice(troubles) if chance.random() < 0.5 else (200, {}, b"ok")
    for index in range(12):
        site.send(shell(f"trouble {index}"))
    site.receiver.wait(lambda r: len(r.ids) == 12)
    assert in_order(site.receiver, site.ids())
    for delivery in site.receiver.taken + site.receiver.refused:
        assert delivery.path == "/hook?token=abc123"
        assert delivery.is_signed()


def test_a_receiver_that_is_down_and_comes_back_misses_nothing(tmp_path: Path) -> None:
    receiver = Receiver()
    with listening(receiver):
        pass
    with collector(tmp_path, webhook_url=receiver.url, webhook_secret_file=secret_file(tmp_path)) as made:
        made.wait_log("an output begins")
        with Agent(made.grpc_address) as agent:
            agent.wait_welcome()
            site = Site(made, receiver, agent, numbers())
            for index in range(5):
                site.send(shell(f"down {index}"))
            made.wait_log("an output does not take a detection")
            health = httpx.get(made.http_url + "/healthz", trust_env=False)
            assert health.status_code == 200
            assert health.json()["outputs"] == {"webhook": False}
            [row] = httpx.get(made.http_url + "/api/v1/outputs", trust_env=False).json()["rows"]
            assert "no connection" in row["problem"]
            assert row["behind"] == "5"
            with listening(receiver):
                receiver.wait(lambda r: len(r.ids) == 5)
            assert receiver.ids == site.ids()
        for line in made.log:
            assert "abc123" not in json.dumps(line)


def test_what_a_filter_refuses_for_its_text_goes_out_without_it_and_holds_up_nothing(site: Site) -> None:
    def filtered(delivery: Delivery) -> tuple[int, dict[str, str], bytes]:
        return (403, {}, b"blocked") if b"union select" in delivery.body else (200, {}, b"")

    site.receiver.answer = filtered
    site.send(shell("union select 1"), shell("harmless"))
    site.receiver.wait(lambda r: len(r.ids) == 2)
    by_id = {d.id: d for d in site.receiver.taken}
    reduced = by_id[site.id_of("union select 1")]
    assert reduced.document["reduced"] is True
    assert reduced.detection["rule_name"] == "shell_in_load"
    assert reduced.detection["host_name"] == "test-host"
    assert not {"process_command_line", "sentence", "process_chain"} & set(reduced.detection)
    assert by_id[site.id_of("harmless")].document["reduced"] is False


def test_one_that_is_refused_in_every_form_is_set_aside_counted_and_holds_up_nothing(site: Site) -> None:
    before = site.metric("modelward_output_set_aside_total")
    seen = len(site.collector.log)
    poison: list[str] = []

    def answer(delivery: Delivery) -> tuple[int, dict[str, str], bytes]:
        if b"poison" in delivery.body:
            poison.append(delivery.id)
        return (413 if delivery.id in poison else 200), {}, b"too much"

    site.receiver.answer = answer
    site.send(shell("poison"), shell("good"))
    site.send(shell("later"))
    site.receiver.wait(lambda r: {site.id_of("good"), site.id_of("later")} <= set(r.ids))
    line = site.collector.wait_log("set aside", after=seen)
    assert line["detection"] == site.id_of("poison")
    assert "it answered 413: too much" in line["reason"]
    assert site.metric("modelward_output_set_aside_total") == before + 1
    assert site.id_of("poison") not in site.receiver.ids


@pytest.mark.parametrize("said", [
    b"", b"\0" * 100, b"HTTP/1.1 200 OK\r\n" * 1000, b"HTTP/1.1 999999 \xff\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
    b"HTTP/1.1 500 no\r\ntransfer-encoding: chunked\r\n\r\nffffffffff\r\n" + b"A" * 300_000,
    b"HTTP/1.1 503 no\r\nset-cookie: " + b"a=b;" * 5000 + b"\r\nretry-after: " + b"9" * 400 + b"\r\ncontent-length: 0\r\n\r\n",
    b"HTTP/1.1 500 no\r\ncontent-encoding: gzip\r\ncontent-length: 4\r\n\r\n\x1f\x8b\xff\xff",
])
def test_nonsense_from_the_receivers_address_is_a_failed_try_and_no_more(said: bytes, nonsense: tuple[Site, list[bytes]]) -> None:
    site, answers = nonsense
    answers[:] = [said] * 2
    name = f"nonsense {secrets.token_hex(4)}"
    site.send(shell(name))
    site.receiver.wait(lambda r: site.id_of(name) in r.ids)
    assert len(site.collector.children("modelward_collector.outputs")) == 1


@pytest.fixture(scope="module")
def nonsense(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, list[bytes]]]:
    """A receiver behind a door that answers nonsense itself, as long as there is some in the list."""
    folder, answers = tmp_path_factory.mktemp("nonsense"), list[bytes]()
    with listening(Receiver()) as receiver, socket.create_server(("127.0.0.1", 0)) as door:
        threading.Thread(target=_guard, args=(door, receiver.port, answers), daemon=True).start()
        url = f"http://127.0.0.1:{door.getsockname()[1]}/hook"
        with collector(folder, webhook_url=url, webhook_secret_file=secret_file(folder)) as made:
            made.wait_log("an output begins")
            with Agent(made.grpc_address) as agent:
                agent.wait_welcome()
                yield Site(made, receiver, agent, numbers()), answers


def _guard(door: socket.socket, port: int, answers: list[bytes]) -> None:
    while True:
        try:
            client, _ = door.accept()
        except OSError:
            return
        threading.Thread(target=_one, args=(client, port, answers), daemon=True).start()


def _one(client: socket.socket, port: int, answers: list[bytes]) -> None:
    """One request, as it fits into one connection: the client opens another when this one is closed."""
    try:
        with client:
            client.settimeout(5)
            request = _request(client)
            if answers:
                client.sendall(answers.pop())
                return
            with socket.create_connection(("127.0.0.1", port)) as real:
                real.sendall(request)
                real.settimeout(5)
                client.sendall(real.recv(65536))
    except OSError:
        return


def _request(client: socket.socket) -> bytes:
    found = b""
    while b"\r\n\r\n" not in found:
        found += client.recv(65536)
    head, _, body = found.partition(b"\r\n\r\n")
    length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length"))
    while len(body) < length:
        piece = client.recv(65536)
        body += piece
        found += piece
    return found


def test_killed_outputs_and_killed_stores_lose_nothing_and_repeat_only_under_the_same_id(site: Site) -> None:
    chance = random.Random(7)
    site.receiver.answer = lambda delivery: (time.sleep(0.02), (200, {}, b""))[1]
    sent = 0
    stop = threading.Event()

    def kill() -> None:
        outputs = "modelward_collector.outputs"
        for module in (outputs, "store.process", outputs, outputs):
            time.sleep(chance.uniform(0.3, 1.2))
            for victim in site.collector.children(module):
                os.kill(victim, signal.SIGKILL)
        stop.set()

    killer = threading.Thread(target=kill)
    killer.start()
    while not stop.is_set():
        site.send(*(shell(f"killed {sent + index}") for index in range(10)))
        sent += 10
    killer.join()
    site.receiver.wait(lambda r: len(r.ids) == sent, 60)
    stored = [id for id in site.ids() if id in set(site.receiver.ids)]
    assert len(stored) == sent
    assert site.receiver.ids == stored
    bodies: dict[str, dict[str, Any]] = {}
    for delivery in site.receiver.taken:
        assert bodies.setdefault(delivery.id, delivery.detection) == delivery.detection
    [row] = _eventually(lambda: site.collector.select("SELECT behind FROM outputs WHERE behind = 0"))
    assert row["behind"] == 0


def _eventually(found: Callable[[], list[Any]], timeout_s: float = 20) -> list[Any]:
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


def test_silenced_detections_are_left_out_even_when_the_model_is_known_only_afterwards(site: Site) -> None:
    exception = silence(site)
    try:
        site.send(shell("silenced, known late", instance=31))
        assert not site.receiver.taken
        site.send(identified(31, "known.joblib", now_ns()))
        site.send(*stolen_credentials(31))
        site.receiver.wait(lambda r: r.taken)
        site.send(shell("another program", instance=32) | {"process.executable.path": "/usr/bin/bash"})
        site.receiver.wait(lambda r: len(r.taken) == 2)
    finally:
        revoke(site, exception)
    assert site.id_of("silenced, known late") not in site.receiver.ids
    assert site.metric("modelward_output_silenced_total") >= 1


def test_one_whose_model_stays_unknown_is_told_after_a_while(site: Site) -> None:
    exception = silence(site)
    try:
        site.send(shell("never known", instance=33))
        site.receiver.wait(lambda r: r.taken)
    finally:
        revoke(site, exception)
    assert site.receiver.ids == [site.id_of("never known")]


def test_a_new_output_begins_with_now_and_an_old_one_where_it_stopped(tmp_path: Path) -> None:
    counted, secret = numbers(), secret_file(tmp_path)

    def once(receiver: Receiver, name: str, **given: object) -> None:
        with collector(tmp_path, **given) as made, Agent(made.grpc_address) as agent:
            agent.wait_welcome()
            Site(made, receiver, agent, counted).send(shell(name))

    once(Receiver(), "before there was an output")
    with listening(Receiver()) as receiver:
        given = {"webhook_url": receiver.url, "webhook_secret_file": secret}
        once(receiver, "first", **given)
    once(receiver, "while there was no output")
    with listening(receiver):
        once(receiver, "second", **given)
        with collector(tmp_path, **given):
            receiver.wait(lambda r: len(r.ids) == 3)
    first_seen = {d.id: d.detection["process_command_line"] for d in reversed(receiver.taken)}
    assert [first_seen[id] for id in receiver.ids] == ["sh -c first", "sh -c while there was no output", "sh -c second"]


def test_an_output_may_begin_with_all_that_is_kept(tmp_path: Path) -> None:
    with collector(tmp_path) as made, Agent(made.grpc_address) as agent:
        agent.wait_welcome()
        Site(made, Receiver(), agent, numbers()).send(shell("history"))
    with listening(Receiver()) as receiver:
        with collector(tmp_path, "--webhook-from-start", webhook_url=receiver.url, webhook_secret_file=secret_file(tmp_path)):
            receiver.wait(lambda r: r.taken)


def test_an_outputs_process_that_cannot_start_takes_nothing_with_it(tmp_path: Path) -> None:
    secret = secret_file(tmp_path)
    with listening(Receiver()) as receiver:
        with collector(tmp_path, webhook_url=receiver.url, webhook_secret_file=secret) as made:
            made.wait_log("an output begins")
            kept = secret.read_bytes()
            secret.unlink()
            for victim in made.children("modelward_collector.outputs"):
                os.kill(victim, signal.SIGKILL)
            with Agent(made.grpc_address) as agent:
                agent.wait_welcome()
                Site(made, receiver, agent, numbers()).send(shell("while it cannot start"))
            health = httpx.get(made.http_url + "/healthz", trust_env=False)
            assert (health.status_code, health.json()["outputs"]) == (200, {"webhook": False})
            [output] = httpx.get(made.http_url + "/api/v1/overview", trust_env=False).json()["outputs"]
            assert "outputs process" in output["problem"]
            secret.write_bytes(kept)
            receiver.wait(lambda r: r.taken)
            assert made.process.poll() is None


def test_it_has_no_privilege_left(site: Site) -> None:
    [pid] = site.collector.children("modelward_collector.outputs")
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line)
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[name], 16) == 0, name
    assert status["NoNewPrivs"] == "1"
