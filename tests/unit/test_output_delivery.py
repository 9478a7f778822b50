"""Every detection reaches the webhook at least once and in order, whatever is killed, and whatever the receiver does."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.batches import Agent, now_ns
from tests.running import collector
from tests.stories import HOSTILE, identified, stolen_credentials
from tests.unit.output_site import Site, eventually, numbers, revoke, shell, silence
from tests.unit.test_collector_delivery import RULE
from tests.webhook_receiver import Delivery, Receiver, listening, secret_file


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
    eventually(lambda: running.collector.select("SELECT 1 FROM outputs WHERE behind = 0"), 60)
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
    [row] = eventually(lambda: site.collector.select("SELECT behind FROM outputs WHERE behind = 0"))
    assert row["behind"] == 0


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


def test_one_that_an_exception_without_a_model_covered_is_told_when_it_turns_out_to_have_one(site: Site) -> None:
    exception = silence(site, digest="")
    try:
        site.send(shell("identified late", instance=34))
        site.send(shell("another program", instance=34) | {"process.executable.path": "/usr/bin/bash"})
        # In order: once this one is told, the one before was left out.
        site.receiver.wait(lambda r: r.taken)
        assert site.id_of("identified late") not in site.receiver.ids
        site.send(identified(34, "late.joblib", now_ns()))
        site.receiver.wait(lambda r: site.id_of("identified late") in r.ids)
    finally:
        revoke(site, exception)


def test_it_has_no_privilege_left(site: Site) -> None:
    [pid] = site.collector.children("modelward_collector.outputs")
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line)
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[name], 16) == 0, name
    assert status["NoNewPrivs"] == "1"
