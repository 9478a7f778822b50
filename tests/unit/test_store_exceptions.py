"""Exceptions on the real engine: what they silence, when, and where; and what cannot be made."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from modelward_collector.data_folder import DataFolder
from modelward_collector.store import engine, exceptions
from modelward_collector.store.ddl.migrations import migrate
from modelward_collector.store.ddl.views import DICTIONARIES
from modelward_collector.store.encode import timestamp
from modelward_collector.store.interface import WriteRefused
from modelward_proto.fields import DETECTION_FIELDS
from modelward_proto.v1.store_pb2 import ExceptionRequest

from tests.batches import now_ns, zero

DAY = 86_400 * 10**9
DIGEST = "9" * 64


class Store:
    """Tables and views on an engine, and rows put there by hand."""

    def __init__(self, folder: DataFolder) -> None:
        self.scratch = folder.scratch
        self.lane = engine.Lane("test", folder.engine)
        self.lane.call(lambda c: migrate(c, 30))
        self._tokens = itertools.count()

    def rows(self, sql: str) -> list[list[Any]]:
        return self.lane.call(lambda c: engine.rows(c, sql))

    def put(self, table: str, objects: list[Mapping[str, Any]]) -> None:
        token = f"{table}-{next(self._tokens)}"
        self.lane.call(lambda c: engine.insert_json(c, table, objects, token))

    def detect(self, *given: Mapping[str, Any]) -> None:
        wanted = [{f.column: zero(f) for f in DETECTION_FIELDS} | {"severity": "high"} | dict(g) for g in given]
        for row in wanted:
            row["time"] = row["detected_at"] = timestamp(row["time"] or now_ns())
        self.put("detections_raw", wanted)

    def bind(self, host: str, instance: int, digest: str) -> None:
        self.put("bindings", [{"host_name": host, "model_instance": instance, "model_digest": digest, "model_id": "m",
                               "time": timestamp(now_ns())}])
        self.reload()

    def make(self, **given: Any) -> None:
        wanted = {"id": f"{next(self._tokens):016x}", "rule_name": "shell_in_load", "executable_path": "/usr/bin/dash",
                  "model_digest": DIGEST, "reason": "known", "author": "ann", "expires_ns": now_ns() + DAY} | given
        self.lane.call(lambda c: exceptions.write(c, ExceptionRequest(**wanted)))
        self.reload()

    def reload(self) -> None:
        for name in DICTIONARIES:
            self.lane.call(lambda c, n=name: engine.execute(c, f"SYSTEM RELOAD DICTIONARY {n}"))

    def silenced(self) -> dict[str, str]:
        return dict(self.rows("SELECT detection_id, silenced_by FROM modelward.detections"))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    folder = DataFolder(tmp_path_factory.mktemp("store"))
    folder.create()
    made = Store(folder)
    yield made
    made.lane.close()


@pytest.fixture
def store(opened: Store) -> Store:
    empty(opened)
    return opened


def empty(store: Store) -> None:
    for table in ("detections_raw", "bindings", "exceptions_raw", "hosts_raw"):
        store.lane.call(lambda c, t=table: engine.execute(c, f"TRUNCATE TABLE modelward.{t}"))
    store.reload()


def shell(name: str, **more: Any) -> dict[str, Any]:
    return {"detection_id": name, "time": 0, "rule_name": "shell_in_load", "process_executable_path": "/usr/bin/dash",
            "host_name": "a", "model_instance": 7} | more


def test_an_exception_silences_what_equals_it_in_all_and_nothing_else(store: Store) -> None:
    store.bind("a", 7, DIGEST)
    store.bind("a", 8, "8" * 64)
    store.detect(shell("same"), shell("other rule", rule_name="x"), shell("other program", process_executable_path="/bin/x"),
                 shell("other model", model_instance=8), shell("other host", host_name="b"), shell("no model", model_instance=0))
    store.make(id="a" * 16)
    assert store.silenced() == {"same": "a" * 16, "other rule": "", "other program": "", "other model": "", "other host": "",
                                "no model": ""}


def test_the_model_of_the_origin_counts_when_the_process_has_none_of_its_own(store: Store) -> None:
    store.bind("a", 7, DIGEST)
    store.bind("a", 8, "8" * 64)
    store.detect(shell("by origin", model_instance=0, lifecycle_origin_instance=7),
                 shell("own model wins", model_instance=8, lifecycle_origin_instance=7),
                 shell("own model is not identified", model_instance=9, lifecycle_origin_instance=7))
    store.make(id="a" * 16)
    assert store.silenced() == {"by origin": "a" * 16, "own model wins": "", "own model is not identified": ""}


def test_a_model_that_is_known_late_silences_what_was_detected_before(store: Store) -> None:
    store.detect(shell("early"))
    store.make(id="a" * 16)
    assert store.silenced() == {"early": ""}
    store.bind("a", 7, DIGEST)
    assert store.silenced() == {"early": "a" * 16}


def test_an_exception_without_a_model_ends_for_a_detection_whose_model_becomes_known(store: Store) -> None:
    store.detect(shell("early"))
    store.make(id="a" * 16, model_digest="")
    assert store.silenced() == {"early": "a" * 16}
    store.bind("a", 7, DIGEST)
    assert store.silenced() == {"early": ""}


def test_what_is_detected_after_the_end_is_told_and_what_was_before_stays_silenced(store: Store) -> None:
    store.bind("a", 7, DIGEST)
    end = now_ns() + DAY
    store.make(id="a" * 16, expires_ns=end)
    store.detect(shell("before", time=end - 1), shell("at the end", time=end), shell("after", time=end + 1))
    assert store.silenced() == {"before": "a" * 16, "at the end": "", "after": ""}


def test_revoking_shows_again_what_was_silenced_and_says_who_did_it(store: Store) -> None:
    store.bind("a", 7, DIGEST)
    store.detect(shell("d"))
    store.make(id="a" * 16)
    store.make(id="a" * 16, revoked=True, author="bob")
    store.make(id="a" * 16, revoked=True, author="eve")
    assert store.silenced() == {"d": ""}
    assert store.rows("SELECT author, reason, revoked, revoked_by, active, hits FROM modelward.exceptions") == [
        ["ann", "known", True, "bob", False, 0]]


def test_revoking_counts_though_the_clock_was_set_back(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.bind("a", 7, DIGEST)
    store.detect(shell("d"))
    store.make(id="a" * 16)
    clock = time.time_ns
    monkeypatch.setattr("modelward_collector.store.exceptions.time.time_ns", lambda: clock() - 3600 * 10**9)
    store.make(id="a" * 16, revoked=True)
    assert store.silenced() == {"d": ""}


def test_one_host_or_all(store: Store) -> None:
    for host in ("a", "b"):
        store.bind(host, 7, DIGEST)
    store.detect(shell("on a"), shell("on b", host_name="b"))
    store.make(id="a" * 16, host_name="b")
    assert store.silenced() == {"on a": "", "on b": "a" * 16}
    store.make(id="b" * 16, host_name="")
    assert store.silenced() == {"on a": "b" * 16, "on b": "a" * 16}


def test_hits_are_counted_and_an_incident_tells_how_many_of_it_are_silenced(store: Store) -> None:
    store.bind("a", 7, DIGEST)
    store.detect(shell("1", group_key="k", sentence="silent"), shell("2", group_key="k", sentence="silent", severity="critical"),
                 shell("3", group_key="k", process_executable_path="/bin/x", sentence="loud"), shell("4", group_key="all"))
    store.make(id="a" * 16)
    assert store.rows("SELECT id, hits, active FROM modelward.exceptions") == [["a" * 16, 3, True]]
    assert store.rows("SELECT group_key, count, silenced, all_silenced, severity, sentence FROM ("
                      "SELECT *, splitByChar('@', key)[1] AS group_key FROM modelward.incidents) ORDER BY group_key") == [
        ["all", 1, 1, True, "high", ""], ["k", 3, 2, False, "high", "loud"]]


def test_making_the_same_exception_twice_makes_one_and_another_under_its_name_is_refused(store: Store) -> None:
    end = now_ns() + DAY
    store.make(id="a" * 16, expires_ns=end)
    store.make(id="a" * 16, expires_ns=end)
    assert store.rows("SELECT count() FROM modelward.exceptions_raw") == [[1]]
    with pytest.raises(WriteRefused, match="another exception"):
        store.make(id="a" * 16, reason="other")


@pytest.mark.parametrize(("wrong", "said"), [
    ({"reason": " "}, "reason"), ({"rule_name": ""}, "rule"), ({"executable_path": ""}, "program"),
    ({"expires_ns": 0}, "future"), ({"expires_ns": time.time_ns() + 367 * DAY}, "366 days"),
    ({"reason": "x" * 501}, "500"), ({"author": "a\nb"}, "cannot be shown"), ({"id": "no"}, "16 hex"),
    ({"id": "f" * 16, "revoked": True}, "no exception"),
])
def test_what_cannot_be_an_exception_is_refused_in_one_sentence(store: Store, wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(WriteRefused, match=said):
        store.make(**wrong)
    assert store.rows("SELECT count() FROM modelward.exceptions_raw") == [[0]]


def test_labels_of_a_host_stand_on_its_detections_and_incidents(store: Store) -> None:
    store.put("hosts_raw", [{"host_name": "a", "agent_id": "1", "updated": timestamp(now_ns())[:23], "labels": ["env=prod"]}])
    store.reload()
    store.detect(shell("1", group_key="k"), shell("2", group_key="l", host_name="unheard"))
    assert store.rows("SELECT host_name, host_labels FROM modelward.detections ORDER BY detection_id") == [
        ["a", ["env=prod"]], ["unheard", []]]
    assert store.rows("SELECT host_labels FROM modelward.incidents ORDER BY host_name") == [[["env=prod"]], [[]]]


HOSTS, RULES, PROGRAMS, DIGESTS = ("a", "b"), ("r1", "r2"), ("/p1", "/p2"), ("", "d1", "d2")
START = time.time_ns()
hours = st.integers(1, 6).map(lambda h: START + h * 3600 * 10**9)


@dataclass(frozen=True)
class Made:
    """An exception of the property test."""

    rule_name: str
    executable_path: str
    model_digest: str
    host_name: str
    expires: int
    revoked: bool


detected = st.fixed_dictionaries({
    "rule_name": st.sampled_from(RULES), "process_executable_path": st.sampled_from(PROGRAMS),
    "host_name": st.sampled_from(HOSTS), "time": hours, "model_instance": st.integers(0, 3),
    "lifecycle_origin_instance": st.integers(0, 3)})
made = st.builds(Made, st.sampled_from(RULES), st.sampled_from(PROGRAMS), st.sampled_from(DIGESTS),
                 st.sampled_from(("", *HOSTS)), hours, st.booleans())
bound = st.dictionaries(st.tuples(st.sampled_from(HOSTS), st.integers(1, 3)), st.sampled_from(DIGESTS[1:]))


def plain(row: Mapping[str, Any], exceptions: list[Made], digests: Mapping[tuple[str, int], str]) -> set[int]:
    """What the words of the contract say, read one detection and one exception at a time: which may have silenced it."""
    digest = digests.get((row["host_name"], row["model_instance"] or row["lifecycle_origin_instance"]), "")
    return {i for i, e in enumerate(exceptions)
            if not e.revoked and e.rule_name == row["rule_name"] and e.executable_path == row["process_executable_path"]
            and e.model_digest == digest and e.host_name in ("", row["host_name"]) and row["time"] < e.expires}


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(detected, min_size=1, max_size=30), st.lists(made, max_size=12), bound)
def test_the_view_silences_exactly_what_a_plain_reading_does(
    store: Store, detections: list[dict[str, Any]], exceptions: list[Made], digests: dict[tuple[str, int], str]
) -> None:
    empty(store)
    store.detect(*({"detection_id": str(i)} | d for i, d in enumerate(detections)))
    if digests:
        store.put("bindings", [{"host_name": h, "model_instance": i, "model_digest": d, "time": timestamp(now_ns())}
                               for (h, i), d in digests.items()])
    if exceptions:
        store.put("exceptions_raw", [{
            "id": f"{i:016x}", "rule_name": e.rule_name, "executable_path": e.executable_path, "reason": "x",
            "model_digest": e.model_digest, "host_name": e.host_name, "expires": timestamp(e.expires), "revoked": e.revoked,
            "changed": timestamp(START)} for i, e in enumerate(exceptions)])
    store.reload()
    shown = store.silenced()
    for index, row in enumerate(detections):
        by = shown[str(index)]
        may = plain(row, exceptions, digests)
        assert (int(by, 16) in may) if by else not may
