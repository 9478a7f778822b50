"""Exceptions over HTTP and from the command: who may make one, what it covers, and that nothing else is hidden."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from modelward_collector.web.filters import BadFilter, lasting

from tests.batches import Agent, envelope, from_rows
from tests.running import Collector, collector
from tests.stories import identified, poisoned_load, serving, stolen_credentials

NOBODY = 65534


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    with collector(tmp_path_factory.mktemp("exceptions")) as started:
        for host, mark in (("gpu-17", b"A"), ("gpu-18", b"B")):
            with Agent(started.grpc_address, host=host, agent_id=mark * 16, epoch=mark * 16) as agent:
                agent.wait_welcome()
                unknown = poisoned_load(50, "unknown.joblib", command="sh -c unknown")[:2]
                stories = [serving(7, "good.gguf"), poisoned_load(8, "bad.joblib"), stolen_credentials(7), unknown]
                agent.send(*(envelope(n, from_rows(rows), epoch=mark * 16) for n, rows in enumerate(stories, 1)))
                agent.wait_answered(*range(1, len(stories) + 1))
        yield started


@pytest.fixture
def http(running: Collector) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=running.http_url, trust_env=False, timeout=30) as client:
        yield client
        for row in client.get("/api/v1/exceptions", params={"active": "true"}).json()["rows"]:
            client.delete(f"/api/v1/exceptions/{row['id']}")


def detection(running: Collector, rule: str, host: str = "gpu-17", text: str = "") -> str:
    [row] = running.select("SELECT detection_id FROM detections WHERE rule_name = {rule:String} AND host_name = {host:String} "
                           "AND position(sentence, {text:String}) > 0 LIMIT 1", rule=rule, host=host, text=text)
    return str(row["detection_id"])


def preview(http: httpx.Client, id: str, **more: str) -> dict[str, Any]:
    answer = http.get("/api/v1/exceptions/preview", params={"detection": id, **more})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def make(http: httpx.Client, id: str, **changed: Any) -> httpx.Response:
    shown = preview(http, id, all_hosts=changed.pop("all_hosts", ""))
    body = {"detection": id, "covers": shown["covers"], "reason": "a test of ours", "for": "7d", "author": "me"} | changed
    return http.post("/api/v1/exceptions", json=body)


def shown(http: httpx.Client, **filters: str) -> set[str]:
    rows = http.get("/api/v1/detections", params={"limit": "1000", **filters}).json()["rows"]
    return {row["detection_id"] for row in rows}


def test_what_is_shown_before_is_what_is_silenced(running: Collector, http: httpx.Client) -> None:
    id = detection(running, "shell_in_load", text="bad.joblib")
    found = preview(http, id)
    assert found["covers"] == {
        "rule_name": "shell_in_load", "executable_path": "/usr/bin/dash", "host_name": "gpu-17",
        "model_digest": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    }
    before = shown(http)
    assert make(http, id).status_code == 201
    hidden = before - shown(http)
    assert len(hidden) == int(found["count"]) == 1
    assert id in hidden
    assert shown(http, silenced="1") == before
    assert shown(http, silenced="only") == hidden
    assert shown(http, ids=id) == {id}


def test_every_host_is_asked_for_and_counted(running: Collector, http: httpx.Client) -> None:
    id = detection(running, "shell_in_load", text="bad.joblib")
    found = preview(http, id, all_hosts="1")
    assert (found["covers"]["host_name"], int(found["count"]), int(found["hosts"])) == ("", 2, 2)
    assert make(http, id, all_hosts="1").status_code == 201
    assert detection(running, "shell_in_load", "gpu-18", "bad.joblib") not in shown(http)


def test_a_group_that_is_silenced_as_a_whole_is_left_out_and_counted(running: Collector, http: httpx.Client) -> None:
    def groups(**filters: str) -> set[str]:
        return {row["key"] for row in http.get("/api/v1/incidents", params=filters).json()["rows"]}

    def counts(**filters: str) -> dict[str, tuple[int, int]]:
        rows = http.get("/api/v1/severities", params=filters).json()["rows"]
        return {row["severity"]: (int(row["n"]), int(row["silenced"])) for row in rows}

    before, counted = groups(), counts()
    make(http, detection(running, "credential_read"))
    assert len(before - groups()) == 1
    assert counts()["high"] == (counted["high"][0] - 1, 1)
    assert counts(silenced="1")["high"] == (counted["high"][0], 1)
    assert groups(silenced="1") == before
    bins = http.get("/api/v1/timeline", params={"since": "1h", "bins": "1"}).json()["rows"]
    assert sum(int(row["n"]) for row in bins) == len(shown(http))


def test_a_revoked_one_shows_again_what_it_silenced(running: Collector, http: httpx.Client) -> None:
    id = detection(running, "credential_read")
    made = make(http, id).json()
    assert id not in shown(http)
    [listed] = http.get("/api/v1/exceptions", params={"active": "true"}).json()["rows"]
    assert (listed["id"], listed["reason"], listed["author"], listed["hits"]) == (made["id"], "a test of ours", "me", "1")
    assert http.delete(f"/api/v1/exceptions/{made['id']}", params={"author": "another"}).status_code == 200
    assert id in shown(http)
    [ended] = http.get("/api/v1/exceptions", params={"id": made["id"]}).json()["rows"]
    assert (ended["active"], ended["revoked_by"]) == (False, "another")


def test_what_is_no_more_as_it_was_shown_is_not_saved(running: Collector, http: httpx.Client) -> None:
    id = detection(running, "shell_in_load", text="sh -c unknown")
    found = preview(http, id)
    assert found["covers"]["model_digest"] == ""
    assert any("may still be identified" in note for note in found["notes"])
    with Agent(running.grpc_address, host="gpu-17", agent_id=b"A" * 16, epoch=b"A" * 16, first_unacked=5) as agent:
        agent.wait_welcome()
        agent.send(envelope(5, from_rows([identified(50, "unknown.joblib", time.time_ns())]), epoch=b"A" * 16))
        agent.wait_answered(5)
    body = {"detection": id, "covers": found["covers"], "reason": "x", "for": "1d"}
    deadline = time.monotonic() + 20
    while preview(http, id)["covers"] == found["covers"] and time.monotonic() < deadline:
        time.sleep(0.1)
    answer = http.post("/api/v1/exceptions", json=body)
    assert answer.status_code == 409
    assert http.get("/api/v1/exceptions", params={"active": "true"}).json()["rows"] == []


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"reason": ""}, 400), ({"reason": "  "}, 400), ({"reason": "x" * 501}, 400), ({"reason": "a\x1b[31m"}, 400),
        ({"reason": 7}, 400),
        ({"for": ""}, 400), ({"for": "0d"}, 400), ({"for": "-1d"}, 400), ({"for": "367d"}, 400), ({"for": "for ever"}, 400),
        ({"covers": None}, 400), ({"covers": {}}, 409), ({"covers": {"rule_name": "shell_in_load"}}, 409),
        ({"detection": "nosuch"}, 404), ({"detection": ["x"]}, 400), ({"author": "y" * 101}, 400),
    ],
)
def test_what_is_no_exception_is_refused_with_a_sentence(
    running: Collector, http: httpx.Client, changed: dict[str, Any], status: int
) -> None:
    answer = make(http, detection(running, "credential_read"), **changed)
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]


@pytest.mark.parametrize("body", [b"", b"x", b"[]", b"[" * 60000, b"\xff", b"1" * 70000])
def test_a_body_that_is_none_is_refused(http: httpx.Client, body: bytes) -> None:
    answer = http.post("/api/v1/exceptions", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400


def test_a_detection_without_a_program_cannot_be_silenced(tmp_path: Path) -> None:
    with collector(tmp_path, silent_after_s=1) as running:
        with Agent(running.grpc_address, host="gpu-30") as agent:
            agent.wait_welcome()
            agent.heartbeat()
        with httpx.Client(base_url=running.http_url, trust_env=False, timeout=30) as http:
            deadline = time.monotonic() + 30
            while not (ids := shown(http)) and time.monotonic() < deadline:
                time.sleep(0.2)
            [id] = ids
            assert "cannot be silenced" in preview(http, id)["notes"][0]
            assert make(http, id).status_code == 400


@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "text/plain"}, {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": "multipart/form-data"},
        {"origin": "https://evil.example"}, {"origin": "null"}, {"sec-fetch-site": "cross-site"}, {"host": "evil.example"},
    ],
)
def test_a_page_of_another_site_cannot_silence(running: Collector, http: httpx.Client, headers: dict[str, str]) -> None:
    id = detection(running, "credential_read")
    body = json.dumps({"detection": id, "covers": preview(http, id)["covers"], "reason": "x", "for": "1d"})
    answer = http.post("/api/v1/exceptions", content=body, headers={"content-type": "application/json"} | headers)
    assert answer.status_code in (403, 415, 421)
    made = make(http, id).json()["id"]
    answer = http.delete(f"/api/v1/exceptions/{made}", headers={"origin": "https://evil.example"})
    assert answer.status_code == 403
    assert [row["id"] for row in http.get("/api/v1/exceptions", params={"active": "true"}).json()["rows"]] == [made]


# What is imported later would be looked for where only root may read.
_AS_NOBODY = """
import encodings.idna, http.client, json, os, sys
os.setgroups([]); os.setgid({id}); os.setuid({id})
connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]))
headers = {{"content-type": "application/json"}} | json.loads(sys.argv[4])
connection.request(sys.argv[2], sys.argv[3], sys.stdin.read() or None, headers)
answer = connection.getresponse()
print(answer.status, answer.read().decode())
"""


def as_nobody(url: str, method: str, path: str, body: str = "", **headers: str) -> str:
    """What an account like a model server's is answered: status and text."""
    command = [sys.executable, "-c", _AS_NOBODY.format(id=NOBODY), url.rpartition(":")[2], method, path, json.dumps(headers)]
    return subprocess.run(command, input=body, capture_output=True, text=True, timeout=60, check=True).stdout


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user, which needs root")


@needs_root
def test_without_a_token_another_account_can_look_and_change_nothing(running: Collector, http: httpx.Client) -> None:
    id = detection(running, "credential_read")
    body = json.dumps({"detection": id, "covers": preview(http, id)["covers"], "reason": "nothing to see", "for": "1d"})
    refused = as_nobody(running.http_url, "POST", "/api/v1/exceptions", body)
    assert refused.startswith("403")
    assert "--http-token-file" in refused
    made = make(http, id).json()["id"]
    assert as_nobody(running.http_url, "DELETE", f"/api/v1/exceptions/{made}").startswith("403")
    assert as_nobody(running.http_url, "GET", "/api/v1/exceptions").startswith("200")


@needs_root
def test_a_header_that_names_another_connection_opens_nothing(running: Collector, http: httpx.Client) -> None:
    address, _, port = running.http_url.rpartition("/")[2].rpartition(":")
    with socket.create_connection((address, int(port))) as of_root:
        own = of_root.getsockname()[1]
        for name in ("x-forwarded-for", "forwarded", "x-real-ip"):
            for value in (f"127.0.0.1:{own}", "127.0.0.1", f"for=127.0.0.1:{own}"):
                answer = as_nobody(running.http_url, "DELETE", "/api/v1/exceptions/" + "0" * 16, **{name: value})
                assert answer.startswith("403"), (name, value)


@needs_root
def test_with_a_token_whoever_has_it_may_change_something(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("correct horse battery")
    with collector(tmp_path, http_token_file=tmp_path / "token") as running:
        given = {"authorization": "Bearer correct horse battery"}
        assert as_nobody(running.http_url, "DELETE", "/api/v1/exceptions/" + "0" * 16, **given).startswith("400")
        assert as_nobody(running.http_url, "DELETE", "/api/v1/exceptions/" + "0" * 16).startswith("401")


def test_a_collector_without_a_token_says_so_at_its_start(running: Collector) -> None:
    assert "every account of this machine can read it" in running.wait_log("has no token")["message"]


def modelward(running: Collector, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    env = {k: v for k, v in os.environ.items() if not k.startswith("MODELWARD_")} | {"COLUMNS": "160"}
    return subprocess.run(
        [sys.executable, "-m", "modelward_collector.operator.cli", "--url", running.http_url, *arguments],
        capture_output=True, text=True, env=env, timeout=60, check=False, input=stdin)


def test_the_command_shows_what_it_will_silence_and_saves_only_if_that_is_meant(running: Collector, http: httpx.Client) -> None:
    id = detection(running, "credential_read")
    asked = ("silence", id[:12], "--reason", "a test of ours", "--for", "7d")
    done = modelward(running, *asked)
    assert done.returncode == 2
    assert "This will be silenced" in done.stdout
    assert "/usr/bin/python3.11" in done.stdout
    assert "1 detection of the last 7 days" in done.stdout
    assert "Nothing was saved" in done.stderr
    assert id in shown(http)
    done = modelward(running, *asked, "--yes")
    assert done.returncode == 0, done.stderr
    assert id not in shown(http)
    assert id[:12] not in modelward(running, "detections").stdout
    assert id[:12] in modelward(running, "detections", "--silenced").stdout
    listed = modelward(running, "exceptions").stdout
    assert "a test of ours" in listed
    [row] = [json.loads(line) for line in modelward(running, "exceptions", "--json").stdout.splitlines()]
    assert modelward(running, "exceptions", "--revoke", row["id"]).returncode == 0
    assert id in shown(http)
    assert "Nothing is silenced" in modelward(running, "exceptions").stdout
    assert row["id"] in modelward(running, "exceptions", "--all").stdout


@pytest.mark.parametrize(("answer", "saved"), [("n", False), ("", False), ("y", True)])
def test_on_a_terminal_the_command_asks(running: Collector, http: httpx.Client, answer: str, saved: bool) -> None:
    id = detection(running, "credential_read")
    terminal, other = os.openpty()
    try:
        os.write(terminal, f"{answer}\n".encode())
        command = ["silence", id, "--reason", "a test of ours", "--for", "1d"]
        done = subprocess.run(
            [sys.executable, "-m", "modelward_collector.operator.cli", "--url", running.http_url, *command],
            stdin=other, capture_output=True, text=True, timeout=60, check=False)
    finally:
        os.close(terminal)
        os.close(other)
    assert done.returncode == 0, done.stderr
    assert "Silence this? [y/N]" in done.stdout
    assert (id not in shown(http)) is saved


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("silence", "abc", "--reason", "x", "--for", "1d", "--yes"), "first 6"),
        (("silence", "abcdefabcdef", "--reason", "x", "--for", "1d", "--yes"), "No detection"),
        (("exceptions", "--revoke", "xyz"), "16 digits"),
        (("exceptions", "--revoke", "0" * 16), "There is no exception"),
    ],
)
def test_the_command_says_what_is_wrong(running: Collector, arguments: tuple[str, ...], word: str) -> None:
    done = modelward(running, *arguments)
    assert done.returncode in (1, 2)
    assert word in done.stderr


@pytest.mark.parametrize("text", ["", "7", "d", "7 d", "0d", "-7d", "7D", "9999999d"])
def test_what_is_no_span_is_refused(text: str) -> None:
    with pytest.raises(BadFilter):
        lasting(text)


@pytest.mark.parametrize("name", ["detections", "incidents", "events", "hosts"])
def test_a_label_narrows_every_list_that_knows_hosts(running: Collector, http: httpx.Client, name: str) -> None:
    assert http.get(f"/api/v1/{name}").json()["rows"]
    assert http.get(f"/api/v1/{name}", params={"label": "env=nosuch"}).json()["rows"] == []
    assert http.get(f"/api/v1/{name}", params={"label": "prod"}).status_code == 400
