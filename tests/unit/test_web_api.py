"""The HTTP API of a running collector: lists, filters, people's SQL, the live stream, health and metrics."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.batches import Agent, envelope, events, from_rows
from tests.running import Collector, collector
from tests.stories import HOSTILE, poisoned_load, serving, stolen_credentials


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    rules = tmp_path_factory.mktemp("rules")
    (rules / "broken.yml").write_text("title: x\ndetection: {a: {file.paht: x}, condition: a}\n")
    with collector(tmp_path_factory.mktemp("web"), rules=[rules]) as started:
        with Agent(started.grpc_address, host="gpu-17") as agent:
            agent.wait_welcome()
            agent.send(
                envelope(1, events(500, model_instance=3)),
                envelope(2, from_rows(serving(7, "good.gguf"))),
                envelope(3, from_rows(poisoned_load(8, "bad.joblib"))),
                envelope(4, from_rows(stolen_credentials(7))),
                envelope(5, from_rows(poisoned_load(9, "evil.pkl", command=HOSTILE))),
            )
            agent.wait_answered(1, 2, 3, 4, 5)
            agent.heartbeat(
                {("seen", "exec"): 510, ("ring_dropped", "file_open"): 10}, problems=["the disk is full"]
            )
            deadline = time.monotonic() + 10
            while not started.select("SELECT 1 FROM hosts WHERE lost = 10") and time.monotonic() < deadline:
                time.sleep(0.05)
            yield started


@pytest.fixture
def http(running: Collector) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=running.http_url, trust_env=False, timeout=30) as client:
        yield client


def rows(http: httpx.Client, path: str, **filters: str) -> list[dict[str, Any]]:
    answer = http.get(f"/api/v1/{path}", params=filters)
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    assert set(document["columns"]) == set(document["rows"][0] if document["rows"] else document["columns"])
    found: list[dict[str, Any]] = document["rows"]
    return found


def test_a_poisoned_load_is_a_detection_with_model_chain_and_advice(http: httpx.Client) -> None:
    [found] = [d for d in rows(http, "detections", rule="shell_in_load") if "bad.joblib" in d["sentence"]]
    assert found["severity"] == "critical"
    assert found["model_id"] == found["lifecycle_origin_model"] == "bad.joblib"
    assert found["process_chain"] == "python3.11 > dash"
    assert found["reason"]
    assert found["next_step"]


def test_64_bit_numbers_are_text_and_times_are_utc(http: httpx.Client) -> None:
    row = rows(http, "events", event="exec")[0]
    assert isinstance(row["model_instance"], str)
    assert row["time"].endswith("Z")
    assert "T" in row["time"]


def test_rows_of_a_detection_are_found_by_their_names(http: httpx.Client) -> None:
    [found] = [d for d in rows(http, "detections", rule="shell_in_load") if "bad.joblib" in d["sentence"]]
    [event] = rows(http, "events", names=",".join(found["events"]))
    assert event["process_command_line"] == "sh -c id"


@pytest.mark.parametrize(
    ("path", "filters", "holds"),
    [
        ("detections", {"min_severity": "critical"}, lambda r: r["severity"] == "critical"),
        ("detections", {"severity": "low,medium,high"}, lambda r: r["severity"] in ("low", "medium", "high")),
        (
            "detections",
            {"model": "bad.joblib"},
            lambda r: "bad.joblib" in (r["model_id"], r["lifecycle_origin_model"]),
        ),
        ("detections", {"phase": "load"}, lambda r: r["lifecycle_phase"] == "load"),
        ("incidents", {"q": "SH -C ID"}, lambda r: "sh -c id" in r["sentence"]),
        ("incidents", {"host": "gpu-17", "since": "1h"}, lambda r: r["host_name"] == "gpu-17"),
        (
            "events",
            {"event": "lifecycle,model_identity"},
            lambda r: r["event_name"] in ("lifecycle", "model_identity"),
        ),
        ("events", {"process": "4712"}, lambda r: r["process_pid"] == 4712),
        ("events", {"process": "2f0c1a2b-4712-55000000"}, lambda r: r["process_pid"] == 4712),
        ("events", {"process": "DASH"}, lambda r: "dash" in r["process_executable_path"]),
        ("models", {"q": "good"}, lambda r: r["model_id"] == "good.gguf"),
        ("hosts", {"host": "gpu-17"}, lambda r: r["host_name"] == "gpu-17"),
        ("ledger", {"host": "gpu-17"}, lambda r: r["host_name"] == "gpu-17"),
    ],
)
def test_a_filter_lets_through_only_what_it_says(
    http: httpx.Client, path: str, filters: dict[str, str], holds: Any
) -> None:
    found = rows(http, path, **filters)
    assert found
    assert all(holds(row) for row in found)


@pytest.mark.parametrize(
    ("path", "filters"),
    [
        ("detections", {"host": "' OR 1 --"}),
        ("events", {"q": "x') OR 1 OR positionCaseInsensitive('', '"}),
        ("events", {"process": "{q:String}"}),
        ("incidents", {"key": "\\' OR \\'1\\'=\\'1"}),
        ("models", {"model": "\t\n\\N"}),
        ("events", {"until": "1971-01-01"}),
    ],
)
def test_a_hostile_filter_is_a_value_and_no_sql(
    http: httpx.Client, path: str, filters: dict[str, str]
) -> None:
    assert rows(http, path, **filters) == []


@pytest.mark.parametrize(
    ("path", "filters", "word"),
    [
        ("detections", {"severity": "hihg"}, "hihg"),
        ("detections", {"sicne": "1h"}, "sicne"),
        ("events", {"since": "yesterday"}, "yesterday"),
        ("events", {"limit": "1001"}, "1000"),
        ("events", {"limit": "-1"}, "limit"),
        ("events", {"names": "a/b"}, "agent/epoch/batch/row"),
        ("timeline", {"bins": "0"}, "bins"),
    ],
)
def test_a_wrong_filter_is_told_in_one_sentence(
    http: httpx.Client, path: str, filters: dict[str, str], word: str
) -> None:
    answer = http.get(f"/api/v1/{path}", params=filters)
    assert answer.status_code == 400
    assert word in answer.json()["error"]


def test_a_list_says_when_it_was_cut(http: httpx.Client) -> None:
    assert http.get("/api/v1/events", params={"limit": "10"}).json()["complete"] is False
    assert http.get("/api/v1/models").json()["complete"] is True


def test_sql_of_a_person_passes_the_gate_and_gives_rows(http: httpx.Client) -> None:
    answer = http.post(
        "/api/v1/query", content="SELECT count() AS n FROM events WHERE event_name = 'model_identity'"
    )
    assert answer.json() == {"columns": ["n"], "rows": [{"n": "3"}], "complete": True}


@pytest.mark.parametrize(
    ("sql", "status"),
    [
        ("SELECT * FROM file('/etc/passwd')", 403),
        ("DROP TABLE events", 403),
        ("SELECT 1; SELECT 2", 403),
        ("SELECT nosuch FROM events", 400),
        ("what did it do", 400),
        ("SELECT length(groupArray(number)) FROM numbers(1000000000)", 422),
    ],
)
def test_sql_that_is_not_run_gets_a_sentence(http: httpx.Client, sql: str, status: int) -> None:
    answer = http.post("/api/v1/query", content=sql)
    assert answer.status_code == status
    assert set(answer.json()) == {"error"}


def test_sql_gives_the_format_that_was_asked_for(http: httpx.Client) -> None:
    answer = http.post("/api/v1/query?format=CSVWithNames", content="SELECT 1 AS a, 'x' AS b")
    assert answer.text == '"a","b"\n1,"x"\n'
    assert http.post("/api/v1/query", content="SELECT 1 AS a FORMAT CSV").text == "1\n"
    assert http.post("/api/v1/query?format=Template", content="SELECT 1").status_code == 403


def test_a_query_that_is_too_long_is_refused_before_it_is_read_whole(http: httpx.Client) -> None:
    answer = http.post("/api/v1/query", content="SELECT '" + "x" * 100_000 + "'")
    assert answer.status_code == 413


def test_the_overview_tells_loss_problems_and_broken_rules(http: httpx.Client) -> None:
    deadline = time.monotonic() + 15
    while not (found := http.get("/api/v1/overview").json())["problems"] and time.monotonic() < deadline:
        time.sleep(0.1)
    assert found["totals"]["lossy"] == "1"
    assert found["hosts"][0]["problems"] == ["the disk is full"]
    assert int(found["store"]["events"]) > 0
    assert found["store"]["retention_days"] == 30
    [problem] = [p for p in found["problems"] if "file.paht" in p["message"]]
    assert problem["line"] == 2


def test_rules_in_force_are_listed(http: httpx.Client) -> None:
    names = {row["name"] for row in rows(http, "rules")}
    assert "shell_in_load" in names
    assert "broken" not in names


def test_the_field_table_is_served(http: httpx.Client) -> None:
    found = {row["name"]: row for row in rows(http, "fields")}
    assert found["lifecycle.phase"]["values"] == ["unknown", "start", "load", "warmup", "serve", "stop"]


def test_healthz_names_its_parts(http: httpx.Client) -> None:
    answer = http.get("/healthz")
    assert answer.status_code == 200
    assert answer.json() == {"ok": True, "parts": {"store": True, "receivers": True}, "outputs": {}}


def test_metrics_are_of_all_processes(http: httpx.Client) -> None:
    text = http.get("/metrics").text
    assert "modelward_received_batches_total 5.0" in text


def test_the_timeline_counts_every_detection(http: httpx.Client) -> None:
    found = http.get("/api/v1/timeline", params={"since": "1h", "bins": "10"}).json()
    counted = sum(int(row["n"]) for row in found["rows"])
    assert counted == len(rows(http, "detections", limit="1000"))
    assert all(0 <= int(row["bin"]) <= 10 for row in found["rows"])


def test_severities_are_counted_as_the_list_would_be_filtered(http: httpx.Client) -> None:
    counted = {row["severity"]: int(row["n"]) for row in rows(http, "severities", q="bad.joblib")}
    assert counted == {"critical": 1}


def test_every_answer_carries_the_headers_that_keep_a_page_inert(http: httpx.Client) -> None:
    for path in ("/", "/app.js", "/api/v1/models", "/nosuch", "/healthz"):
        headers = http.get(path).headers
        assert "script-src 'self'" in headers["content-security-policy"], path
        assert "unsafe" not in headers["content-security-policy"], path
        assert headers["x-content-type-options"] == "nosniff", path


def test_a_file_of_the_page_is_sent_once_until_it_changes(http: httpx.Client) -> None:
    first = http.get("/app.js")
    assert http.get("/app.js", headers={"if-none-match": first.headers["etag"]}).status_code == 304


def test_a_new_detection_comes_down_the_open_stream(running: Collector, http: httpx.Client) -> None:
    seen: list[dict[str, Any]] = []
    opened = threading.Event()

    def read() -> None:
        with http.stream("GET", "/api/v1/tail", params={"events": "1"}) as answer:
            kind = ""
            for line in answer.iter_lines():
                if line.startswith("event: "):
                    kind = line[7:]
                elif line.startswith("data: "):
                    if kind == "overview":
                        opened.set()
                    seen.append({"kind": kind, **json.loads(line[6:])})
                    if kind == "detection" and "later.joblib" in seen[-1]["sentence"]:
                        return

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    assert opened.wait(20), "no overview came down the stream"
    with Agent(running.grpc_address, host="gpu-18", agent_id=b"B" * 16, epoch=b"F" * 16) as agent:
        agent.wait_welcome()
        agent.send(envelope(1, from_rows(poisoned_load(10, "later.joblib")), epoch=b"F" * 16))
        agent.wait_answered(1)
        reader.join(20)
    assert not reader.is_alive(), "the detection did not come down the stream"
    assert not any("bad.joblib" in row.get("sentence", "") for row in seen), (
        "an old detection was told as new"
    )


def test_while_the_store_is_away_the_api_says_so_and_comes_back(tmp_path: Path) -> None:
    with (
        collector(tmp_path) as running,
        httpx.Client(base_url=running.http_url, trust_env=False, timeout=30) as http,
    ):
        [store] = running.children("store.process")
        os.kill(store, signal.SIGKILL)
        answer = http.get("/api/v1/incidents")
        if answer.status_code != 200:
            assert answer.status_code == 503
            assert "store" in answer.json()["error"]
        deadline = time.monotonic() + 30
        while http.get("/healthz").status_code != 200 and time.monotonic() < deadline:
            time.sleep(0.1)
        assert http.get("/api/v1/incidents").status_code == 200


def test_an_open_stream_does_not_hold_up_the_end_of_the_collector(tmp_path: Path) -> None:
    with collector(tmp_path) as running:
        ended = threading.Event()

        def read() -> None:
            with httpx.stream("GET", running.http_url + "/api/v1/tail", timeout=30, trust_env=False) as answer:
                opened.set()
                for _ in answer.iter_lines():
                    pass
            ended.set()

        opened = threading.Event()
        threading.Thread(target=read, daemon=True).start()
        assert opened.wait(20)
    assert ended.wait(5), "the stream was cut off, not ended"
    assert [line for line in running.log if line["level"] in ("error", "critical", "unparsed")] == []
