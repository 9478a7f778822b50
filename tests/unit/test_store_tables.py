"""Tables and views on the real engine: growth of the field table, lifetimes, budgets, groups of detections."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from modelward_collector.data_folder import DataFolder
from modelward_collector.ingest.judging import conform
from modelward_collector.settings import CollectorSettings
from modelward_collector.store import engine
from modelward_collector.store.allowed import VIEWS
from modelward_collector.store.ddl import columns, migrations
from modelward_collector.store.ddl.migrations import Lifetimes, MigrationError, migrate
from modelward_collector.store.encode import ipc
from modelward_collector.store.retention import Retention
from modelward_proto.fields import DETECTION_FIELDS, STORED

from tests.batches import now_ns, zero

S = 10**9


@pytest.fixture
def folder(tmp_path: Path) -> DataFolder:
    made = DataFolder(tmp_path)
    made.create()
    return made


@pytest.fixture
def lane(folder: DataFolder) -> Iterator[engine.Lane]:
    made = engine.Lane("test", folder.engine)
    yield made
    made.close()


def names(lane: engine.Lane, table: str) -> list[str]:
    return [r[0] for r in lane.call(lambda c: engine.rows(
        c, "SELECT name FROM system.columns WHERE database = 'modelward' AND table = {t:String} ORDER BY position",
        {"t": table}))]


def test_tables_and_views_have_the_columns_of_the_field_table(lane: engine.Lane) -> None:
    lane.call(lambda c: migrate(c, 30))
    assert names(lane, "events_raw") == [f.column for f in STORED]
    assert names(lane, "events") == [f.column for f in STORED]
    assert names(lane, "detections_raw") == [*(f.column for f in DETECTION_FIELDS), "stored_at"]
    assert {"model_id", "model_digest", "lifecycle_origin_model", "silenced_by"} <= set(names(lane, "detections"))
    assert lane.call(lambda c: migrate(c, 30)) == []


def test_the_page_on_the_store_names_every_column_of_every_view(lane: engine.Lane) -> None:
    lane.call(lambda c: migrate(c, 30))
    page = (Path(__file__).parents[2] / "docs" / "store.md").read_text(encoding="utf-8").split("\n## ")[1]
    told = {}
    for section in page.split("\n### ")[1:]:
        head, _, body = section.partition("\n")
        cells = [line.split("|")[1] for line in body.splitlines() if line.startswith("| `")]
        told[head.strip("`")] = sorted(name for cell in cells for name in re.findall(r"`(\w+)`", cell))
    assert sorted(told) == sorted(VIEWS)
    for view, columns_told in told.items():
        assert columns_told == ([] if view == "events" else sorted(names(lane, view))), view


def test_a_field_that_is_added_becomes_a_column_at_the_next_start(lane: engine.Lane, monkeypatch: pytest.MonkeyPatch) -> None:
    older = tuple(f for f in STORED if f.name not in ("raced", "file.links"))
    monkeypatch.setitem(columns.TABLES, "events_raw", older)
    monkeypatch.setattr("modelward_collector.store.ddl.views.STORED", older)
    lane.call(lambda c: migrate(c, 30))
    lane.call(lambda c: engine.execute(c, "INSERT INTO modelward.events_raw (host_name, batch_time) VALUES ('a', now())"))
    monkeypatch.undo()
    added = lane.call(lambda c: migrate(c, 30))
    assert len(added) == 2
    assert names(lane, "events_raw") == [f.column for f in STORED]
    assert lane.call(lambda c: engine.rows(c, "SELECT raced, file_links FROM modelward.events")) == [[False, 0]]


def test_a_store_of_a_newer_version_is_refused(lane: engine.Lane) -> None:
    lane.call(lambda c: migrate(c, 30))
    lane.call(lambda c: engine.execute(c, "INSERT INTO modelward.schema_migrations VALUES (9999, 'future', 'x', now())"))
    with pytest.raises(MigrationError, match="newer collector"):
        lane.call(lambda c: migrate(c, 30))


def test_an_interrupted_migration_goes_on(lane: engine.Lane) -> None:
    first = migrations.shipped()[0].statements(Lifetimes(30, 30))[0]
    lane.call(lambda c: engine.execute(c, "CREATE DATABASE modelward"))
    lane.call(lambda c: engine.execute(c, first))
    assert "0001_events" in lane.call(lambda c: migrate(c, 30))


def test_a_changed_retention_changes_the_lifetime_of_every_table(lane: engine.Lane) -> None:
    lane.call(lambda c: migrate(c, 30))
    lane.call(lambda c: migrate(c, 3))
    found = dict(lane.call(lambda c: engine.rows(
        c, "SELECT name, extract(create_table_query, 'toIntervalDay\\((\\d+)\\)') FROM system.tables "
           "WHERE database = 'modelward' AND position(create_table_query, 'TTL') > 0 AND engine LIKE '%MergeTree'")))
    assert found["events_raw"] == "3"
    assert found["batches"] == "5"
    assert found["detections_raw"] == "365"
    assert found["bindings"] == "367"
    lane.call(lambda c: migrate(c, 30, detection_days=7))
    again = dict(lane.call(lambda c: engine.rows(
        c, "SELECT name, extract(create_table_query, 'toIntervalDay\\((\\d+)\\)') FROM system.tables "
           "WHERE database = 'modelward' AND name IN ('detections_raw', 'bindings')")))
    assert again == {"detections_raw": "7", "bindings": "32"}


def test_a_store_of_the_first_version_gets_what_came_later_and_keeps_its_rows(folder: DataFolder, lane: engine.Lane) -> None:
    lane.call(lambda c: engine.execute(c, "CREATE DATABASE modelward"))
    lane.call(lambda c: engine.execute(
        c, "CREATE TABLE modelward.schema_migrations (number UInt32, name String, checksum String, "
           "applied_at DateTime64(3, 'UTC')) ENGINE = MergeTree ORDER BY number"))
    for migration in migrations.shipped()[:5]:
        for statement in migration.statements(Lifetimes(30, 30)):
            lane.call(lambda c, s=statement: engine.execute(c, s))
        lane.call(lambda c, m=migration: engine.execute(
            c, f"INSERT INTO modelward.schema_migrations VALUES ({m.number}, '{m.name}', '{m.checksum}', now())"))
    old = now_ns() - 3600 * S
    insert_detections(folder, lane, {"time": old, "detected_at": old + S, "host_name": "a"})
    lane.call(lambda c: engine.execute(
        c, "INSERT INTO modelward.hosts_raw (host_name, agent_id, updated) VALUES ('a', 'x', now())"))
    assert "0006_operators" in lane.call(lambda c: migrate(c, 30))
    assert lane.call(lambda c: engine.rows(
        c, "SELECT stored_at = detected_at, silenced_by, host_labels FROM modelward.detections")) == [[1, "", []]]
    assert lane.call(lambda c: engine.rows(c, "SELECT labels, mode FROM modelward.hosts")) == [[[], "watching"]]
    insert_detections(folder, lane, {"time": old, "host_name": "b"}, token="after")
    assert lane.call(lambda c: migrate(c, 30)) == []


def test_over_budget_the_oldest_day_goes_and_the_newest_stays(folder: DataFolder, lane: engine.Lane) -> None:
    lane.call(lambda c: migrate(c, 30))
    for day in range(4):
        lane.call(lambda c, d=day: engine.execute(
            c, "INSERT INTO modelward.events_raw (host_name, batch_time, file_path) SELECT 'a', "
               f"now() - INTERVAL {d} DAY, randomPrintableASCII(100) FROM numbers(3000)"))
    settings = CollectorSettings(data=folder.root, max_store_bytes=900_000, min_free_bytes=0)
    retention = Retention(folder, settings)
    lane.call(retention.enforce)
    days = [r[0] for r in lane.call(lambda c: engine.rows(
        c, "SELECT dateDiff('day', toDate(batch_time), toDate(now())) AS d FROM modelward.events_raw GROUP BY d ORDER BY d"))]
    assert 0 < len(days) < 4
    assert days == list(range(len(days)))
    assert not retention.full


def test_over_budget_detections_and_what_they_name_stay_when_events_go(folder: DataFolder, lane: engine.Lane) -> None:
    lane.call(lambda c: migrate(c, 30))
    insert_detections(folder, lane, *({"time": now_ns() - d * 86_400 * S, "reason": f"{d}" * 2000} for d in range(300)))
    for day in range(3):
        lane.call(lambda c, d=day: engine.execute(
            c, "INSERT INTO modelward.events_raw (host_name, batch_time, file_path) SELECT 'a', "
               f"now() - INTERVAL {d} DAY, randomPrintableASCII(100) FROM numbers(100)"))
    retention = Retention(folder, CollectorSettings(data=folder.root, max_store_bytes=1 << 20, min_free_bytes=0))
    retention._budget = 1
    lane.call(retention.enforce)
    kept = lane.call(lambda c: engine.rows(
        c, "SELECT (SELECT count() FROM modelward.detections_raw), (SELECT uniqExact(batch_time) FROM modelward.events_raw)"))
    assert kept == [[300, 1]]
    assert "over its budget" in retention.full


def test_a_load_is_forgotten_when_nothing_names_it_and_not_for_its_age(folder: DataFolder, lane: engine.Lane) -> None:
    lane.call(lambda c: migrate(c, 30))
    for instance, days in ((1, 40), (2, 40), (3, 40), (4, 40), (5, 1)):
        lane.call(lambda c, i=instance, d=days: engine.execute(
            c, f"INSERT INTO modelward.bindings (host_name, model_instance, time) VALUES ('a', {i}, now() - INTERVAL {d} DAY)"))
    lane.call(lambda c: engine.execute(
        c, "INSERT INTO modelward.events_raw (host_name, model_instance, batch_time) VALUES ('a', 1, now()), ('b', 4, now())"))
    insert_detections(folder, lane, {"host_name": "a", "lifecycle_origin_instance": 2, "time": now_ns()})
    lane.call(lambda c: engine.execute(c, "SET mutations_sync = 1"))
    retention = Retention(folder, CollectorSettings(data=folder.root, min_free_bytes=0))
    assert lane.call(retention.prune) == 2
    assert lane.call(lambda c: engine.rows(c, "SELECT model_instance FROM modelward.bindings ORDER BY model_instance")) == [
        [1], [2], [5]]
    assert lane.call(retention.prune) == 0


def test_a_nearly_full_disk_takes_no_batches_and_says_so(folder: DataFolder, lane: engine.Lane) -> None:
    lane.call(lambda c: migrate(c, 30))
    retention = Retention(folder, CollectorSettings(data=folder.root, min_free_bytes=1 << 60))
    lane.call(retention.enforce)
    assert "nearly full" in retention.full


def insert_detections(folder: DataFolder, lane: engine.Lane, *given: dict[str, object], token: str = "t") -> None:
    rows = [{f.column: zero(f) for f in DETECTION_FIELDS} | {"detection_id": f"d{i}"} | dict(g) for i, g in enumerate(given)]
    table = pa.table({f.column: pa.array([r[f.column] for r in rows], pa.string() if f.type == "closed" else f.arrow)
                      for f in DETECTION_FIELDS})
    data = ipc(conform(table, DETECTION_FIELDS))
    names_of = tuple(f.column for f in DETECTION_FIELDS)
    lane.call(lambda c: engine.insert(c, "detections_raw", names_of, data, token, folder.scratch))


def test_a_gap_of_ten_minutes_opens_a_new_incident_and_groups_and_hosts_stay_apart(
    folder: DataFolder, lane: engine.Lane
) -> None:
    lane.call(lambda c: migrate(c, 30))
    start = now_ns() - 7200 * S
    insert_detections(
        folder, lane,
        {"group_key": "k", "host_name": "a", "time": start, "severity": "low", "sentence": "first"},
        {"group_key": "k", "host_name": "a", "time": start + 599 * S, "severity": "critical", "sentence": "worst"},
        {"group_key": "k", "host_name": "a", "time": start + 1198 * S, "severity": "high", "sentence": "last"},
        {"group_key": "k", "host_name": "a", "time": start + 1900 * S, "severity": "medium", "sentence": "later"},
        {"group_key": "other", "host_name": "a", "time": start, "severity": "low", "sentence": "other"},
        {"group_key": "k", "host_name": "b", "time": start, "severity": "low", "sentence": "elsewhere"},
    )
    found = lane.call(lambda c: engine.rows(
        c, "SELECT host_name, count, severity, sentence, length(detection_ids) FROM modelward.incidents "
           "ORDER BY host_name, first, sentence"))
    assert found == [["a", 1, "low", "other", 1], ["a", 3, "critical", "worst", 3], ["a", 1, "medium", "later", 1],
                     ["b", 1, "low", "elsewhere", 1]]
