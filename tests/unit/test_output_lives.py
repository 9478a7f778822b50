"""Outputs that begin, stop, cannot start, or whose receiver is gone: each with a collector of its own."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import httpx

from tests.batches import Agent
from tests.running import collector
from tests.unit.output_site import Site, numbers, shell
from tests.webhook_receiver import Receiver, listening, secret_file


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
