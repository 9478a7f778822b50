"""The ``modelward`` command against a running collector: tables for people, JSON for programs, errors in one sentence."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from modelward_collector.operator.show import safe
from modelward_proto.fields import STORED

from tests.batches import Agent, envelope, from_rows
from tests.certificates import Authority
from tests.running import Collector, collector
from tests.stories import HOSTILE, poisoned_load, serving, stolen_credentials


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    with collector(tmp_path_factory.mktemp("operator")) as started:
        with Agent(started.grpc_address, host="gpu-17") as agent:
            agent.wait_welcome()
            agent.send(
                envelope(1, from_rows(serving(7, "good.gguf"))),
                envelope(2, from_rows(poisoned_load(8, "bad.joblib"))),
                envelope(3, from_rows(stolen_credentials(7))),
                envelope(4, from_rows(poisoned_load(9, "evil.pkl", command=HOSTILE))),
            )
            agent.wait_answered(1, 2, 3, 4)
            agent.heartbeat({("seen", "exec"): 10})
            deadline = time.monotonic() + 10
            while not started.select("SELECT 1 FROM hosts") and time.monotonic() < deadline:
                time.sleep(0.05)
            yield started


def modelward(*arguments: str, url: str = "", stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    env = {k: v for k, v in os.environ.items() if not k.startswith("MODELWARD_")} | {"COLUMNS": "160"} | environment
    return subprocess.run(
        [sys.executable, "-m", "modelward_collector.operator.cli", *(["--url", url] if url else []), *arguments],
        capture_output=True,
        text=True,
        input=stdin,
        env=env,
        timeout=60,
        check=False,
    )


def json_lines(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


def test_detections_are_a_table_with_severity_model_and_sentence(running: Collector) -> None:
    done = modelward("detections", url=running.http_url)
    assert done.returncode == 0
    assert "critical" in done.stdout
    assert "bad.joblib" in done.stdout
    assert "sh -c id" in done.stdout


def test_json_is_one_row_a_line_and_the_flag_may_come_last(running: Collector) -> None:
    done = modelward("detections", "--severity", "critical", "--json", url=running.http_url)
    found = json_lines(done.stdout)
    assert found
    assert all(row["severity"] == "critical" for row in found)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("incidents",), "python3.11 > dash"),
        (("events", "--event", "lifecycle", "--model", "good.gguf"), "load > serve"),
        (("events", "--process", "812"), "/root/.aws/credentials"),
        (("hosts",), "gpu-17"),
        (("hosts", "--host", "gpu-17"), "tp_btf"),
        (("models", "--text", "good"), "9f86d081884c"),
    ],
)
def test_a_list_shows_what_it_is_asked_for(running: Collector, arguments: tuple[str, ...], word: str) -> None:
    done = modelward(*arguments, url=running.http_url)
    assert done.returncode == 0, done.stderr
    assert word in done.stdout


def test_the_url_comes_from_the_environment(running: Collector) -> None:
    assert modelward("hosts", MODELWARD_URL=running.http_url).returncode == 0


def test_nothing_found_says_where_to_look_next(running: Collector) -> None:
    done = modelward("detections", "--host", "nosuch", url=running.http_url)
    assert done.returncode == 0
    assert "modelward hosts" in done.stdout


def test_query_prints_a_table_or_a_format(running: Collector) -> None:
    sql = "SELECT model_id, count() AS n FROM events WHERE model_id = 'good.gguf' GROUP BY model_id"
    assert "good.gguf" in modelward("query", sql, url=running.http_url).stdout
    assert modelward("query", "--format", "CSV", "SELECT 1, 'x'", url=running.http_url).stdout == '1,"x"\n'
    assert json_lines(modelward("query", "-", "--json", url=running.http_url, stdin="SELECT 7 AS n").stdout) == [{"n": 7}]


def test_a_row_that_is_wider_than_the_terminal_is_shown_one_value_a_line(running: Collector) -> None:
    done = modelward("query", "SELECT * FROM events LIMIT 2", url=running.http_url, COLUMNS="80")
    lines = [line for line in done.stdout.splitlines() if "process_executable_path" in line]
    assert len(lines) == 2
    assert all(len(line) <= 80 for line in done.stdout.splitlines())


def test_a_refused_query_is_one_sentence_and_status_1(running: Collector) -> None:
    done = modelward("query", "SELECT * FROM url('http://x/')", url=running.http_url)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "url" in done.stderr


def test_a_wrong_filter_is_status_2(running: Collector) -> None:
    done = modelward("events", "--since", "yesterday", url=running.http_url)
    assert done.returncode == 2
    assert "yesterday" in done.stderr
    assert modelward("events", "--phase", "lod", url=running.http_url).returncode == 2
    assert modelward("nosuch", url=running.http_url).returncode == 2


def test_hostile_text_reaches_the_terminal_inert(running: Collector) -> None:
    done = modelward("detections", url=running.http_url, FORCE_COLOR="1")
    assert "<script>" in done.stdout
    assert "{{7*7}}" in "".join(done.stdout.split())
    assert "\x1b[31m\u202e" not in done.stdout


@pytest.mark.parametrize("text", ["\x1b]0;owned\x07", "a\u202eb", "\x9b31m", "new\nline", "back\rward", "tab\tbed", "nul\0"])
def test_what_no_agent_escaped_is_escaped_for_the_terminal(text: str) -> None:
    assert safe(text).isprintable()


def test_markup_is_text(running: Collector) -> None:
    done = modelward("query", "SELECT '[bold red]x[/] :smile: [link=http://evil]y[/link]' AS a", url=running.http_url)
    assert "[bold red]x[/] :smile: [link=http://evil]y[/link]" in done.stdout


def test_tail_prints_a_detection_as_it_comes(running: Collector) -> None:
    command = [
        sys.executable,
        "-m",
        "modelward_collector.operator.cli",
        "--url",
        running.http_url,
        "tail",
        "--limit",
        "1",
        "--json",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as tail:
        with Agent(running.grpc_address, host="gpu-18", agent_id=b"C" * 16, epoch=b"G" * 16) as agent:
            agent.wait_welcome()
            number = 0
            # The stream is open once its first row has come: loads go on until then.
            while tail.poll() is None and number < 100:
                number += 1
                agent.send(envelope(number, from_rows(poisoned_load(100 + number, "t.joblib")), epoch=b"G" * 16))
                agent.wait_answered(number)
                time.sleep(0.3)
        assert tail.stdout is not None
        [row] = json_lines(tail.stdout.read())
    assert tail.returncode == 0
    assert row["kind"] == "detection"
    assert row["host_name"] == "gpu-18"


def test_nobody_there_is_status_3_and_says_what_to_start() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        done = modelward("hosts", url=f"http://127.0.0.1:{taken.getsockname()[1]}")
    assert done.returncode == 3
    assert done.stderr.count("\n") == 1
    assert "modelward-collector run" in done.stderr


def test_something_else_at_the_address_is_told(tmp_path: Path) -> None:
    class Other(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>a router</html>")

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Other) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        done = modelward("hosts", url=f"http://127.0.0.1:{server.server_port}")
        server.shutdown()
    assert done.returncode == 1
    assert "did not answer as a Modelward collector" in done.stderr


def test_an_answer_cannot_write_to_the_terminal() -> None:
    class Hostile(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(400)
            self.end_headers()
            self.wfile.write(json.dumps({"error": "no \x1b]0;owned\x07 such\u202e filter"}).encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Hostile) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        done = modelward("hosts", url=f"http://127.0.0.1:{server.server_port}")
        server.shutdown()
    assert done.returncode == 2
    assert done.stderr == "modelward: no \\x1b]0;owned\\x07 such\\xe2\\x80\\xae filter\n"


@pytest.mark.parametrize("url", ["http://host:port", "http://[::1", "http://ho\x1bst:1", "host:4461", "file:///etc/passwd"])
def test_what_is_no_address_is_one_sentence(url: str) -> None:
    done = modelward("hosts", url=url)
    assert done.returncode == 2
    assert done.stderr.startswith("modelward: --url: ")
    assert done.stderr.count("\n") == 1
    assert "\x1b" not in done.stderr


def test_a_file_that_holds_no_token_is_told_without_its_content(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("first secret\nsecond secret\n")
    done = modelward("--token-file", str(tmp_path / "token"), "hosts", url="http://127.0.0.1:1")
    assert done.returncode == 2
    assert "secret" not in done.stderr


def test_a_token_is_never_sent_in_the_clear(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret")
    done = modelward("--token-file", str(tmp_path / "token"), "hosts", url="http://192.0.2.1:4461")
    assert done.returncode == 2
    assert "https" in done.stderr
    assert "secret" not in done.stderr


def test_a_token_opens_a_collector_that_wants_one(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("correct horse\n")
    with collector(tmp_path, http_token_file=tmp_path / "token") as running:
        refused = modelward("hosts", url=running.http_url)
        assert refused.returncode == 1
        assert "wants a token" in refused.stderr
        assert "--token-file" in refused.stderr
        (tmp_path / "other").write_text("wrong horse\n")
        wrong = modelward("--token-file", str(tmp_path / "other"), "hosts", url=running.http_url)
        assert wrong.returncode == 1
        assert "does not know the token" in wrong.stderr
        tls = modelward("hosts", url=running.http_url.replace("http:", "https:"))
        assert tls.returncode == 3
        assert "does not speak TLS" in tls.stderr
        assert modelward("hosts", url=running.http_url, MODELWARD_TOKEN_FILE=str(tmp_path / "token")).returncode == 0


def test_off_loopback_a_certificate_and_a_token_are_needed(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    server = authority.sign("collector", "DNS:localhost")
    token = tmp_path / "token"
    token.write_text("correct horse\n")
    with collector(
        tmp_path, http="0.0.0.0:0", http_tls_cert=server.certificate, http_tls_key=server.key, http_token_file=token
    ) as running:
        url = f"https://localhost:{running.http_url.rpartition(':')[2]}"
        untrusted = modelward("--token-file", str(token), "hosts", url=url)
        assert untrusted.returncode == 3
        assert "--ca" in untrusted.stderr
        assert modelward("--ca", str(authority.certificate), "hosts", url=url).returncode == 1
        done = modelward("--ca", str(authority.certificate), "--token-file", str(token), "hosts", url=url)
        assert done.returncode == 0, done.stderr


def test_the_command_needs_neither_the_engine_nor_the_web_server() -> None:
    code = (
        "import sys, modelward_collector.operator.cli;"
        "print([m for m in ('chdb', 'polars', 'pyarrow', 'starlette', 'uvicorn', 'grpc', 'sigma') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "[]\n"


def test_fields_are_printed_without_a_collector() -> None:
    done = modelward("fields", "--json", url="http://127.0.0.1:1")
    assert [row["name"] for row in json_lines(done.stdout)] == [f.name for f in STORED]
    table = modelward("fields", "lifecycle.phase")
    assert "serve" in table.stdout
    assert modelward("fields", "nosuchfield").returncode == 1


def test_a_field_has_its_whole_name_on_a_narrow_terminal() -> None:
    lines = modelward("fields", "changed", COLUMNS="80").stdout.splitlines()
    shown = "".join(line[:25].strip() for line in lines)
    assert "process.executable.age_s" in shown
    assert "\N{HORIZONTAL ELLIPSIS}" not in shown


def test_the_version_is_told() -> None:
    assert modelward("--version").stdout.startswith("modelward ")


def test_help_teaches_by_examples() -> None:
    done = modelward("--help")
    assert done.returncode == 0
    for command in ("detections", "events", "hosts", "models", "tail", "fields", "query"):
        assert f"modelward {command}" in done.stdout or command in done.stdout


def test_a_closed_pipe_is_no_error(running: Collector) -> None:
    command = f"{sys.executable} -m modelward_collector.operator.cli --url {running.http_url} fields | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == ""


@pytest.mark.parametrize(("span", "reason"), [("7x", "a"), ("900d", "a"), ("7d", " ")])
def test_a_wrong_span_or_reason_is_told_before_anything_is_asked(running: Collector, span: str, reason: str) -> None:
    done = modelward("silence", "abcdef", "--for", span, "--reason", reason, url=running.http_url)
    assert done.returncode == 2
    assert done.stderr.startswith("modelward: --")
    assert done.stdout == ""


def test_nothing_found_names_the_filters(running: Collector) -> None:
    done = modelward("models", "--model", "nosuch", url=running.http_url)
    assert "--model nosuch" in done.stdout


def test_a_group_names_a_detection_that_can_be_explained(running: Collector) -> None:
    [group] = json_lines(modelward("incidents", "--limit", "1", "--json", url=running.http_url).stdout)
    ids = group["detection_ids"]
    assert isinstance(ids, list)
    assert ids[0][:12] in modelward("incidents", url=running.http_url, COLUMNS="100").stdout
