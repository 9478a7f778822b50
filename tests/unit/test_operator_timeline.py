"""``modelward timeline`` and ``modelward models`` on a terminal: fits it, needs no colour, and lets no name move the cursor."""

from __future__ import annotations

import io
from typing import Any

import pytest
from modelward_collector.operator import inventory, timeline
from modelward_collector.operator.timeline import Span
from rich.cells import cell_len
from rich.console import Console

from tests.stories import HOSTILE


def bar(phase: str, begin: str, end: str, scope: str = "none") -> dict[str, Any]:
    return {"phase": phase, "scope": scope, "from": at(begin), "to": at(end), "why": "", "evidence": "", "before": False,
            "goes_on": False}


def at(clock: str) -> str:
    return f"2026-11-28T{clock}.000000+00:00"


def document(model: str = "tiny", **changed: Any) -> dict[str, Any]:
    mark = {"phase": "load", "severity": "", "detection": "", "count": 1, "time": at("10:05:00")}
    process = {"process": "a", "pid": 4000, "program": "python3.11", "thread": 0, "instance": "0", "model": "", "digest": "",
               "ended": "ended by signal 9", "marks": [],
               "bars": [bar("start", "10:00:00", "10:00:01"), bar("load", "10:00:01", "10:30:00"),
                        bar("serve", "10:30:00", "11:00:00")]}
    load = {**process, "thread": 4007, "instance": "7", "model": model, "ended": "", "bars": [
        bar("load", "10:00:01", "10:20:00", "open"), bar("load", "10:20:00", "10:30:00", "tail")], "marks": [
            {**mark, "kind": "exec", "text": f"ran {model}"},
            {**mark, "kind": "detection", "text": "a shell", "severity": "critical", "detection": "d" * 32}]}
    return {"host": "gpu-17", "workload": "container:5e1e", "runtime": "uvicorn", "runtime_version": "0.54.0",
            "since": at("10:00:00"), "until": at("11:00:00"), "others": [], "notes": [], "lanes": [process, load], **changed}


def printed(made: dict[str, Any], width: int = 80, *, unicode: bool = True, colour: bool = False) -> str:
    out = io.StringIO()
    shown = Console(file=out, width=width, force_terminal=colour, highlight=False, markup=False, emoji=False)
    timeline.show(made, shown, unicode=unicode)
    return out.getvalue()


@pytest.mark.parametrize("width", [40, 60, 80, 120, 300])
@pytest.mark.parametrize("model", ["tiny", "m" * 200, "模型" * 40, HOSTILE])
def test_no_line_is_wider_than_the_terminal(width: int, model: str) -> None:
    assert max(cell_len(line) for line in printed(document(model), width).splitlines()) <= width


def test_each_phase_has_a_sign_of_its_own_without_colour_and_the_legend_tells_it() -> None:
    shown = printed(document())
    assert "\x1b" not in shown
    lanes = [line for line in shown.splitlines() if "4000" in line or "4007" in line][:2]
    assert [sign in lanes[0] for sign in "░█━"] == [True] * 3
    assert "▓" in lanes[1]
    for word in ("start: it comes up", "load: it reads", "load, its tail", "serve: it answers", "a detection"):
        assert word.replace(" ", "") in "".join(shown.split())


def test_where_there_is_no_unicode_everything_is_ascii() -> None:
    shown = printed(document("m" * 200), unicode=False)
    assert shown.isascii()
    assert "#" in shown
    assert "=" in shown


def test_a_phase_shorter_than_a_column_stays_visible() -> None:
    line = next(line for line in printed(document()).splitlines() if line.startswith("python3.11"))
    assert "░█" in line


def test_the_worst_effect_of_a_column_is_the_one_that_is_shown() -> None:
    lines = printed(document()).splitlines()
    below = lines[next(n for n, line in enumerate(lines) if "4007" in line) + 1]
    assert below.strip() == "!"


def test_a_hostile_name_reaches_the_terminal_inert() -> None:
    evil = "a\x1b]0;owned\x07\u202e[bold]b"
    shown = printed(document(evil, workload=evil, host=evil, notes=[evil], others=[{"workload": evil, "host": evil}]))
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert "[bold]" in shown


def test_notes_and_ends_are_told() -> None:
    shown = printed(document(notes=["Only the latest 5,000 transitions are looked at."]))
    assert "Only the latest 5,000" in shown
    assert "python3.11 4000: ended by signal 9" in shown
    assert "modelward explain dddddddddddd" in "".join(shown).replace("\n", " ")


@pytest.mark.parametrize(("since", "until"), [("10:00:00", "10:00:01"), ("10:00:00", "11:00:00"), ("00:00:00", "23:59:59")])
def test_the_axis_has_round_times_in_order(since: str, until: str) -> None:
    axis = Span(at(since), at(until)).axis(80)
    assert len(axis) == 80
    times = [text.strip() for text in axis.split("|")[1:]]
    assert len(times) >= 3
    assert times == sorted(times)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"loaded_now": "2", "loaded_unknown": "0", "phase": "serve"}, "serve x2"),
        ({"loaded_now": "1", "loaded_unknown": "3", "phase": "load"}, "load +3 unknown"),
        ({"loaded_now": "0", "loaded_unknown": "1", "phase": "unknown"}, "unknown"),
        ({"loaded_now": "0", "loaded_unknown": "0", "phase": ""}, "not loaded"),
    ],
)
def test_where_a_model_is_now_is_said_in_a_word(row: dict[str, str], words: str) -> None:
    assert inventory.now(row).plain == words
