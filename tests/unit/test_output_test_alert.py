"""A test alert is followed from the agent to the webhook, and whoever asks hears at which hop it stopped."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from modelward_proto.v1.stream_pb2 import CommandResult

from tests.batches import Agent, envelope, from_rows, now_ns
from tests.running import Collector, collector
from tests.webhook_receiver import Receiver, listening, secret_file


class Site(NamedTuple):
    collector: Collector
    receiver: Receiver


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("alerts")
    with listening(Receiver()) as receiver:
        with collector(folder, receivers=2, webhook_url=receiver.url, webhook_secret_file=secret_file(folder),
                       webhook_min_severity="critical") as running:
            running.wait_log("an output begins")
            yield Site(running, receiver)


def command(site: Site, host: str, *more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "modelward_collector.operator.cli", "--url", site.collector.http_url, "test-alert", host, *more],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def canary(id: str) -> dict[str, Any]:
    return {"time": now_ns(), "event.name": "canary", "process.command_line": f"modelward-canary {id}",
            "process.executable.path": "/usr/bin/modelward-canary"}


def test_every_hop_is_told_with_its_time_and_the_webhook_is_told_whatever_its_severity(site: Site) -> None:
    with Agent(site.collector.grpc_address, agent_id=b"1" * 16, host="gpu-1") as agent:
        agent.wait_welcome()
        agent.heartbeat()
        asked = command(site, "gpu-1")
        id = agent.wait_command().id
        agent.send(envelope(1, from_rows([canary(id)])))
        agent.heartbeat(results=[CommandResult(id=id)])
        said, _ = asked.communicate(timeout=60)
    assert asked.returncode == 0, said
    for hop in ("sent to the agent", "done by the agent", "seen in its kernel", "detection made", "delivered to webhook"):
        assert f"✔ {hop}" in said, said
    [delivered] = [d for d in site.receiver.taken if id in d.detection.get("process_command_line", "")]
    assert delivered.document["test"] is True
    assert delivered.detection["severity"] == "low"
    assert delivered.is_signed()


def test_two_agents_of_one_host_in_different_receivers_are_both_asked(site: Site) -> None:
    agents = [Agent(site.collector.grpc_address, agent_id=bytes([n]) * 16, host="gpu-2") for n in range(1, 7)]
    try:
        for agent in agents:
            agent.__enter__()
            agent.wait_welcome()
            agent.heartbeat()
        asked = command(site, "gpu-2", "--timeout", "1", "--json")
        assert len({agent.wait_command().id for agent in agents}) == 1
        asked.communicate(timeout=60)
    finally:
        for agent in agents:
            agent.close()


def test_an_agent_that_cannot_says_why_and_that_is_the_hop_that_failed(site: Site) -> None:
    with Agent(site.collector.grpc_address, agent_id=b"3" * 16, host="gpu-3") as agent:
        agent.wait_welcome()
        agent.heartbeat()
        asked = command(site, "gpu-3", "--json")
        id = agent.wait_command().id
        agent.heartbeat(results=[CommandResult(id=id, error="paused by root: \x1b[31mmaintenance")])
        said, _ = asked.communicate(timeout=60)
    assert asked.returncode == 1
    found = json.loads(said)
    assert found["failed"] == "done by the agent"
    assert "paused by root: \\x1b[31mmaintenance" in found["reason"]


@pytest.mark.parametrize(("answers", "failed"), [(False, "done by the agent"), (True, "seen in its kernel, and stored")])
def test_what_does_not_come_is_named_with_where_to_look(site: Site, answers: bool, failed: str) -> None:
    host = f"gpu-4{answers}"
    with Agent(site.collector.grpc_address, agent_id=b"4" * 16, host=host) as agent:
        agent.wait_welcome()
        agent.heartbeat()
        asked = command(site, host, "--timeout", "6" if answers else "2")
        id = agent.wait_command().id
        if answers:
            agent.heartbeat(results=[CommandResult(id=id)])
        said, _ = asked.communicate(timeout=60)
    assert asked.returncode == 1
    assert f"✗ {failed}: " in said
    assert "modelward-agent" in said


def test_the_receiver_that_is_closed_is_the_hop_that_failed(site: Site) -> None:
    site.receiver.answer = lambda delivery: (503, {}, b"closed for today")
    try:
        with Agent(site.collector.grpc_address, agent_id=b"9" * 16, host="gpu-9") as agent:
            agent.wait_welcome()
            asked = command(site, "gpu-9", "--json", "--timeout", "60")
            id = agent.wait_command().id
            agent.send(envelope(1, from_rows([canary(id)])))
            said, _ = asked.communicate(timeout=90)
    finally:
        site.receiver.answer = lambda delivery: (204, {}, b"")
    assert asked.returncode == 1
    found = json.loads(said)
    assert found["failed"] == "delivered to webhook"
    assert "closed for today" in found["reason"]
    site.receiver.wait(lambda r: any(id in d.body.decode() for d in r.taken))


def test_an_unknown_host_and_one_that_is_away_are_said_to_be_so(site: Site) -> None:
    asked = command(site, "nosuch")
    _, said = asked.communicate(timeout=60)
    assert asked.returncode == 1
    assert "no agent of this host was ever seen" in said
    with Agent(site.collector.grpc_address, agent_id=b"5" * 16, host="gpu-5") as agent:
        agent.wait_welcome()
        agent.heartbeat()
    deadline = time.monotonic() + 20
    while site.collector.select("SELECT 1 FROM hosts WHERE host_name = 'gpu-5' AND NOT connected") == []:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    asked = command(site, "gpu-5")
    _, said = asked.communicate(timeout=60)
    assert asked.returncode == 1
    assert "not connected" in said


def test_answers_to_commands_that_were_not_sent_are_nobodys(site: Site) -> None:
    with Agent(site.collector.grpc_address, agent_id=b"6" * 16, host="gpu-6") as agent:
        agent.wait_welcome()
        agent.heartbeat(results=[CommandResult(id="00" * 8, error="made up")] * 500)
        with httpx.Client(base_url=site.collector.http_url, trust_env=False) as http:
            found = http.get(f"/api/v1/hosts/gpu-6/test-alert/{'00' * 8}").json()
    assert found == {"answers": [], "event": None, "detection": None, "outputs": []}


def test_only_a_program_or_our_own_page_can_ask(site: Site) -> None:
    with Agent(site.collector.grpc_address, agent_id=b"7" * 16, host="gpu-7") as agent:
        agent.wait_welcome()
        agent.heartbeat()
        path = "/api/v1/hosts/gpu-7/test-alert"
        with httpx.Client(base_url=site.collector.http_url, trust_env=False) as http:
            assert http.get(path).status_code == 405
            assert http.post(path).status_code == 415
            assert http.post(path, data={"x": "y"}).status_code == 415
            assert http.post(path, json={}, headers={"origin": "https://evil.example"}).status_code == 403
            assert http.post(path, json={}, headers={"sec-fetch-site": "cross-site"}).status_code == 403
            assert http.post(path, json={}, headers={"host": "evil.example"}).status_code == 421
            assert not agent.commands
            assert http.post(path, json={}).status_code == 200
            assert http.post(path, json={}).status_code == 429
            assert len(agent.commands) <= 1


def test_a_hostile_host_name_reaches_no_query_and_no_socket_as_anything_but_a_name(site: Site) -> None:
    with httpx.Client(base_url=site.collector.http_url, trust_env=False) as http:
        for name in ("' OR 1 --", "..%2f..%2fetc", "%00", "a%0ab", "x" * 5000):
            assert http.post(f"/api/v1/hosts/{name}/test-alert", json={}).status_code == 404
            assert http.get(f"/api/v1/hosts/{name}/test-alert/' OR 1").status_code in (400, 404)


def test_the_control_socket_is_for_this_user_alone_and_outlives_nonsense(site: Site) -> None:
    for index in (0, 1):
        path = site.collector.data / "run" / f"receiver-{index}.sock"
        assert path.stat().st_mode & 0o777 == 0o600
        for line in (b"", b"\n", b"[]\n", b"{\n", b"null\n", b'{"test_alert": {"a": 1}}\n', b"x" * 600_000 + b"\n"):
            with socket.socket(socket.AF_UNIX) as asking:
                asking.connect(os.fspath(path))
                threading.Thread(target=_push, args=(asking, line), daemon=True).start()
                asking.settimeout(10)
                with contextlib.suppress(OSError):
                    asking.recv(4096)
        with socket.socket(socket.AF_UNIX) as asking:
            asking.connect(os.fspath(path))
            asking.sendall(b'{"answers": "x", "host": "y"}\n')
            assert json.loads(asking.makefile().readline()) == {"answers": []}


def _push(asking: socket.socket, line: bytes) -> None:
    try:
        asking.sendall(line)
        asking.shutdown(socket.SHUT_WR)
    except OSError:
        return


def test_without_an_output_that_is_said_and_is_no_failure(tmp_path: Path) -> None:
    with collector(tmp_path) as running, Agent(running.grpc_address, host="gpu-8") as agent:
        agent.wait_welcome()
        agent.heartbeat()
        asked = command(Site(running, Receiver()), "gpu-8")
        id = agent.wait_command().id
        agent.send(envelope(1, from_rows([canary(id)])))
        agent.heartbeat(results=[CommandResult(id=id)])
        said, _ = asked.communicate(timeout=60)
        assert asked.returncode == 0, said
        assert "No output is set" in said
        with httpx.Client(base_url=running.http_url, trust_env=False) as http:
            assert http.get("/api/v1/outputs").json()["rows"] == []
