"""A detection explained by a running collector: each question of a newcomer has an answer, and what is not known is said."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from modelward_collector.explain.document import Explanation, Glossary
from modelward_collector.explain.gather import Facts, nanoseconds
from modelward_collector.explain.happened import seen
from modelward_collector.explain.words import TERMS
from modelward_proto.fields import SCHEMA_VERSION
from modelward_proto.v1.stream_pb2 import Door, Hello

from tests.batches import BOOT, Agent, envelope, from_rows
from tests.running import Collector, collector
from tests.stories import HOSTILE, Row, identified, poisoned_load, process, serving, stolen_credentials

MINE = """\
title: Something was written
id: 6a1c5a3e-3c1f-4b7e-9d0a-6f4f6a5b7c8d
level: high
logsource: {product: modelward, category: file_open}
detection: {written: {file.path: /srv/secret-plan}, condition: written}
tags: [attack.t1565, atlas.aml.t0018]
modelward:
  reason: Test.
  next: Test.
  sentence: Test.
  tests: {match: [{file.path: /srv/secret-plan}], no_match: [{file.path: /x}]}
"""


@pytest.fixture(scope="module")
def rules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rules")
    (folder / "mine.yml").write_text(MINE)
    return folder


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, rules: Path) -> Iterator[Collector]:
    hello = Hello(
        agent_id=b"A" * 16, epoch=b"E" * 16, schema_version=SCHEMA_VERSION, agent_version="0.1.0", host_name="gpu-17",
        boot_id=BOOT, kernel_release="6.18.0", first_unacked=1,
        doors=[Door(effect="exec", door="tp_btf/sched_process_exec", reason="first choice", proven=True),
               Door(effect="file_open", door="lsm/file_open", reason="first choice", proven=False, loss="32-bit calls")],
    )
    with collector(tmp_path_factory.mktemp("explain"), rules=[rules]) as started:
        with Agent(started.grpc_address, hello=hello) as agent:
            agent.wait_welcome()
            agent.heartbeat({("seen", "exec"): 10})
            stories = [serving(7, "good.gguf"), poisoned_load(8, "bad.joblib"), stolen_credentials(7), sleeper(9), written(),
                       poisoned_load(11, HOSTILE, command=HOSTILE, program=f"/tmp/{HOSTILE}/sh"), lost()]
            agent.send(*(envelope(number, from_rows(rows)) for number, rows in enumerate(stories, 1)))
            agent.wait_answered(*range(1, len(stories) + 1))
            # The word of an agent is kept within a second or two.
            until = time.monotonic() + 20
            while not started.select("SELECT 1 FROM hosts") and time.monotonic() < until:
                time.sleep(0.1)
            yield started


def sleeper(instance: int) -> list[Row]:
    """A child that a load forked runs a shell while the server answers."""
    now = time.time_ns()
    shell = process(5000, "/usr/bin/dash", "python3.11 > dash", "sh -c id") | {
        "time": now, "event.name": "exec", "lifecycle.phase": "serve", "lifecycle.origin.phase": "load",
        "lifecycle.origin.scope": "open", "lifecycle.origin.via": "fork", "lifecycle.origin.instance": instance,
        "lifecycle.origin.age_s": 7.5, "lifecycle.evidence": "reconstructed",
    }
    return [shell, identified(instance, "ranker.joblib", now)]


def written() -> list[Row]:
    return [process(6000, "/usr/bin/python3.11", "python3.11") | {
        "time": time.time_ns(), "event.name": "file_open", "event.outcome": "failure", "file.path": "/srv/secret-plan",
        "file.access": "write", "truncated": True, "raced": True, "lifecycle.phase": "serve", "model.instance": 12345}]


def lost() -> list[Row]:
    return [{"time": time.time_ns(), "event.name": "loss", "loss.kind": "file_open", "loss.hop": "ring_dropped", "count": 40}]


def detection(running: Collector, rule: str, text: str = "") -> str:
    rows = running.select("SELECT detection_id FROM detections WHERE rule_name = {rule:String} "
                          "AND position(sentence, {text:String}) > 0 ORDER BY time LIMIT 1", rule=rule, text=text)
    return str(rows[0]["detection_id"])


def explained(running: Collector, id: str) -> Explanation:
    answer = httpx.get(f"{running.http_url}/api/v1/detections/{id}/explain", trust_env=False, timeout=30)
    assert answer.status_code == 200, answer.text
    made = Explanation.from_json(answer.json())
    assert json.loads(json.dumps(made.as_json())) == answer.json()
    return made


def section(made: Explanation, key: str) -> str:
    [found] = [section for section in made.sections if section.key == key]
    return "\n".join([found.title, *found.sentences, *(f"{row.mark} {row.what} {row.text}" for row in found.evidence),
                      *found.commands])


def test_a_shell_in_a_load_is_explained_from_hook_to_what_to_do(running: Collector) -> None:
    made = explained(running, detection(running, "shell_in_load", "bad.joblib"))
    assert "process 4712 ran /usr/bin/dash, a shell: sh -c id" in section(made, "what")
    assert "process.executable.class shell" in section(made, "rule")
    assert "'tp_btf/sched_process_exec'" in section(made, "seen")
    assert "a fixed reporting point of the kernel" in section(made, "seen")
    assert "the hook reported it" in section(made, "seen")
    assert "from start to load: it opened a model file, /srv/bad.joblib" in section(made, "phase")
    assert "this detection here it happened" in section(made, "phase")
    assert "It happened inside the load of bad.joblib" in section(made, "load")
    assert "sha256 9f86d081884c" in section(made, "model")
    assert "this process 4712 /usr/bin/dash: sh -c id" in section(made, "processes")
    assert "modelward models --model 9f86d081884c" in section(made, "next")
    assert f"modelward silence {made.id[:12]}" in section(made, "silence")


def test_the_way_of_an_event_is_in_the_order_of_its_times(running: Collector) -> None:
    made = explained(running, detection(running, "shell_in_load", "bad.joblib"))
    [seen] = [section for section in made.sections if section.key == "seen"]
    assert [row.what for row in seen.evidence] == ["kernel", "agent", "collector", "store"]
    times = [nanoseconds(row.when) for row in seen.evidence]
    assert times == sorted(times)


def test_every_term_is_explained_once_and_where_it_is_first_needed(running: Collector) -> None:
    made = explained(running, detection(running, "shell_in_load", "bad.joblib"))
    told = [term.word for section in made.sections for term in section.terms]
    assert len(told) == len(set(told))
    assert {"phase", "evidence", "scope", "origin", "hook", "door", "digest", "workload"} <= set(told) <= set(TERMS)


def test_what_a_load_left_behind_is_tied_to_it_and_doubt_is_said(running: Collector) -> None:
    made = explained(running, detection(running, "shell_in_load", "ranker.joblib"))
    assert "came out of the load of ranker.joblib as a copy of it, 7.5 s before this" in section(made, "load")
    assert "The server was answering requests" in section(made, "phase")
    assert "warn phase it is reconstructed" in section(made, "sure")
    assert "sha256 9f86d081884c" in section(made, "model")


def test_a_theft_while_serving_is_not_blamed_on_a_load_and_does_not_clear_the_model(running: Collector) -> None:
    made = explained(running, detection(running, "credential_read"))
    assert "No load is tied to it" in section(made, "load")
    assert "not cleared" in section(made, "load")
    assert "has not proven" in section(made, "seen")
    assert "What this hook cannot see: 32-bit calls" in section(made, "seen")
    assert "a security hook" in section(made, "seen")


def test_what_failed_was_cut_or_raced_is_said(running: Collector) -> None:
    made = explained(running, detection(running, "mine"))
    assert "which failed" in section(made, "what")
    assert "its end is missing" in section(made, "what")
    assert "may have swapped them" in section(made, "what")
    assert "warn result it was tried, and failed" in section(made, "sure")
    assert "was not identified" in section(made, "model")


def test_a_pause_of_now_is_not_said_of_what_was_seen_before() -> None:
    """A host tells which hooks it has now; a paused agent has none."""
    then = "2026-11-25T11:39:14.000000000Z"
    shell = {"event_name": "exec", "host_name": "gpu-17", "time": then, "detected_at": then, "late": False, "rule_name": "mine"}
    none = {"effect": "exec", "door": "none", "reason": "paused", "proven": False, "loss": "exec is not seen"}
    facts = Facts(shell, (), (), (), (), (), (), {"doors": [none]}, (), None, None)
    said = " ".join(seen(facts, Glossary(TERMS)).sentences)
    assert "not known here" in said
    assert "'none'" not in said
    assert "not seen" not in said


def test_a_loss_of_the_host_lowers_how_sure_it_is(running: Collector) -> None:
    assert "40 file_open at 'ring_dropped'" in section(explained(running, detection(running, "credential_read")), "sure")


def test_a_loss_itself_is_explained_without_a_process(running: Collector) -> None:
    made = explained(running, detection(running, "events_lost"))
    assert [section.key for section in made.sections] == ["what", "rule", "next", "seen", "sure", "silence"]
    assert "cannot be silenced" in section(made, "silence")


def test_a_rule_that_changed_since_is_not_shown_as_the_reason(running: Collector, rules: Path) -> None:
    id = detection(running, "mine")
    (rules / "mine.yml").write_text(MINE.replace("Something", "Anything"))
    deadline = time.monotonic() + 30
    while "changed since" not in (text := section(explained(running, id), "rule")) and time.monotonic() < deadline:
        time.sleep(0.3)
    assert "changed since" in text
    assert "file.path" not in text
    (rules / "mine.yml").unlink()
    while "not in force" not in (text := section(explained(running, id), "rule")) and time.monotonic() < deadline:
        time.sleep(0.3)
    assert "not in force" in text


def test_hostile_texts_are_in_it_as_they_came_and_in_no_command(running: Collector) -> None:
    made = explained(running, detection(running, "shell_in_load", "/tmp/<img"))
    assert HOSTILE in section(made, "what")
    assert all("<" not in command for section in made.sections for command in section.commands)


@pytest.mark.parametrize("id", ["abcdefabcdef", "abc", "ABCDEF", "%27%20OR%201", "g" * 32])
def test_an_id_that_names_nothing_is_told(running: Collector, id: str) -> None:
    answer = httpx.get(f"{running.http_url}/api/v1/detections/{id}/explain", trust_env=False)
    assert answer.status_code == 404
    assert answer.json()["error"]


def modelward(running: Collector, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {k: v for k, v in os.environ.items() if not k.startswith("MODELWARD_")} | {"COLUMNS": "110"} | environment
    return subprocess.run(
        [sys.executable, "-m", "modelward_collector.operator.cli", "--url", running.http_url, *arguments],
        capture_output=True, text=True, env=env, timeout=60, check=False)


def test_the_command_explains_by_the_id_that_the_list_shows(running: Collector) -> None:
    listed = modelward(running, "detections", "--rule", "credential_read").stdout
    id = detection(running, "credential_read")[:12]
    assert id in listed
    done = modelward(running, "explain", id)
    assert done.returncode == 0, done.stderr
    assert "How it was seen" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 200


def test_the_command_says_what_is_wrong_with_an_id(running: Collector) -> None:
    done = modelward(running, "explain", "abcdefab")
    assert done.returncode == 1
    assert "No detection has an id that begins with abcdefab" in done.stderr


def test_hostile_texts_reach_the_terminal_inert(running: Collector) -> None:
    done = modelward(running, "explain", detection(running, "shell_in_load", "/tmp/<img"), FORCE_COLOR="1")
    assert "<script>" in done.stdout
    assert "\x1b[31m\u202e" not in done.stdout
    assert "{{7*7}}" in "".join(done.stdout.split())


def test_an_explanation_that_is_none_is_refused() -> None:
    for data in ({}, {"sections": []}, {"sections": [{"key": 1}]}):
        wrong: dict[str, Any] = data
        with pytest.raises((KeyError, TypeError)):
            Explanation.from_json(wrong)
