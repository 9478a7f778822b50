"""The dashboard, its variables and its alert rules on a real collector with real rows, through its ClickHouse interface."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from modelward_proto.fields import SCHEMA_VERSION
from modelward_proto.v1 import store_pb2_grpc
from modelward_proto.v1.store_pb2 import ExceptionRequest
from modelward_proto.v1.stream_pb2 import MODE_PAUSED, Door, Hello

from tests.batches import BOOT, Agent, envelope, events, from_rows
from tests.fake_grafana import ALL, NUMBER, FakeGrafana
from tests.running import Collector, collector
from tests.stories import Row, poisoned_load, serving, stolen_credentials

FOLDER = Path(__file__).parents[2] / "dashboards"
PANELS = {p["title"] + f" ({p['type']})": p for p in json.loads((FOLDER / "modelward-security.json").read_text())["panels"]
          if p["type"] != "row"}
TOKEN = "a token of the test"
HOUR, DAY = 3600, 86400
NOW = int(time.time())
ODD = "o'brien (lab)"
"""A label that would end a quoted text. Host names cannot: the collector takes letters, digits, dots and hyphens."""


def hello(number: int, host: str, *labels: str) -> dict[str, Any]:
    agent, epoch = bytes([number]) * 16, bytes([number + 100]) * 16
    door = Door(effect="exec", door="tp_btf", reason="test", proven=True)
    return {"agent_id": agent, "epoch": epoch, "host": host, "hello": Hello(
        agent_id=agent, epoch=epoch, schema_version=SCHEMA_VERSION, agent_version="0.1.0", host_name=host, boot_id=BOOT,
        kernel_release="6.18.0", first_unacked=1, doors=[door], labels=labels)}


def earlier(rows: list[Row], days: int) -> list[Row]:
    return [row | {"time": row["time"] - days * DAY * 10**9} for row in rows]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    folder = tmp_path_factory.mktemp("grafana")
    (folder / "token").write_text(TOKEN)
    with collector(folder, http_token_file=folder / "token", silent_after_s=600) as made:
        story = {
            ("gpu-1", "env=prod"): [poisoned_load(8, "bad.joblib"), stolen_credentials(7), serving(7, "good.gguf")],
            ("gpu-2", f"env={ODD}"): [poisoned_load(9, "evil.pkl"), earlier(poisoned_load(5, "old.pkl"), 3)],
            ("silenced", "env=prod"): [stolen_credentials(6)],
        }
        for number, ((host, *labels), parts) in enumerate(story.items(), 1):
            with Agent(made.grpc_address, **hello(number, host, *labels)) as agent:
                agent.wait_welcome()
                opens = events(100, event_name="file_open", file_path="/usr/lib/libc.so.6")
                gap = from_rows([{"time": time.time_ns(), "event.name": "loss", "host.boot_id": BOOT, "count": 10}])
                batches = [opens, gap, *map(from_rows, parts)]
                epoch = bytes([number + 100]) * 16
                agent.send(*(envelope(i, batch, epoch=epoch) for i, batch in enumerate(batches, 1)))
                agent.wait_answered(*range(1, len(batches) + 1))
                paused = {"mode": MODE_PAUSED, "mode_reason": "maintenance"} if host == "silenced" else {}
                agent.heartbeat({("seen", "exec"): 510, ("ring_dropped", "file_open"): 10 * number}, **paused)
                until(made, f"SELECT 1 FROM hosts WHERE lost = {10 * number}")
        silence(made)
        yield made


def until(made: Collector, sql: str) -> None:
    deadline = time.monotonic() + 20
    while not made.select(sql):
        assert time.monotonic() < deadline, sql
        time.sleep(0.05)


def silence(made: Collector) -> None:
    [found] = made.select("SELECT rule_name, process_executable_path AS path, model_digest FROM detections "
                          "WHERE host_name = 'silenced' AND rule_name = 'credential_read'")
    with grpc.insecure_channel(f"unix:{made.data / 'run' / 'store.sock'}") as channel:
        reply = store_pb2_grpc.StoreStub(channel).Except(ExceptionRequest(
            id=secrets.token_hex(8), rule_name=found["rule_name"], model_digest=found["model_digest"],
            executable_path=found["path"], host_name="silenced", reason="a test", author="test",
            expires_ns=time.time_ns() + HOUR * 10**9), timeout=20)
    assert not reply.error
    until(made, "SELECT 1 FROM detections WHERE host_name = 'silenced' AND silenced_by != ''")


def reader(running: Collector, begin: int = NOW - DAY, end: int = NOW + HOUR, **chosen: Any) -> FakeGrafana:
    environment = {"MODELWARD_HOST": "127.0.0.1", "MODELWARD_PORT": running.http_url.rpartition(":")[2], "MODELWARD_TLS": "false",
                   "MODELWARD_TOKEN": TOKEN, "MODELWARD_CA": ""}
    return FakeGrafana(FOLDER, environment, begin, end, chosen=chosen)


@pytest.fixture(scope="module")
def grafana(running: Collector) -> FakeGrafana:
    return reader(running)


def total(grafana: FakeGrafana, name: str) -> int:
    answer = grafana.panel(name)
    return sum(answer.of(answer.kind(NUMBER)[0]))


@pytest.mark.parametrize("name", PANELS)
def test_panel_gets_columns_that_it_can_show(grafana: FakeGrafana, name: str) -> None:
    answer = grafana.panel(name)
    assert grafana.missing(name, answer) == ""
    assert answer.rows


@pytest.mark.parametrize("name", PANELS)
def test_panel_works_with_every_filter_set(running: Collector, name: str) -> None:
    narrow = reader(running, env=["prod", ODD], host=["gpu-2", "gpu-1", "a,b"], severity=["critical"])
    assert narrow.missing(name, narrow.panel(name)) == ""


@pytest.mark.parametrize("name", [n for n, p in PANELS.items() if "$__time" in p["targets"][0]["rawSql"]])
def test_nothing_outside_the_chosen_time_is_shown(running: Collector, name: str) -> None:
    answer = reader(running, NOW + 2 * DAY, NOW + 3 * DAY).panel(name)
    assert not answer.rows or not any(v for v in answer.rows[0] if v == v)


def test_summary_counts_what_was_found(grafana: FakeGrafana) -> None:
    counts = {name.removesuffix(" (stat)"): answer.rows[0][0] for name in PANELS if name.endswith("(stat)")
              for answer in [grafana.panel(name)]}
    assert counts["Incidents"] == 3
    assert (counts["Detections"], counts["High or critical"]) == (3, 3)
    assert (counts["Silent"], counts["Paused or degraded"], counts["Events lost"]) == (0, 1, 60)


def test_a_longer_time_shows_the_older_detection(running: Collector) -> None:
    assert total(reader(running, NOW - 7 * DAY), "Detections (stat)") == 4
    assert total(reader(running, NOW - 7 * DAY, NOW - DAY), "Detections by severity (timeseries)") == 1


@pytest.mark.parametrize(("name", "column", "path", "wanted"), [
    ("Incidents (table)", "key", "/?incident=", "incidents"), ("Detections (table)", "id", "/?detection=", "detections"),
])
def test_links_lead_to_what_the_console_knows(
    running: Collector, grafana: FakeGrafana, name: str, column: str, path: str, wanted: str
) -> None:
    link = f"${{console}}{path}${{__data.fields.{column}:percentencode}}"
    assert link in json.dumps(grafana.panels[name])
    one = grafana.panel(name).of(column)[0]
    parameters = {"key" if wanted == "incidents" else "ids": one}
    headers = {"authorization": f"Bearer {TOKEN}"}
    answer = httpx.get(f"{running.http_url}/api/v1/{wanted}", params=parameters, headers=headers, timeout=30)
    assert len(answer.json()["rows"]) == 1


def test_silenced_detections_are_left_out(grafana: FakeGrafana) -> None:
    assert "silenced" not in grafana.panel("Hosts with most detections (bargauge)").of("host")
    assert "silenced" not in grafana.panel("Incidents (table)").of("host")
    assert "silenced" in grafana.panel("Hosts (table)").of("host")


@pytest.mark.parametrize(("chosen", "hosts"), [
    ({"env": ["prod"]}, {"gpu-1"}),
    ({"env": [ODD, "prod"]}, {"gpu-1", "gpu-2"}),
    ({"env": ALL, "host": ["gpu-2"]}, {"gpu-2"}),
    ({"severity": ["critical"]}, {"gpu-1", "gpu-2"}),
    ({"severity": ["low"]}, set()),
])
def test_variables_narrow_the_incidents(running: Collector, chosen: dict[str, Any], hosts: set[str]) -> None:
    assert set(reader(running, **chosen).panel("Incidents (table)").of("host")) == hosts


def test_variables_offer_what_there_is(running: Collector, grafana: FakeGrafana) -> None:
    assert grafana.options("env") == [ODD, "prod"]
    assert grafana.options("host") == ["gpu-1", "gpu-2", "silenced"]
    assert reader(running, env=[ODD]).options("host") == ["gpu-2"]
    severities = {row["severity"] for row in running.select("SELECT DISTINCT toString(severity) AS severity FROM detections")}
    assert severities <= set(grafana.options("severity"))


def test_detection_alert_fires_for_what_was_just_stored_and_not_for_the_silenced(grafana: FakeGrafana) -> None:
    fired = grafana.fires("modelward-detection")
    assert {(row["host_name"], row["rule_name"]) for row in fired} >= {("gpu-1", "shell_in_load"), ("gpu-2", "shell_in_load")}
    assert "silenced" not in {row["host_name"] for row in fired}


def test_silent_alert_fires_for_no_host_that_speaks(running: Collector, grafana: FakeGrafana) -> None:
    assert grafana.fires("modelward-silent") == []


def test_every_alert_names_the_provisioned_source_and_this_dashboard(grafana: FakeGrafana) -> None:
    for rule in grafana.alerts.values():
        assert {q["datasourceUid"] for q in rule["data"]} == {grafana.source["uid"], "__expr__"}
        assert rule["annotations"]["__dashboardUid__"] == grafana.dashboard["uid"]
