"""Lanes of a timeline: bars never overlap, cover what the transitions say, and effects are on the lane of their thread."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from modelward_collector.web.lanes import Lane, Lanes, Mark, build
from modelward_proto.fields import PHASES, SCOPES, TRIGGERS

Row = dict[str, Any]
END = 10_000


def row(at: int, phase: str = "load", *, name: str = "lifecycle", trigger: str = "quiet", scope: str = "none", instance: int = 0,
        process: str = "a", thread: int = 1, outcome: str = "success", **more: Any) -> Row:
    return {
        "at": at, "event_name": name, "event_outcome": outcome, "process_pid": 1, "process_entity_id": process,
        "thread_id": thread,
        "process_executable_path": "/usr/bin/python3.11", "process_exit_code": 0, "process_exit_signal": 0, "file_path": "",
        "model_instance": instance, "model_id": f"m{instance}", "model_digest": "", "lifecycle_phase": phase,
        "lifecycle_scope": scope, "lifecycle_from": "unknown", "lifecycle_trigger": trigger, "lifecycle_detail": "",
        "lifecycle_evidence": "observed", **more}


def lanes(*rows: Row, until: int = END, heard: int = END) -> dict[tuple[str, int, int], Lane]:
    made = build(rows, 0, until, heard)
    return {(lane.process, lane.thread, lane.instance): lane for lane in made.shown(0, 100)[0]}


def phases(lane: Lane) -> list[tuple[str, int, int]]:
    return [("tail" if bar.scope == "tail" else bar.phase, bar.begin, bar.end) for bar in lane.bars]


A_LOAD = (
    row(100, "start", trigger="exec"),
    row(200, trigger="artifact_open", scope="open", instance=7),
    row(300, "warmup", scope="tail", instance=7),
    row(400, "serve", trigger="answer", instance=7),
)


def test_a_load_has_its_scope_its_tail_and_then_the_phase_of_its_process() -> None:
    found = lanes(*A_LOAD)
    assert phases(found["a", 1, 7]) == [("load", 200, 300), ("tail", 300, 400), ("serve", 400, END)]
    assert phases(found["a", 0, 0]) == [("start", 100, 200), ("load", 200, 400), ("serve", 400, END)]


def test_a_load_while_another_model_is_served_leaves_the_process_and_the_other_in_serve() -> None:
    found = lanes(*A_LOAD, row(500, trigger="probe_enter", scope="open", instance=8, thread=2),
                  row(600, "serve", trigger="probe_return", instance=8, thread=2))
    assert phases(found["a", 0, 0])[-1] == ("serve", 400, END)
    assert phases(found["a", 1, 7])[-1] == ("serve", 400, END)
    assert phases(found["a", 2, 8]) == [("load", 500, 600), ("serve", 600, END)]


def test_one_process_serves_while_another_still_loads() -> None:
    found = lanes(*A_LOAD, row(150, "start", trigger="exec", process="b"),
                  row(250, trigger="artifact_open", scope="open", instance=9, process="b"))
    assert phases(found["b", 0, 0]) == [("start", 150, 250), ("load", 250, END)]
    assert phases(found["a", 0, 0])[-1][0] == "serve"


@pytest.mark.parametrize(
    ("last", "how"),
    [
        (row(500, "serve", trigger="unload", instance=7, thread=3), "unloaded"),
        (row(500, "stop", trigger="exit", instance=7, outcome="failure"), "the load failed"),
        (row(500, name="exit", process_exit_signal=9), "ended by signal 9"),
        (row(500, name="exit"), "ended with status 0"),
    ],
)
def test_a_load_ends_when_it_is_unloaded_fails_or_its_process_exits(last: Row, how: str) -> None:
    lane = lanes(*A_LOAD, last)["a", 1, 7]
    assert lane.ended == how
    assert lane.bars[-1].end == 500
    assert not lane.bars[-1].goes_on


def test_an_answer_on_another_thread_does_not_end_a_tail() -> None:
    found = lanes(*A_LOAD[:3], row(350, "serve", trigger="answer", instance=7, thread=2))
    assert phases(found["a", 1, 7])[-1] == ("tail", 300, END)


def test_stop_is_left_by_an_answer() -> None:
    found = lanes(*A_LOAD, row(500, "stop", trigger="signal"), row(600, "serve", trigger="answer"))
    assert [name for name, _, _ in phases(found["a", 1, 7])][-3:] == ["serve", "stop", "serve"]


def test_a_refused_declaration_changes_no_phase_and_is_a_mark() -> None:
    found = lanes(*A_LOAD, row(500, "load", trigger="declared", outcome="failure", instance=7))
    assert phases(found["a", 0, 0])[-1] == ("serve", 400, END)
    assert [mark.kind for mark in found["a", 0, 0].marks] == ["refused"]


def test_what_a_silent_host_did_since_its_last_word_is_unknown() -> None:
    assert phases(lanes(*A_LOAD, heard=700)["a", 1, 7])[-2:] == [("serve", 400, 700), ("unknown", 700, END)]


def test_what_began_before_the_span_is_cut_and_says_so() -> None:
    made = build(A_LOAD, 350, END, END)
    shown, _ = made.shown(350, 100)
    load = next(lane for lane in shown if lane.instance)
    assert phases(load) == [("tail", 350, 400), ("serve", 400, END)]
    assert [bar.before for bar in load.bars] == [True, False]


def effects(*placed: tuple[int, Row]) -> Lanes:
    made = build(A_LOAD, 0, END, END)
    for at, of in placed:
        made.effect(Mark(at, "exec", "x"), of)
    return made


def test_an_effect_is_on_the_lane_of_its_thread_while_its_load_is_open_else_of_its_process() -> None:
    made = effects((250, row(250)), (250, row(250, thread=9)), (500, row(500)))
    found = {(lane.thread, lane.instance): [mark.time for mark in lane.marks] for lane in made.shown(0, 9)[0]}
    assert found == {(0, 0): [250, 500], (1, 7): [250]}


@pytest.mark.parametrize(
    ("of", "where"),
    [
        (row(900, process="child", lifecycle_origin_instance=7), 7),
        (row(900, process="child", process_parent_entity_id="a"), 0),
        (row(900, process="child", process_root_id="a"), 0),
    ],
)
def test_an_effect_of_a_process_without_a_lane_is_on_the_load_it_came_from_or_on_who_started_it(of: Row, where: int) -> None:
    [lane] = [lane for lane in effects((900, of)).shown(0, 9)[0] if lane.marks]
    assert (lane.process, lane.instance) == ("a", where)


def test_of_too_many_lanes_those_with_detections_stay() -> None:
    rows = [row(100 + n, trigger="artifact_open", scope="open", instance=n, thread=n) for n in range(1, 50)]
    made = build(rows, 0, END, END)
    made.effect(Mark(103, "detection", "x", detection="d"), row(103, thread=3))
    shown, there = made.shown(0, 5)
    assert there == 50
    assert len(shown) == 5
    assert any(mark.detection for lane in shown for mark in lane.marks)


@st.composite
def histories(draw: st.DrawFn) -> list[Row]:
    return [row(
        draw(st.integers(0, END - 1)), draw(st.sampled_from(PHASES)), name=draw(st.sampled_from(("lifecycle",) * 8 + ("exit",))),
        trigger=draw(st.sampled_from(TRIGGERS)), scope=draw(st.sampled_from(SCOPES)), instance=draw(st.integers(0, 3)),
        process=draw(st.sampled_from("ab")), thread=draw(st.integers(1, 3)),
        outcome=draw(st.sampled_from(("success", "success", "failure")))) for _ in range(draw(st.integers(0, 40)))]


@settings(max_examples=80, deadline=None)
@given(histories(), st.integers(0, END), st.integers(0, END))
def test_whatever_happened_bars_follow_each_other_without_overlap_or_hole(rows: list[Row], since: int, heard: int) -> None:
    until = END + 1
    made = build(rows, since, until, heard)
    for lane in made.shown(since, 1000)[0]:
        for bar in lane.bars:
            assert since <= bar.begin < bar.end <= until
            assert bar.phase in PHASES
        for before, after in zip(lane.bars, lane.bars[1:], strict=False):
            assert before.end == after.begin
            assert (before.phase, before.scope) != (after.phase, after.scope)
        assert [bar.goes_on for bar in lane.bars[:-1]] == [False] * max(len(lane.bars) - 1, 0)
        if lane.bars and not lane.ended:
            assert lane.bars[-1].end == until
