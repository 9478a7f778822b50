"""The gate for people's SQL on the real engine: what must be refused, what must be allowed, and that limits hold."""

# ruff: noqa: E501 - one query a line
from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from modelward_collector.store import functions, gate
from modelward_collector.store.engine import EngineError, execute
from modelward_collector.store.refusal import Refused, explain_failure
from modelward_proto.fields import DETECTION_FIELDS, STORED

chdb = pytest.importorskip("chdb")

REFUSED = {
    # Files and the network, through table functions, functions, and the engine's file-system database.
    "table function file": "SELECT * FROM file('/etc/passwd', LineAsString)",
    "table function url": "SELECT * FROM url('http://127.0.0.1:1/', CSV, 'a String')",
    "table function s3": "SELECT * FROM s3('http://127.0.0.1:1/b/k', CSV, 'a String')",
    "table function remote": "SELECT * FROM remote('127.0.0.1', system.one)",
    "table function cluster": "SELECT * FROM cluster('default', system.one)",
    "table function Python": "SELECT * FROM Python(secrets)",
    "table function executable": "SELECT * FROM executable('x.sh', CSV, 'a String')",
    "table function sqlite": "SELECT * FROM sqlite('/tmp/x.db', 't')",
    "table function mysql": "SELECT * FROM mysql('h:3306', 'd', 't', 'u', 'p')",
    "table function merge": "SELECT * FROM merge('system', '.*')",
    "table function dictionary": "SELECT * FROM dictionary('d')",
    "table function input": "SELECT * FROM input('a String')",
    "table function view": "SELECT * FROM view(SELECT * FROM url('http://127.0.0.1:1/', CSV, 'a String'))",
    "table function filesystem": "SELECT * FROM filesystem('/etc')",
    "table function format, also a function": "SELECT * FROM format(CSV, '1,2')",
    "table function loop": "SELECT * FROM loop(events)",
    "table function eval": "SELECT * FROM eval('SELECT 1')",
    "table function in capitals": "SELECT * FROM FILE('/etc/passwd', LineAsString)",
    "function file": "SELECT file('/etc/passwd')",
    "a file as a quoted table": 'SELECT * FROM "/etc/passwd"',
    "a file as a string table": "SELECT * FROM 'passwd.csv'",
    "a file with an ending": "SELECT * FROM `passwd.csv`",
    "a file in IN": "SELECT 1 IN `/etc/passwd`",
    "subquery with file": "SELECT * FROM events WHERE file_path IN (SELECT line FROM file('/etc/passwd', LineAsString, 'line String'))",
    "CTE with url": "WITH x AS (SELECT * FROM url('http://127.0.0.1:1/', CSV, 'a String')) SELECT * FROM x",
    "JOIN with url": "SELECT * FROM events JOIN url('http://127.0.0.1:1/', CSV, 'a String') AS u ON u.a = file_path",
    "UNION with file": "SELECT 1 UNION ALL SELECT * FROM file('/etc/passwd', LineAsString)",
    "scalar subquery with file": "SELECT (SELECT count() FROM file('/etc/passwd', LineAsString))",
    "EXPLAIN of file": "EXPLAIN SELECT * FROM file('/etc/passwd', LineAsString)",
    "EXPLAIN as a table, of file": "SELECT * FROM (EXPLAIN SELECT * FROM file('/etc/passwd', LineAsString))",
    "DESCRIBE url": "DESCRIBE url('http://127.0.0.1:1/', CSV)",
    "DESCRIBE TABLE file": "DESCRIBE TABLE file('/etc/passwd')",
    "DESCRIBE of a query": "DESCRIBE (SELECT * FROM url('http://127.0.0.1:1/', CSV))",
    "INTO OUTFILE": "SELECT 1 INTO OUTFILE '/tmp/modelward-gate-test'",
    "INTO OUTFILE with FORMAT": "SELECT 1 INTO OUTFILE '/tmp/modelward-gate-test' FORMAT CSV",
    # Statements that change or control.
    "DROP": "DROP TABLE events",
    "TRUNCATE": "TRUNCATE TABLE events",
    "ALTER": "ALTER TABLE events DELETE WHERE 1",
    "INSERT": "INSERT INTO events (row) VALUES (1)",
    "INSERT SELECT": "INSERT INTO events SELECT * FROM events",
    "INSERT INTO FUNCTION": "INSERT INTO FUNCTION file('/tmp/modelward-gate-test', CSV, 'a UInt8') SELECT 1",
    "CREATE TABLE": "CREATE TABLE x (a UInt8) ENGINE = Memory",
    "CREATE VIEW over url": "CREATE VIEW x AS SELECT * FROM url('http://127.0.0.1:1/', CSV)",
    "CREATE FUNCTION": "CREATE FUNCTION f AS (x) -> x",
    "CREATE TEMPORARY TABLE": "CREATE TEMPORARY TABLE x (a UInt8)",
    "RENAME": "RENAME TABLE events TO x",
    "OPTIMIZE": "OPTIMIZE TABLE events",
    "ATTACH": "ATTACH TABLE x FROM '/tmp' (a UInt8) ENGINE = MergeTree ORDER BY a",
    "KILL": "KILL QUERY WHERE 1",
    "SYSTEM": "SYSTEM SHUTDOWN",
    "SET": "SET max_memory_usage = 0",
    "USE": "USE default",
    "BACKUP": "BACKUP TABLE events TO File('/tmp/x')",
    "GRANT": "GRANT ALL ON *.* TO default",
    "CHECK": "CHECK TABLE events",
    "WATCH": "WATCH events",
    "PARALLEL WITH": "SELECT 1 PARALLEL WITH DROP TABLE events",
    "two statements": "SELECT 1; DROP TABLE events",
    "two statements behind EXPLAIN AST": "EXPLAIN AST SELECT 1; DROP TABLE events",
    "two statements behind a comment": "SELECT 1 /* ; */ ; DROP TABLE events -- x",
    "EXPLAIN of DROP": "EXPLAIN AST DROP TABLE events",
    "nested EXPLAIN": "EXPLAIN EXPLAIN SELECT * FROM file('/etc/passwd', LineAsString)",
    "no statement": "  -- nothing",
    # The machine's own state.
    "system.disks": "SELECT * FROM system.disks",
    "system.parts": "SELECT path FROM system.parts",
    "system.processes": "SELECT query FROM system.processes",
    "system.server_settings": "SELECT * FROM system.server_settings",
    "system.settings": "SELECT * FROM system.settings",
    "system.users": "SELECT name FROM system.users",
    "system table in capitals": "SELECT * FROM SYSTEM.DISKS",
    "quoted system table": "SELECT * FROM `system`.`disks`",
    "system table in IN": "SELECT 'default' IN system.disks",
    "system table in an IN function": "SELECT in('default', system.disks)",
    "system table in a subquery": "SELECT 1 WHERE 'x' IN (SELECT path FROM system.disks)",
    "data paths of system.tables": "SELECT data_paths FROM system.tables",
    "all of system.tables": "SELECT * FROM system.tables",
    "columns of system.tables by pattern": "SELECT COLUMNS('data.*') FROM system.tables",
    "renamed column of system.tables": "SELECT metadata_path AS name FROM system.tables",
    "system.tables in a join": "SELECT t.name FROM system.tables t JOIN system.disks d ON 1",
    "data paths in WHERE": "SELECT name FROM system.tables WHERE data_paths[1] LIKE '/r%'",
    "data paths by correlation": "SELECT name FROM system.tables AS t WHERE (SELECT t.metadata_path) LIKE '/r%'",
    "information_schema": "SELECT * FROM information_schema.tables",
    "INFORMATION_SCHEMA": "SELECT * FROM INFORMATION_SCHEMA.COLUMNS",
    "SHOW TABLES FROM system": "SHOW TABLES FROM system",
    "SHOW PROCESSLIST": "SHOW PROCESSLIST",
    "SHOW SETTINGS": "SHOW SETTINGS LIKE 'max%'",
    "SHOW CREATE of a system table": "SHOW CREATE TABLE system.disks",
    "getSetting": "SELECT getSetting('readonly')",
    "getServerSetting": "SELECT getServerSetting('max_server_memory_usage')",
    "getMacro": "SELECT getMacro('x')",
    "hostName": "SELECT hostName()",
    "FQDN": "SELECT FQDN()",
    "serverUUID": "SELECT serverUUID()",
    "global variable": "SELECT @@version",
    "currentUser": "SELECT currentUser()",
    "showCertificate": "SELECT showCertificate()",
    "a dictionary": "SELECT dictGet('d', 'v', 1)",
    "joinGet": "SELECT joinGet('t', 'v', 1)",
    "addressToLine": "SELECT addressToLine(1)",
    "AI function": "SELECT aiGenerate('x')",
    "a table function on the right of IN": "SELECT 1 IN format(CSV, '1')",
    "an aggregate's state from bytes": "SELECT uniqMerge(CAST(unhex('ff'), 'AggregateFunction(uniq, UInt64)'))",
    "an aggregate's state in a table of values": "SELECT * FROM values('a AggregateFunction(uniq, UInt64)', 'x')",
    "an aggregate's state by a computed type": "SELECT uniqMerge(CAST(unhex('0000'), concat('Aggregate', 'Function(uniq, UInt64)')))",
    "an aggregate's state by the type of another": "SELECT uniqMerge(_CAST(unhex('0000'), toTypeName(uniqState(1))))",
    "an aggregate's state by a named type": "WITH 'Aggregate' || 'Function(uniq, UInt64)' AS t SELECT accurateCast(unhex('00'), t)",
    "an aggregate's state by a type or null": "SELECT accurateCastOrNull(unhex('00'), 'Aggregate' || 'Function(uniq, UInt64)')",
    "an aggregate's state by a type or a default": "SELECT accurateCastOrDefault(unhex('00'), 'Aggregate' || 'Function(uniq, UInt64)')",
    "a computed type of a table of values": "SELECT * FROM values('x Aggregate' || 'Function(uniq, UInt64)', '00')",
    "a named type of a table of values": "WITH 'x Aggregate' || 'Function(uniq, UInt64)' AS t SELECT * FROM values(t, '00')",
    "a selected type of a table of values": "SELECT * FROM values((SELECT 'x Aggregate' || 'Function(uniq, UInt64)'), '00')",
    "an aggregate by a text": "SELECT arrayReduce('flameGraph', [1])",
    "an aggregate by a computed text": "SELECT arrayReduce(concat('flame', 'Graph'), [1])",
    # Waste, and ways round the limits.
    "sleep": "SELECT sleep(3)",
    "sleepEachRow": "SELECT sleepEachRow(3) FROM numbers(10)",
    "sleep by APPLY": "SELECT * APPLY(sleep) FROM numbers(1)",
    "a lambda by APPLY": "SELECT * APPLY(x -> file(toString(x))) FROM numbers(1)",
    "throwIf": "SELECT throwIf(1)",
    "SETTINGS": "SELECT 1 SETTINGS max_memory_usage = 0",
    "SETTINGS in a subquery": "SELECT * FROM (SELECT 1 SETTINGS readonly = 0)",
    "SETTINGS on EXPLAIN": "EXPLAIN indexes = 1 SELECT 1",
    "unknown format": "SELECT 1 FORMAT Template",
    "format with a schema file": "SELECT 1 FORMAT Protobuf",
    "parameter without a value": "SELECT {x:String}",
    "a parameter as a table": "SELECT * FROM {x:Identifier}",
    "too long": "SELECT 1" + " " * gate.MAX_SQL_BYTES,
    "too many elements": "SELECT " + ",".join(["1"] * gate.MAX_NODES),
    "NUL": "SELECT 1\0; DROP TABLE events",
    "a forged line in an alias": "SELECT (1 AS `x)\n      Identifier y (alias z`) IN `/etc/passwd`",
    "newline in a name": "SELECT 1 AS `a\nb`",
    "settings of EXPLAIN AST put in front": "optimize = 1 SELECT 1",
    "another form of EXPLAIN AST put in front": "graph = 1 SELECT * FROM url('http://127.0.0.1:1/', CSV)",
    "not SQL": "what did this model do",
}

ALLOWED = {
    "count": "SELECT count() FROM events",
    "tables of values": "SELECT (SELECT sum(a) FROM values('a UInt8, b DateTime', (1, now()))), x.* FROM values((1, 'a'), (2, 'b')) AS x",
    "aggregates of arrays": "SELECT arrayReduce('sum', [1, 2]), arrayReduce('quantile(0.5)', [1, 2]), arrayReduce('sumIf', [1], [1])",
    "casts of every kind": "SELECT accurateCastOrNull('x', 'UInt8'), [1]::Array(Int8), CAST(now(), 'Date'), uniqMerge(s) FROM (SELECT uniqState(row) AS s FROM events)",
    "all columns": "SELECT * FROM events ORDER BY time DESC LIMIT 10",
    "qualified with the database": "SELECT count() FROM modelward.events",
    "group by": "SELECT host_name, event_name, sum(count) AS n FROM events GROUP BY host_name, event_name ORDER BY n DESC LIMIT 5",
    "time range": "SELECT * FROM events WHERE time >= now() - INTERVAL 1 HOUR AND time < now64(9)",
    "time buckets": "SELECT toStartOfInterval(time, INTERVAL 5 MINUTE) AS t, count() FROM events GROUP BY t ORDER BY t WITH FILL STEP INTERVAL 5 MINUTE",
    "combinators": "SELECT countIf(event_name = 'exec'), uniqExactIf(process_pid, late), sumOrNull(count) FROM events",
    "regular expression": "SELECT file_path FROM events WHERE match(file_path, '^/root/\\\\.(ssh|aws)/') AND process_command_line ILIKE '%curl%'",
    "text": "SELECT lower(basename(file_path)), splitByString(' > ', process_chain)[1], extract(file_path, '[^/]+$') FROM events",
    "join": "SELECT d.rule_name, e.process_command_line FROM detections AS d LEFT JOIN events AS e ON d.process_entity_id = e.process_entity_id",
    "join using": "SELECT count() FROM detections ANY LEFT JOIN events USING (host_name, workload_id)",
    "CTE": "WITH loads AS (SELECT model_instance, min(time) AS t FROM events WHERE lifecycle_phase = 'load' GROUP BY model_instance) SELECT * FROM loads",
    "recursive CTE": "WITH RECURSIVE n AS (SELECT 1 AS x UNION ALL SELECT x + 1 FROM n WHERE x < 5) SELECT sum(x) FROM n",
    "scalar alias": "WITH 'exec' AS what SELECT count() FROM events WHERE event_name = what",
    "window": "SELECT time, row_number() OVER (PARTITION BY host_name ORDER BY time) AS n FROM events",
    "named window": "SELECT sum(count) OVER w FROM events WINDOW w AS (PARTITION BY host_name ORDER BY time ROWS BETWEEN 10 PRECEDING AND CURRENT ROW)",
    "subquery in IN": "SELECT * FROM events WHERE model_instance IN (SELECT model_instance FROM events WHERE model_id = 'x')",
    "list in IN": "SELECT * FROM events WHERE event_name IN ('exec', 'connect') AND destination_port NOT IN (80, 443)",
    "a table in IN": "SELECT 1 IN (SELECT count() FROM hosts)",
    "a named subquery in IN": "WITH x AS (SELECT 'a') SELECT count() FROM events WHERE host_name IN x",
    "arrays": "SELECT arrayJoin(attack) AS id, count() FROM detections GROUP BY id",
    "ARRAY JOIN": "SELECT id, count() FROM detections ARRAY JOIN attack AS id GROUP BY id",
    "lambda": "SELECT arrayMap(x -> upper(x), attack), arrayExists(x -> x LIKE 'T1%', attack) FROM detections",
    "case": "SELECT CASE WHEN process_pid = 1 THEN 'init' ELSE 'other' END, if(late, 1, 2), coalesce(nullIf(file_path, ''), '-') FROM events",
    "casts": "SELECT CAST(process_pid AS String), count::Float64, toUInt64OrZero('7') FROM events",
    "quantiles": "SELECT quantiles(0.5, 0.99)(lifecycle_origin_age_s), topK(3)(file_path) FROM events",
    "sequence": "SELECT sequenceMatch('(?1).*(?2)')(toDateTime(time), event_name = 'exec', event_name = 'connect') FROM events GROUP BY process_entity_id",
    "union": "SELECT host_name FROM events UNION DISTINCT SELECT host_name FROM detections",
    "except and replace": "SELECT * EXCEPT (epoch, agent_id) REPLACE (lower(host_name) AS host_name) FROM events",
    "columns by pattern": "SELECT COLUMNS('^process_') FROM events LIMIT 1",
    "rollup": "SELECT host_name, event_name, count() FROM events GROUP BY ROLLUP(host_name, event_name)",
    "limit by": "SELECT host_name, time FROM events ORDER BY time LIMIT 3 BY host_name",
    "distinct, having, qualify": "SELECT DISTINCT host_name, count() AS n FROM events GROUP BY host_name HAVING n > 1 QUALIFY row_number() OVER (ORDER BY n) < 5",
    "numbers": "SELECT number FROM numbers(10)",
    "semicolon and comment": "SELECT 1; -- done",
    "comment first": "/* who */ SELECT 1",
    "a semicolon in text": "SELECT 'a; DROP TABLE events'",
    "parentheses": "(SELECT 1) UNION ALL (SELECT 2)",
    "FROM first": "FROM events SELECT count()",
    "format": "SELECT count() FROM events FORMAT JSONEachRow",
    "addresses": "SELECT isIPAddressInRange('10.1.2.3', '10.0.0.0/8'), IPv4NumToString(1) FROM events",
    "explain": "EXPLAIN SELECT count() FROM events WHERE host_name = 'a'",
    "explain syntax": "EXPLAIN SYNTAX SELECT * FROM events",
    "explain pipeline": "EXPLAIN PIPELINE SELECT count() FROM events",
    "show tables": "SHOW TABLES",
    "show tables like": "show tables like 'e%';",
    "show create": "SHOW CREATE TABLE events",
    "describe": "DESCRIBE TABLE events",
    "desc with format": "DESC detections FORMAT JSON",
    "exists": "EXISTS TABLE hosts",
    "our tables by system.tables": "SELECT name, engine FROM system.tables WHERE database = 'modelward' ORDER BY name",
    "our columns by system.columns": "SELECT name, type FROM system.columns WHERE table = 'events'",
    "system.tables inside": "SELECT * FROM (SELECT name FROM system.tables WHERE database = 'modelward')",
}


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("gate")
    # A file named like a table in the folder that the engine runs in: the default database of chdb would read it.
    (folder / "planted").write_text("1\n")
    before = Path.cwd()
    os.chdir(folder)
    name = f"file:{folder / 'store'}"
    admin = chdb.connect(name)
    admin.query("CREATE DATABASE modelward")
    for table, fields in (("events", STORED), ("detections", DETECTION_FIELDS)):
        columns = ", ".join(f"`{f.column}` {f.clickhouse}" for f in fields)
        admin.query(f"CREATE TABLE modelward.{table} ({columns}) ENGINE = MergeTree ORDER BY (host_name, time)")
    for table in ("hosts", "incidents", "models", "ledger", "quarantine"):
        admin.query(f"CREATE TABLE modelward.{table} (host_name String) ENGINE = MergeTree ORDER BY host_name")
    yield name
    admin.close()
    os.chdir(before)


@pytest.fixture
def connection(engine: str) -> Iterator[Any]:
    connection = chdb.connect(engine)
    connection.query("USE modelward")
    gate.lock(connection)
    yield connection
    connection.close()


@pytest.fixture
def loose(engine: str) -> Iterator[Any]:
    """Locked, but in the engine's default database, whose tables are the files of the machine."""
    connection = chdb.connect(engine)
    gate.lock(connection)
    yield connection
    connection.close()


@pytest.mark.parametrize("sql", REFUSED.values(), ids=REFUSED.keys())
def test_is_refused(connection: Any, sql: str) -> None:
    with pytest.raises(Refused) as refused:
        gate.admit(connection, sql)
    assert refused.value.reason
    assert connection.query("SELECT count() FROM events").bytes() == b"0\n"


@pytest.mark.parametrize("sql", ALLOWED.values(), ids=ALLOWED.keys())
def test_is_allowed_and_runs(connection: Any, sql: str) -> None:
    gate.admit(connection, sql)
    execute(connection, sql, None, "JSON")


@pytest.mark.parametrize("sql", [
    "SHOW TABLES", "SHOW TABLES LIKE '%'", "SELECT name FROM system.tables WHERE database = 'modelward'",
    "SELECT DISTINCT `table` FROM system.columns WHERE database = 'modelward'",
])
def test_tables_of_the_collector_that_nobody_may_read_are_not_listed(connection: Any, sql: str) -> None:
    gate.admit(connection, sql)
    shown = execute(connection, sql, None, "TSV").decode().split()
    assert sorted(shown) == ["detections", "events", "hosts", "incidents", "ledger", "models"]


@pytest.mark.parametrize(("sql", "hint"), [
    ("SELECT process.executable.path FROM events", "process_executable_path"),
    ("SELECT 1 FROM events AS e WHERE e.lifecycle.phase = 'load'", "lifecycle_phase"),
    ("SELECT count() FROM detections WHERE rule.name = 'x'", "rule_name"),
])
def test_a_field_with_its_dots_is_told_how_it_is_written_in_sql(connection: Any, sql: str, hint: str) -> None:
    gate.admit(connection, sql)
    with pytest.raises(EngineError) as failed:
        execute(connection, sql)
    assert f"underscores for its dots: {hint}." in explain_failure(failed.value).reason


PLACES = (
    "SELECT * FROM ({})",
    "SELECT ({})",
    "SELECT 1 WHERE 1 IN ({})",
    "SELECT count() FROM events WHERE EXISTS ({})",
    "WITH x AS ({}) SELECT * FROM x",
    "WITH ({}) AS x SELECT x",
    "SELECT * FROM events AS e LEFT JOIN ({}) AS x ON 1 = 1",
    "SELECT * FROM events CROSS JOIN ({}) AS x",
    "SELECT 1 UNION ALL ({})",
    "SELECT 1 INTERSECT ({})",
    "SELECT count() FROM events GROUP BY host_name HAVING count() > ({})",
    "SELECT 1 ORDER BY ({})",
    "SELECT arrayMap(x -> ({}), [1])",
    "SELECT 1 AS a FROM events ARRAY JOIN [({})] AS b",
    "SELECT sum(count) OVER (PARTITION BY ({})) FROM events",
    "SELECT if(1, 2, ({})) FROM events PREWHERE late",
    "SELECT quantile(0.5)(({})) FROM events LIMIT 1 BY host_name",
    "EXPLAIN ({})",
)
FORBIDDEN = (
    "SELECT * FROM url('http://127.0.0.1:1/', CSV, 'a String')",
    "SELECT file('/etc/passwd')",
    "SELECT name FROM system.users",
    'SELECT * FROM "/etc/passwd"',
    "SELECT 1 IN system.disks",
    "SELECT 1 SETTINGS max_threads = 64",
    "SELECT sleep(1)",
)


@pytest.mark.parametrize("forbidden", FORBIDDEN)
def test_is_refused_wherever_it_stands(connection: Any, forbidden: str) -> None:
    for outer, inner in itertools.product(PLACES, ("{}", *PLACES)):
        sql = outer.format(inner.format(forbidden))
        with pytest.raises(Refused):
            gate.admit(connection, sql)


def test_every_table_function_of_the_engine_that_is_not_on_the_list_is_refused(connection: Any, engine: str) -> None:
    admin = chdb.connect(engine)
    names = execute(admin, "SELECT name FROM system.table_functions").decode().split()
    admin.close()
    assert "url" in names
    for name in names:
        if name.lower() not in functions.TABLE_FUNCTIONS:
            with pytest.raises(Refused):
                gate.admit(connection, f"SELECT * FROM {name}('x')")
        assert not functions.allowed(name), f"{name} is a table function and a function: IN would call the table function"


def test_the_list_of_functions_has_no_name_that_the_engine_does_not_know(engine: str) -> None:
    admin = chdb.connect(engine)
    engines = {name.lower() for name in execute(admin, "SELECT name FROM system.functions").decode().split()}
    admin.close()
    # Written by the parser, or rewritten before the engine looks for them.
    syntax = {"lambda", "untuple", "exists", "grouping", "date_add", "date_sub", "dateadd", "datesub", "timestamp_add", "timestamp_sub"}
    unknown = functions.known() - engines - syntax
    assert not unknown


@pytest.mark.parametrize("sql", [REFUSED[name] for name in REFUSED if "a file" in name])
def test_files_are_no_tables_even_in_the_engines_default_database(loose: Any, sql: str) -> None:
    with pytest.raises(Refused):
        gate.admit(loose, sql)


def test_a_planted_file_named_like_a_subquery_is_refused(loose: Any) -> None:
    with pytest.raises(Refused):
        gate.admit(loose, "SELECT (WITH planted AS (SELECT 1) SELECT 1), * FROM planted")


def test_a_table_of_ours_that_is_not_for_queries_is_refused(connection: Any) -> None:
    for sql in ("SELECT * FROM quarantine", "WITH x AS (SELECT 1) SELECT * FROM quarantine", "SELECT 'a' IN quarantine"):
        with pytest.raises(Refused):
            gate.admit(connection, sql)


def test_values_of_parameters_reach_the_query_and_tables_by_parameter_do_not(connection: Any) -> None:
    gate.admit(connection, "SELECT count() FROM events WHERE host_name = {h:String}", {"h": "'; DROP TABLE events"})
    with pytest.raises(Refused):
        gate.admit(connection, "SELECT * FROM {t:Identifier}", {"t": "system.disks"})


def test_a_result_ends_at_the_row_limit(connection: Any) -> None:
    sql = "SELECT number FROM numbers(1000000)"
    gate.admit(connection, sql)
    assert connection.query(sql, "TSV").bytes().count(b"\n") == gate.MAX_ROWS


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT sum(cityHash64(number)) FROM numbers(1000000000000)",
        "SELECT length(groupArray(repeat('x', 1000))) FROM numbers(10000000)",
        "SELECT range(100000000)",
        "SELECT uniqExact(number) FROM numbers(1000000000)",
    ],
)
def test_a_limit_ends_a_wasteful_query_and_says_so(engine: str, sql: str) -> None:
    connection = chdb.connect(engine)
    connection.query("USE modelward")
    gate.lock(connection, seconds=1)
    gate.admit(connection, sql)
    with pytest.raises(EngineError) as failed:
        execute(connection, sql, None, "JSON")
    assert explain_failure(failed.value).kind == "limit"
    connection.close()


def test_a_locked_connection_cannot_be_unlocked(connection: Any) -> None:
    for sql in ("SET readonly = 0", "SET max_memory_usage = 0", "SELECT 1 SETTINGS max_execution_time = 0", "DROP TABLE events"):
        with pytest.raises(Exception):  # noqa: B017
            connection.query(sql)


def test_an_error_of_the_engine_becomes_one_sentence_without_version(connection: Any) -> None:
    gate.admit(connection, "SELECT nosuch FROM events")
    with pytest.raises(EngineError) as failed:
        execute(connection, "SELECT nosuch FROM events")
    told = explain_failure(failed.value)
    assert told.kind == "syntax"
    assert "nosuch" in told.reason
    assert "version" not in told.reason
    assert "DB::Exception" not in told.reason
