"""What the receivers get from a batch: detections with names, keys and sentences that hold up against
hostile rows.
"""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from modelward_collector.rules.detections import ARROW_SCHEMA, MAX_EVENTS, MAX_KEY, SCHEMA, to_arrow
from modelward_collector.rules.evaluate import Evaluator
from modelward_collector.rules.judge import BatchName, Judge
from modelward_collector.rules.self_tests import frame
from modelward_collector.rules.tree import Regex
from modelward_proto.fields import BY_NAME, STORED, WIRE_SCHEMA
from modelward_proto.text import escape, is_inert

NAME = BatchName("gpu-17", "a" * 32, "e" * 32, 12)
SHELL = {
    "event.name": "exec",
    "process.entry": "child",
    "process.executable.path": "/usr/bin/dash",
    "process.executable.class": "shell",
    "process.command_line": "sh -c id",
    "lifecycle.phase": "load",
    "lifecycle.scope": "open",
    "model.instance": 7,
    "process.root_id": "b-1-2",
    "workload.id": "host:b-1-2",
    "row": 3,
    "time": datetime(2026, 11, 25, 7, tzinfo=UTC),
}
LOADED = {
    "event.name": "lifecycle",
    "lifecycle.phase": "load",
    "model.instance": 7,
    "file.path": "/srv/evil.joblib",
    "row": 2,
}


@pytest.fixture(scope="module")
def judge() -> Judge:
    return Judge([])


def detected(judge: Judge, *rows: dict[str, object], name: BatchName = NAME) -> list[dict[str, object]]:
    found = judge.judge(frame(rows), name)  # type: ignore[arg-type]
    assert found.schema == SCHEMA
    return found.to_dicts()


def test_detection_says_what_who_where_and_which_rows(judge: Judge) -> None:
    (one,) = detected(judge, LOADED, SHELL)
    assert one["rule_name"] == "shell_in_load"
    assert one["severity"] == "critical"
    assert one["sentence"] == "The load of evil.joblib started /usr/bin/dash: sh -c id"
    assert one["events"] == [f"{'a' * 32}/{'e' * 32}/12/3"]
    assert (one["host_name"], one["agent_id"], one["workload_id"]) == ("gpu-17", "a" * 32, "host:b-1-2")
    assert one["time"] == SHELL["time"]
    assert one["model_instance"] == 7


def test_arrow_form_has_exactly_the_stored_types(judge: Judge) -> None:
    batch = to_arrow(judge.judge(frame([SHELL]), NAME))  # type: ignore[list-item]
    assert isinstance(batch, pa.RecordBatch)
    assert batch.schema == ARROW_SCHEMA
    assert batch.column("severity").to_pylist() == ["critical"]
    assert to_arrow(SCHEMA.to_frame()).num_rows == 0


def test_judging_a_batch_again_makes_the_same_ids(judge: Judge) -> None:
    first, second = (detected(judge, LOADED, SHELL)[0] for _ in range(2))
    assert first["detection_id"] == second["detection_id"]


def test_another_judge_makes_the_same_ids() -> None:
    ids = {str(detected(Judge([]), LOADED, SHELL)[0]["detection_id"]) for _ in range(2)}
    assert len(ids) == 1


@pytest.mark.parametrize("change", [{"row": 4}, {"process.root_id": "other"}, {"lifecycle.origin.instance": 9}])
def test_another_row_or_group_makes_another_id(judge: Judge, change: dict[str, object]) -> None:
    assert detected(judge, SHELL)[0]["detection_id"] != detected(judge, {**SHELL, **change})[0]["detection_id"]


def test_another_version_of_the_rule_makes_another_id(tmp_path: Path) -> None:
    rule = next(r for r in Judge([]).rules() if r.name == "shell_in_load")
    ids = set()
    for version in ("one", "two"):
        changed = Judge([])
        changed._evaluator = Evaluator([dataclasses.replace(rule, version=version)])
        ids.add(detected(changed, SHELL)[0]["detection_id"])
    assert len(ids) == 2


def test_event_that_several_rules_match_is_detected_by_each(judge: Judge) -> None:
    row = {**SHELL, "process.executable.memfd": True, "process.stdio_socket": True}
    rules = {one["rule_name"] for one in detected(judge, row)}
    assert rules == {"shell_in_load", "exec_from_memory", "reverse_shell"}


def test_rows_that_differ_in_time_alone_are_one_detection_with_all_their_names(judge: Judge) -> None:
    later = datetime(2026, 11, 25, 8, tzinfo=UTC)
    (one,) = detected(judge, SHELL, {**SHELL, "row": 4}, {**SHELL, "row": 9, "time": later})
    assert [str(name).rpartition("/")[2] for name in one["events"]] == ["3", "4", "9"]  # type: ignore[attr-defined]
    assert one["time"] == later


@pytest.mark.parametrize("change", [{"process.command_line": "sh -c w"}, {"process.pid": 9}, {"lifecycle.phase": "stop"}])
def test_rows_that_differ_in_what_or_who_are_detections_of_their_own(judge: Judge, change: dict[str, object]) -> None:
    assert len(detected(judge, SHELL, {**SHELL, "row": 4, **change})) == 2


def test_flood_of_one_event_stays_one_detection_of_bounded_size(judge: Judge) -> None:
    (one,) = detected(judge, *({**SHELL, "row": row} for row in range(2000)))
    names = one["events"]
    assert isinstance(names, list)
    assert len(names) == MAX_EVENTS
    assert names[-1].endswith("/1999")


def test_equal_events_of_two_hosts_are_two_groups(judge: Judge) -> None:
    other = dataclasses.replace(NAME, host="gpu-18")
    assert detected(judge, SHELL)[0]["group_key"] != detected(judge, SHELL, name=other)[0]["group_key"]


def test_group_key_cannot_be_forged_through_its_separator_and_is_bounded(judge: Judge) -> None:
    keys = [
        detected(judge, {**SHELL, "workload.id": work, "process.root_id": root})[0]["group_key"]
        for work, root in (("a|b", "c"), ("a", "b|c"), ("x" * 5000, "c"), ("x" * 4999, "c"))
    ]
    assert len(set(keys)) == 4
    assert all(len(str(key)) <= MAX_KEY for key in keys)


def test_artifact_is_that_of_the_origin_when_there_is_one(judge: Judge) -> None:
    other = {**LOADED, "model.instance": 9, "file.path": "/srv/first.pt"}
    acting = {
        **SHELL,
        "lifecycle.scope": "none",
        "lifecycle.phase": "serve",
        "lifecycle.origin.scope": "open",
        "lifecycle.origin.instance": 9,
    }
    (one,) = detected(judge, LOADED, other, acting)
    assert "first.pt" in str(one["sentence"])


def test_artifacts_of_two_agents_are_kept_apart(judge: Judge) -> None:
    other = dataclasses.replace(NAME, agent_id="b" * 32)
    detected(judge, {**LOADED, "model.instance": 77})
    assert "a model" in str(detected(judge, {**SHELL, "model.instance": 77}, name=other)[0]["sentence"])


def test_empty_batch_has_no_detections(judge: Judge) -> None:
    assert judge.judge(judge.classify(frame([])), NAME).is_empty()
    assert judge.judge(judge.classify(pl.DataFrame()), NAME).is_empty()


def test_batch_as_it_comes_off_the_wire_is_judged(judge: Judge) -> None:
    table = frame([SHELL]).select(WIRE_SCHEMA.names).to_arrow()  # type: ignore[list-item]
    columns = [
        table.column(field.name).combine_chunks().cast(pa.string()).dictionary_encode().cast(field.type)
        if pa.types.is_dictionary(field.type)
        else table.column(field.name).combine_chunks().cast(field.type)
        for field in WIRE_SCHEMA
    ]
    frame_ = pl.from_arrow(pa.RecordBatch.from_arrays(columns, schema=WIRE_SCHEMA))
    assert isinstance(frame_, pl.DataFrame)
    found = judge.judge(judge.classify(frame_.with_row_index("row")), NAME)
    assert found["rule_name"].to_list() == ["shell_in_load"]


def test_columns_and_values_of_another_version_are_no_obstacle(judge: Judge) -> None:
    events = (
        frame([SHELL, SHELL])
        .drop("process_stdio_socket", "destination_class")
        .with_columns(  # type: ignore[list-item]
            pl.Series("event_name", ["exec", "an event of next year"]),
            pl.Series("of_next_year", [1, 2]),
            pl.Series("lifecycle_phase", ["load", "a phase of next year"]),
            pl.Series("row", [0, 1]),
        )
    )
    found = judge.judge(judge.classify(events), NAME)
    assert found["rule_name"].to_list() == ["shell_in_load"]
    assert not judge.problems()


def test_rule_that_fails_on_a_batch_is_a_problem_and_the_others_go_on() -> None:
    judge = Judge([])
    rule = next(r for r in judge.rules() if r.name == "reverse_shell")
    broken = dataclasses.replace(rule, id="broken", name="broken", tree=Regex(BY_NAME["process.command_line"], "(?=x)"))
    judge._evaluator = Evaluator([broken, *judge.rules()])
    assert [one["rule_name"] for one in detected(judge, SHELL)] == ["shell_in_load"]
    (problem,) = judge.problems()
    assert "rule broken failed" in problem.message


def test_a_broken_rule_file_is_logged_at_the_start_and_after_an_edit(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "mine.yml").write_text("title: mine\n")
    judge = Judge([tmp_path])
    told = [record for record in caplog.records if record.getMessage() == "broken rule file"]
    assert told
    assert all(record.__dict__["file"] == str(tmp_path / "mine.yml") for record in told)
    caplog.clear()
    assert not judge.reload()
    assert not caplog.records
    (tmp_path / "mine.yml").write_text("title: [\n")
    assert judge.reload()
    assert "broken rule file" in caplog.text


def test_problem_of_a_batch_is_said_once_however_often_it_comes() -> None:
    judge = Judge([])
    rule = dataclasses.replace(judge.rules()[0], id="broken", tree=Regex(BY_NAME["process.command_line"], "(?=x)"))
    judge._evaluator = Evaluator([rule])
    for _ in range(3):
        detected(judge, SHELL)
    assert len(judge.problems()) == 1


HOSTILE = [
    b"a\nb",
    b"\x1b[31mred",
    b"<script>alert(1)</script>",
    b"' OR 1=1 --",
    b"\xff\xfe",
    "\u202etxt.exe".encode(),
    b"{process.pid}",
    b"%s %d {artifact}",
    b"\\x0a",
    "\u2028".encode(),
    b"x" * 5000,
    b"|",
    b"\x00",
]


@pytest.mark.parametrize("raw", HOSTILE, ids=lambda raw: repr(raw[:12]))
def test_hostile_text_stays_inert_and_bounded_in_the_sentence(judge: Judge, raw: bytes) -> None:
    text = escape(raw)
    row = {**SHELL, "process.command_line": text, "process.executable.path": "/tmp/" + text}
    (one,) = detected(judge, {**LOADED, "file.path": "/srv/" + text}, row)
    assert is_inert(str(one["sentence"]))
    assert len(str(one["sentence"])) < 800
    if len(text) < 100:
        assert text in str(one["sentence"])


def test_text_that_was_never_escaped_is_escaped_in_the_sentence(judge: Judge) -> None:
    (one,) = detected(judge, {**SHELL, "process.command_line": "sh\n\x1b[31m\u202e"})
    assert is_inert(str(one["sentence"]))


def test_long_text_keeps_its_start_and_its_end(judge: Judge) -> None:
    (one,) = detected(judge, {**SHELL, "process.command_line": "BEGIN" + "x" * 1000 + "END"})
    assert "BEGIN" in str(one["sentence"])
    assert str(one["sentence"]).endswith("END")


def test_silent_agent_and_losses_are_detected_of_their_host(judge: Judge) -> None:
    silent = judge.judge(pl.DataFrame({"event_name": ["agent_silent"], "row": [0]}), NAME).to_dicts()
    assert [one["sentence"] for one in silent] == ["The agent of gpu-17 has fallen silent"]
    lost = {"event.name": "loss", "loss.hop": "ring_dropped", "loss.kind": "file_open", "count": 1200}
    (one,) = detected(judge, lost)
    assert one["sentence"] == "1200 file_open events of gpu-17 were lost (ring_dropped)"


values = {
    "string": st.text(max_size=12),
    "closed": st.text(max_size=8),
    "bool": st.booleans(),
    "u8": st.integers(0, 255),
    "u16": st.integers(0, 65535),
    "u32": st.integers(0, 2**32 - 1),
    "u64": st.integers(0, 2**64 - 1),
    "i32": st.integers(-(2**31), 2**31 - 1),
    "i64": st.integers(-(2**63), 2**63 - 1),
    "f64": st.floats(),
    "time": st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1)).map(lambda d: d.replace(tzinfo=UTC)),
}
cells = st.sampled_from(STORED).flatmap(
    lambda f: st.tuples(st.just(f.name), st.one_of(values[f.type], st.sampled_from(f.values)) if f.values else values[f.type])
)
any_row = st.lists(cells, max_size=10).map(dict)


@settings(max_examples=100, deadline=None)
@given(st.lists(any_row, max_size=4), st.sets(st.sampled_from([f.column for f in STORED]), max_size=20))
def test_no_content_of_a_batch_raises(rows: list[dict[str, object]], missing: set[str]) -> None:
    judge = _SHARED
    events = frame(rows).drop(missing)  # type: ignore[arg-type]
    found = judge.judge(judge.classify(events), NAME)
    assert found.schema == SCHEMA
    assert not judge.problems()


_SHARED = Judge([])
