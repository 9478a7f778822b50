"""What is loaded now, and the timeline of a workload, by the API of a running collector."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.batches import Agent, envelope, from_rows
from tests.lives import Life, Row, busy_server
from tests.running import Collector, collector

SERVER = "container:5e1ec7ed0001"


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with collector(tmp_path_factory.mktemp("workloads"), silent_after_s=3600) as running:
        numbers = itertools.count(1)
        with Agent(running.grpc_address, host="gpu-17") as agent:
            agent.wait_welcome()
            agent.heartbeat()
            for rows in (busy_server(), ended(10, "unloaded", unload=True), ended(20, "exited"), ended(30, "failed", fail=True),
                         ended(40, "rebooted", boot="99999999-0000-4000-8000-000000000001"), many(50)):
                number = next(numbers)
                agent.send(envelope(number, from_rows(rows)))
                agent.wait_answered(number)
            with httpx.Client(base_url=running.http_url, timeout=60) as client:
                _heard(running)
                yield client


def _heard(running: Collector) -> None:
    for _ in range(200):
        if running.select("SELECT 1 FROM hosts WHERE boot_id != ''"):
            return


def ended(instance: int, model: str, *, unload: bool = False, fail: bool = False, **life: Any) -> list[Row]:
    """A server with one model, of which nothing is loaded any more."""
    made = Life(f"container:{instance:012d}", **life)
    server = made.process(4000 + instance)
    made.load(900, server, instance, f"/srv/{model}")
    made.identity(890, server, instance, model)
    if unload:
        made.turn(600, server, "serve", "serve", "unload", instance=instance)
    elif fail:
        made.turn(600, server, "load", "stop", "signal", instance=instance, event__outcome="failure")
    elif "boot" not in life:
        made.exit(600, server)
    return made.rows


def many(instance: int) -> list[Row]:
    """One process that loaded a model twice, of which one load is over, and on which a declaration was refused."""
    made = Life("container:0000000000ff", runtime="ollama", version="0.9")
    server = made.process(4900)
    for at in (0, 1):
        made.load(900 - at, server, instance + at, "/srv/twice")
        made.identity(890 - at, server, instance + at, "twice", digest="ab" * 32)
    made.turn(700, server, "serve", "serve", "unload", instance=instance)
    made.turn(600, server, "serve", "load", "declared", instance=instance + 1, event__outcome="failure")
    return made.rows


def listed(http: httpx.Client, path: str, **asked: str) -> list[dict[str, Any]]:
    answer = http.get(f"/api/v1/{path}", params=asked)
    assert answer.status_code == 200, answer.text
    rows: list[dict[str, Any]] = answer.json()["rows"]
    return rows


@pytest.mark.parametrize("model", ["unloaded", "exited", "failed", "rebooted"])
def test_a_load_is_over_when_it_was_unloaded_failed_or_its_process_or_host_ended(http: httpx.Client, model: str) -> None:
    [row] = listed(http, "models", model=model)
    assert (row["loaded_now"], row["loaded_unknown"], row["phase"]) == ("0", "0", "")


def test_what_is_loaded_now_is_counted_with_its_phase_and_who_loaded_it(http: httpx.Client) -> None:
    [row] = listed(http, "models", model="twice")
    assert (row["instances"], row["loaded_now"], row["phase"]) == ("2", "1", "serve")
    assert row["runtimes"] == ["ollama 0.9"]
    assert row["host_names"] == ["gpu-17"]


def test_a_model_is_found_by_its_name_its_digest_and_the_start_of_that(http: httpx.Client) -> None:
    assert [[row["model_id"] for row in listed(http, "models", model=model)] for model in (
        "twice", "ab" * 32, "ABABAB", "abab")] == [["twice"], ["twice"], ["twice"], []]


def test_the_places_of_a_model_are_told_by_host_and_workload(http: httpx.Client) -> None:
    [place] = listed(http, "loads", model="twice")
    assert (place["host_name"], place["workload_id"], place["loads"], place["loaded_now"], place["phase"], place["runtime"]) == (
        "gpu-17", "container:0000000000ff", "2", "1", "serve", "ollama")


@pytest.mark.parametrize("of", [SERVER, "container:5e1e", "5e1ec7", "tiny-llama", "717171"])
def test_a_workload_is_found_by_its_id_the_start_of_it_or_a_model(http: httpx.Client, of: str) -> None:
    made = http.get("/api/v1/workload-timeline", params={"of": of}).json()
    assert made["workload"] == SERVER
    assert [(lane["model"], lane["thread"]) for lane in made["lanes"]] == [("", 0), ("tiny-llama", 4000), ("sentiment", 4007)]


def test_effects_of_a_planted_process_are_on_the_load_that_it_came_from(http: httpx.Client) -> None:
    made = http.get("/api/v1/workload-timeline", params={"of": SERVER}).json()
    kinds = [mark["kind"] for mark in made["lanes"][2]["marks"]]
    assert sorted(kinds) == ["detection", "detection", "exec", "open"]


def test_a_span_holds_only_what_was_in_it(http: httpx.Client) -> None:
    made = http.get("/api/v1/workload-timeline", params={"of": SERVER, "since": "15m", "until": "9m"}).json()
    assert [mark["kind"] for lane in made["lanes"] for mark in lane["marks"]].count("connect") == 0
    for lane in made["lanes"]:
        for bar in lane["bars"]:
            assert made["since"] <= bar["from"] < bar["to"] <= made["until"]


@pytest.mark.parametrize(
    ("asked", "status", "words"),
    [
        ({"of": "tiny-lama"}, 404, "tiny-llama"),
        ({"of": "container:0000"}, 404, "More than one workload begins with"),
        ({"of": "tiny-llama", "host": "nosuch"}, 404, "on host nosuch"),
        ({}, 400, "a workload or a model is wanted"),
        ({"of": "tiny-llama", "since": "1h", "until": "2h"}, 400, "not before the end"),
        ({"of": "tiny-llama", "since": "yesterday"}, 400, "time is wanted, such as"),
        ({"of": "x", "nosuch": "1"}, 400, "is no filter of a timeline"),
        ({"of": "'; DROP TABLE x --"}, 404, "Nothing is called"),
    ],
)
def test_a_wrong_request_is_told_in_a_sentence(http: httpx.Client, asked: dict[str, str], status: int, words: str) -> None:
    answer = http.get("/api/v1/workload-timeline", params=asked)
    assert answer.status_code == status
    assert words in answer.json()["error"]
