"""ClickHouse's HTTP interface: what real clients send when they connect, and what must not pass."""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterator
from pathlib import Path

import clickhouse_connect
import httpx
import pytest
from clickhouse_connect.driver.exceptions import DatabaseError

from tests.batches import Agent, envelope, events
from tests.running import Collector, collector

TOKEN = "a token of the test"
ROWS = 200

# clickhouse-go 2.47 (Grafana's plugin), as its conn_http.go writes it: the first statement, and the revision it then reads in.
GO_HELLO = "SELECT displayName(), version(), revision(), timezone()"
GO_PARAMETERS = {"default_format": "Native", "client_protocol_version": "54460", "database": "modelward"}
BLOCK_HEADER = bytes.fromhex("0100 02ffffffff 00")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    folder = tmp_path_factory.mktemp("collector")
    token = folder / "token"
    token.write_text(TOKEN)
    with collector(folder, http_token_file=token) as made:
        with Agent(made.grpc_address, host="gpu-17") as agent:
            agent.wait_welcome()
            agent.send(envelope(1, events(ROWS)))
            agent.wait_answered(1)
        yield made


def post(running: Collector, sql: str, **parameters: str) -> httpx.Response:
    return httpx.post(running.http_url + "/", params=parameters, content=sql, auth=("grafana", TOKEN), timeout=40)


def test_clickhouse_connect_connects_and_reads_typed_rows(running: Collector) -> None:
    port = int(running.http_url.rpartition(":")[2])
    with clickhouse_connect.get_client(
        host="127.0.0.1", port=port, username="grafana", password=TOKEN, database="modelward"
    ) as client:
        result = client.query("SELECT host_name, count() AS n, max(time) AS last FROM events WHERE host_name = {host:String} "
                              "GROUP BY host_name", parameters={"host": "gpu-17"})
        assert [(row["host_name"], row["n"]) for row in result.named_results()] == [("gpu-17", ROWS)]
        assert client.query("SELECT 1 WHERE 0").result_rows == []
        assert "events" in {row[0] for row in client.query("SHOW TABLES").result_rows}
        with pytest.raises(DatabaseError, match="file"):
            client.query("SELECT * FROM file('/etc/passwd')")


def test_clickhouse_go_is_told_to_read_plain_blocks(running: Collector) -> None:
    """It reads this one answer in the revision that it sends along, and all later ones in the revision that the answer holds."""
    answer = post(running, GO_HELLO, **GO_PARAMETERS)
    assert answer.status_code == 200
    names, values = native_row(answer.content, 54460)
    assert names == ["displayName()", "version()", "revision()", "timezone()"]
    assert (values[2], values[3]) == (0, "UTC")
    assert native_row(post(running, "SELECT 1", **GO_PARAMETERS).content, 0)[0] == ["1"]


def test_a_client_without_revision_gets_the_same_without_header(running: Collector) -> None:
    names, values = native_row(post(running, "SELECT version()", default_format="Native").content, 0)
    assert (names, values[0].count(".")) == (["version()"], 3)
    assert post(running, "select  version(),\n timezone()").text == f"{values[0]}\tUTC\n"


def test_the_version_said_is_that_of_the_engine(running: Collector) -> None:
    import chdb

    assert post(running, "SELECT version()").text.split(".")[:2] == str(chdb.engine_version).split(".")[:2]


@pytest.mark.parametrize("headers", [
    {"authorization": f"Bearer {TOKEN}"},
    {"authorization": "Basic " + base64.b64encode(f"anyone:{TOKEN}".encode()).decode()},
    {"x-clickhouse-user": "grafana", "x-clickhouse-key": TOKEN},
])
def test_the_token_opens_however_a_client_sends_it(running: Collector, headers: dict[str, str]) -> None:
    assert httpx.post(running.http_url + "/", content="SELECT 1", headers=headers).text == "1\n"


@pytest.mark.parametrize("headers", [
    {},
    {"authorization": "Basic not-base64"},
    {"authorization": "Basic " + base64.b64encode(b"grafana:wrong").decode()},
    {"authorization": "Basic " + base64.b64encode(TOKEN.encode()).decode()},
    {"x-clickhouse-user": TOKEN},
    {"x-clickhouse-key": ""},
])
def test_nothing_else_opens(running: Collector, headers: dict[str, str]) -> None:
    address = running.http_url + "/?user=grafana&password=" + TOKEN.replace(" ", "%20")
    answer = httpx.post(address, content="SELECT 1", headers=headers)
    assert (answer.status_code, "SELECT" in answer.text) == (401, False)


@pytest.mark.parametrize(("sql", "parameters", "status", "code"), [
    ("DROP TABLE events_raw", {}, 403, "497"),
    ("SELECT * FROM file('/etc/passwd')", {}, 403, "497"),
    ("SELECT 1 SETTINGS readonly = 0", {}, 403, "497"),
    ("SELECT 1", {"compress": "1"}, 403, "497"),
    ("SELECT 1", {"database": "system"}, 403, "497"),
    ("SELECT 1", {"default_format": "Template"}, 403, "497"),
    ("SELECT nonsense FROM events", {}, 400, "62"),
    ("SELECT '" + "x" * 70_000 + "'", {}, 422, "396"),
])
def test_what_is_refused_is_said_as_clickhouse_says_it(
    running: Collector, sql: str, parameters: dict[str, str], status: int, code: str
) -> None:
    answer = post(running, sql, **parameters)
    assert (answer.status_code, answer.headers["x-clickhouse-exception-code"]) == (status, code)
    assert answer.text.startswith(f"Code: {code}. DB::Exception: ")


def test_settings_of_a_client_have_no_effect(running: Collector) -> None:
    assert post(running, "SELECT count() FROM events", readonly="0", max_execution_time="0", limit="0").text == f"{ROWS}\n"


def test_a_parameter_is_never_read_as_sql(running: Collector) -> None:
    hostile = "x' OR 1=1 --\t\\"
    assert post(running, "SELECT {p:String} = unhex('" + hostile.encode().hex() + "')", param_p=hostile).text == "1\n"


def test_ping_says_ok_to_who_may_ask(running: Collector) -> None:
    assert httpx.get(running.http_url + "/ping", auth=("grafana", TOKEN)).text == "Ok.\n"
    assert httpx.get(running.http_url + "/ping").status_code == 401


def test_the_page_is_still_there(running: Collector, tmp_path: Path) -> None:
    assert "<html" in httpx.get(running.http_url + "/", headers={"authorization": f"Bearer {TOKEN}"}).text


def native_row(data: bytes, revision: int) -> tuple[list[str], list[str | int]]:
    """One row of texts and whole numbers, read as clickhouse-go's block decoder does."""
    place = 0

    def take(count: int) -> bytes:
        nonlocal place
        place += count
        assert place <= len(data), "the block is shorter than it says"
        return data[place - count : place]

    if revision:
        assert take(8) == BLOCK_HEADER
    columns, rows = take(2)
    assert rows == 1
    names: list[str] = []
    values: list[str | int] = []
    for _ in range(columns):
        names.append(take(take(1)[0]).decode())
        kind = take(take(1)[0]).decode()
        if revision >= 54454:
            assert take(1) == b"\0", "custom serialisation is not supported by clickhouse-go"
        if kind == "String":
            values.append(take(take(1)[0]).decode())
        else:
            size, code = {"UInt8": (1, "<B"), "UInt32": (4, "<I")}[kind]
            values.append(struct.unpack(code, take(size))[0])
    assert place == len(data)
    return names, values


@pytest.mark.parametrize(("sql", "said"), [
    ("SELECT 1 AS a" + " " * 60_000 + "format\n JSONEachRow ;", '{"a":1}'),
    ("SELECT" + " " * 60_000 + "2", "2"),
    ("SELECT 'x FORMAT JSON'", "x FORMAT JSON"),
])
def test_the_format_clause_is_what_ends_a_statement_however_many_spaces_there_are(
    running: Collector, sql: str, said: str
) -> None:
    assert post(running, sql).text.strip() == said
