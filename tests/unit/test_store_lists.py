"""Lists that look at less than everything give what a look at everything gives, on the real engine."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from typing import Any

import pytest
from modelward_collector.data_folder import DataFolder
from modelward_collector.store import engine
from modelward_collector.store.encode import timestamp
from modelward_collector.web.listings import LISTINGS
from modelward_collector.web.queries import filtered, listing, severities, steps

from tests.unit.test_store_exceptions import Store, shell

HOUR = 3600 * 10**9
NOW = time.time_ns()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Two hosts with loads of two models each under the same numbers, 40 days of detections in groups, a day of events."""
    folder = DataFolder(tmp_path_factory.mktemp("lists"))
    folder.create()
    made = Store(folder)
    chance = random.Random(7)
    made.put("bindings", [
        {"host_name": host, "model_instance": i, "model_id": f"model-{(i + shift) % 3}", "model_digest": f"d{(i + shift) % 3}",
         "time": timestamp(NOW)} for shift, host in enumerate("ab") for i in range(1, 7)])
    made.put("hosts_raw", [{"host_name": host, "agent_id": f"agent-{host}", "updated": timestamp(NOW)[:23]} for host in "ab"])
    bursts = [(int(chance.expovariate(1 / 100) * HOUR), chance.choice("ab")) for _ in range(140)]
    made.detect(*(shell(
        f"{n:032x}", time=NOW - bursts[n // 3][0] - n % 3 * 60 * 10**9, host_name=bursts[n // 3][1], group_key=f"k@{n // 3 % 23}",
        rule_name=f"r{n // 3 % 23 % 4}", workload_id=f"w{n // 3 % 23}", model_instance=chance.randrange(7),
        lifecycle_origin_instance=chance.randrange(7), severity=chance.choice(["low", "high", "critical"]), sentence=f"what {n}",
    ) for n in range(420)))
    made.put("events_raw", [{
        "host_name": (host := chance.choice("ab")), "agent_id": f"agent-{host}", "epoch": "e", "batch": n // 50, "row": n % 50,
        "time": timestamp(NOW - chance.randrange(48) * HOUR - n), "batch_time": timestamp(NOW),
        "model_instance": chance.randrange(7), "lifecycle_origin_instance": chance.choice([0, 0, 5]),
        "process_chain": f"python > sh {n}"} for n in range(600)])
    made.reload()
    yield made
    made.lane.close()


def run(store: Store, sql: str, parameters: dict[str, str]) -> list[Any]:
    def work(connection: Any) -> bytes:
        engine.execute(connection, "USE modelward")
        return engine.execute(connection, sql, parameters, "JSONEachRow")

    return [json.loads(line) for line in store.lane.call(work).splitlines()]


def shown(store: Store, name: str, given: dict[str, str]) -> list[Any]:
    """As the API answers."""
    rows: list[Any] = []
    for step in steps(name, given):
        sql, parameters, limit = listing(name, step)
        rows = run(store, sql, parameters)
        if len(rows) >= limit:
            break
    return rows


def some_incident(store: Store) -> dict[str, Any]:
    found: dict[str, Any] = run(store, "SELECT key, detection_ids FROM incidents WHERE count > 1 ORDER BY key LIMIT 1", {})[0]
    return found


INCIDENTS: list[dict[str, str]] = [
    {}, {"limit": "5"}, {"limit": "1000"}, {"since": "24h"}, {"since": "7d", "limit": "3"}, {"host": "a", "limit": "7"},
    {"host": "b", "since": "7d"}, {"since": "20d", "until": "10d"}, {"model": "model-1"}, {"model": "model-2", "since": "7d"},
    {"min_severity": "high", "limit": "4"}, {"rule": "r2"}, {"q": "what 7", "limit": "10"}, {"workload": "w3"},
    {"silenced": "1", "since": "30d"}, {"model": "nosuch"},
]


@pytest.mark.parametrize("given", INCIDENTS, ids=str)
def test_incidents_are_the_same_as_those_of_a_look_at_all_detections(store: Store, given: dict[str, str]) -> None:
    filters = dict(given)
    limit = int(filters.pop("limit", "100"))
    query = filtered("incidents", filters)
    everything = run(store, query.sql("SELECT * FROM incidents", LISTINGS["incidents"].order, limit), query.parameters)
    assert shown(store, "incidents", given) == everything
    assert everything or given == {"model": "nosuch"}


def test_one_incident_is_whole_by_its_key_and_by_one_of_its_detections(store: Store) -> None:
    wanted = some_incident(store)
    [by_key] = shown(store, "incidents", {"key": wanted["key"]})
    [by_id] = shown(store, "incidents", {"id": wanted["detection_ids"][-1]})
    assert by_key == by_id
    assert by_key["detection_ids"] == wanted["detection_ids"]


@pytest.mark.parametrize(
    "given", [{}, {"since": "20d"}, {"host": "a", "since": "30d"}, {"silenced": "1", "since": "3d"}], ids=str)
def test_severities_count_the_incidents_of_the_span(store: Store, given: dict[str, str]) -> None:
    counted = {row["severity"]: row["n"] for row in run(store, *severities(given))}
    listed: dict[str, int] = {}
    for row in shown(store, "incidents", {"since": "24h", "limit": "1000", **given}):
        listed[row["severity"]] = listed.get(row["severity"], 0) + 1
    assert {severity: int(n) for severity, n in counted.items()} == listed


@pytest.mark.parametrize("model", ["model-0", "model-1", "d2", "nosuch"])
def test_events_of_a_model_are_those_of_its_loads_on_each_host(store: Store, model: str) -> None:
    by_view = run(
        store, "SELECT host_name, batch, row FROM events WHERE (model_id = {m:String} OR lifecycle_origin_model = {m:String} "
        "OR model_digest = {m:String} OR dictGetOrDefault('modelward.model_by_instance', 'model_digest', "
        "(host_name, lifecycle_origin_instance), '') = {m:String}) ORDER BY time DESC, batch DESC, row DESC", {"m": model})
    found = shown(store, "events", {"model": model, "since": "10d", "limit": "1000"})
    assert [{name: row[name] for name in ("host_name", "batch", "row")} for row in found] == by_view
    assert bool(found) == (model != "nosuch")


def test_events_of_a_page_are_the_newest_whatever_span_holds_them(store: Store) -> None:
    newest = run(store, "SELECT batch, row FROM events ORDER BY time DESC, batch DESC, row DESC LIMIT 300", {})
    for limit in (1, 20, 300):
        found = shown(store, "events", {"since": "10d", "limit": str(limit)})
        assert [{"batch": row["batch"], "row": row["row"]} for row in found] == newest[:limit]


def test_events_by_their_names_are_found_on_their_host(store: Store) -> None:
    rows = run(store, "SELECT agent_id, batch, row FROM events ORDER BY batch, row LIMIT 3", {})
    names = ",".join(f"{r['agent_id']}/e/{r['batch']}/{r['row']}" for r in rows)
    found = shown(store, "events", {"names": names})
    assert sorted((r["batch"], r["row"]) for r in found) == [(r["batch"], r["row"]) for r in rows]
