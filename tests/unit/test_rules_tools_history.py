"""A rule tried on stored events finds what the stream found: the same rows, the same detections by the same ids."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import pyarrow as pa
import pytest
from modelward_collector.operator.client import Client
from modelward_collector.operator.rules import _pages
from modelward_collector.rules.files import read_files
from modelward_collector.rules.history import Needs, needs, search
from modelward_collector.rules.rule import Rule
from modelward_collector.rules.template import write_template
from modelward_proto.fields import BY_COLUMN

from tests.batches import Agent, envelope, events, from_rows
from tests.running import Collector, collector
from tests.stories import HOSTILE, poisoned_load, serving, stolen_credentials


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    with collector(tmp_path_factory.mktemp("history")) as started:
        for host, mark in (("gpu-17", b"A"), ("gpu-18", b"B")):
            with Agent(started.grpc_address, host=host, agent_id=mark * 16, epoch=mark * 16) as agent:
                agent.wait_welcome()
                stories = [serving(7, "good.gguf"), poisoned_load(8, "bad.joblib"), stolen_credentials(7) * 3,
                           poisoned_load(9, "evil.pkl", command=HOSTILE), poisoned_load(8, "bad.joblib")]
                batches = [from_rows(rows) for rows in stories] + [events(3000, seed=mark[0])]
                for number, batch in enumerate(batches, 1):
                    agent.send(envelope(number, batch, epoch=mark * 16))
                agent.wait_answered(*range(1, len(batches) + 1))
        yield started


@pytest.fixture(scope="module")
def client(running: Collector) -> Iterator[Client]:
    made = Client(running.http_url)
    yield made
    made.close()


def stored(running: Collector, rule: Rule) -> set[str]:
    rows = running.select("SELECT detection_id FROM modelward.detections_raw WHERE rule_id = {id:String}", id=rule.id)
    return {row["detection_id"] for row in rows}


SHIPPED = read_files([]).rules


@pytest.mark.parametrize("rule", SHIPPED, ids=[rule.name for rule in SHIPPED])
def test_each_shipped_rule_finds_in_history_what_it_found_on_the_stream(running: Collector, client: Client, rule: Rule) -> None:
    found = search(rule, lambda wanted: _pages(client, wanted, {"since": "1h"}))
    assert set(found.ids) == stored(running, rule)
    assert found.alerts == len(found.ids)


def test_the_stories_are_among_what_was_compared(running: Collector) -> None:
    names = {row["rule_name"] for row in running.select("SELECT DISTINCT rule_name FROM modelward.detections_raw")}
    assert {"shell_in_load", "credential_read"} <= names


@pytest.mark.parametrize("limit", [1, 7, 1000])
def test_pages_of_any_size_give_the_same(running: Collector, client: Client, limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rule = next(rule for rule in SHIPPED if rule.name == "shell_in_load")
    monkeypatch.setattr("modelward_collector.operator.rules.PAGE", limit)
    found = search(rule, lambda wanted: _pages(client, wanted, {"since": "1h"}))
    assert set(found.ids) == stored(running, rule)


def test_history_gives_every_row_once_across_pages(running: Collector, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelward_collector.operator.rules.PAGE", 501)
    wanted = Needs(("agent_id", "epoch", "batch", "row"), {})
    rows = pl.concat(list(_pages(client, wanted, {"since": "30d"})))
    [counted] = running.select("SELECT count() AS n FROM modelward.events_raw")
    assert rows.height == counted["n"]
    assert rows.select("agent_id", "epoch", "batch", "row").is_duplicated().sum() == 0


def test_a_rule_asks_only_for_what_it_can_match() -> None:
    rule = next(rule for rule in SHIPPED if rule.name == "credential_read_in_load")
    wanted = needs(rule)
    assert wanted.values["event_name"] == ("file_open",)
    assert set(wanted.values["file_class"]) == {"credential", "cloud_credential"}
    assert "process_working_directory" not in wanted.columns
    assert "file_class" not in needs(rule, reclassify=True).values


def test_a_rule_of_ones_own_is_tried_from_the_command(running: Collector, tmp_path: Path) -> None:
    path = write_template("my_rule", tmp_path, "me")
    path.write_text(
        path.read_text().replace("process.executable.class: network_tool", "process.executable.class: shell")
        .replace("nc 203.0.113.7 4444", "sh -c id")
    )
    done = modelward("test", str(path), "--since", "1h", url=running.http_url)
    assert done.returncode == 0, done.stderr
    assert "gpu-17" in done.stdout
    row = json.loads(modelward("test", str(path), "--since", "1h", "--json", url=running.http_url).stdout)
    [counted] = running.select(
        "SELECT count() AS n FROM modelward.events_raw WHERE event_name = 'exec' AND process_executable_class = 'shell' "
        "AND lifecycle_phase IN ('load', 'warmup', 'serve', 'stop') AND process_entry != 'entered'")
    assert row["matches"] == counted["n"]
    assert sum(row["by_host"].values()) == row["matches"] == sum(row["by_day"].values())
    assert "\\x1b" in done.stdout or "<script>" in done.stdout
    assert "\x1b[31m" not in done.stdout


def test_lists_of_ones_own_decide_on_old_events_too(running: Collector, client: Client, tmp_path: Path) -> None:
    write_template("my_rule", tmp_path, "me")
    (tmp_path / "classes.yml").write_text("version: 1\nexecutables: {network_tool: [uvicorn]}\n")
    found = read_files([tmp_path])
    before = search(found.rules[0], lambda wanted: _pages(client, wanted, {"since": "1h"}))
    after = search(found.rules[0], lambda wanted: _pages(client, wanted, {"since": "1h"}), found.classes)
    [counted] = running.select(
        "SELECT count() AS n FROM modelward.events_raw WHERE event_name = 'exec' "
        "AND endsWith(process_executable_path, '/uvicorn') AND lifecycle_phase IN ('load', 'warmup', 'serve', 'stop')")
    assert before.matches == 0
    assert after.matches == counted["n"] > 0


def modelward(*arguments: str, url: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MODELWARD_")} | {"COLUMNS": "160"}
    return subprocess.run(
        [sys.executable, "-m", "modelward_collector.operator.cli", "--url", url, "rules", *arguments],
        capture_output=True, text=True, env=environment, timeout=60, check=False)


@pytest.mark.parametrize(
    "given",
    [
        {"columns": "nosuch"}, {"columns": "event_name) FROM x --"}, {"is.event_name": "nosuch"}, {"is.process_pid": "1"},
        {"is.sentence": "x"}, {"nosuch": "1"}, {"limit": "0"}, {"limit": "60000"}, {"since": "x"}, {"after": "x"},
        {"after": "[1]"}, {"after": '["h", "x", "a", "e", 1, 2]'}, {"after": '["h", 1e400, "a", "e", 1, 2]'},
    ],
)
def test_what_history_does_not_know_is_refused(running: Collector, given: dict[str, str]) -> None:
    answer = httpx.get(f"{running.http_url}/api/v1/history", params=given, trust_env=False)
    assert answer.status_code == 400
    assert answer.json()["error"]


def test_history_has_the_columns_and_types_of_the_field_table(running: Collector) -> None:
    columns = [f.column for f in BY_COLUMN.values()]
    asked = {"columns": ",".join(columns), "limit": "10"}
    answer = httpx.get(f"{running.http_url}/api/v1/history", params=asked, trust_env=False)
    table: Any = pa.ipc.open_stream(answer.content).read_all()
    assert set(table.column_names) == set(columns)
    assert table.column("time").type == pa.timestamp("ns", tz="UTC")
