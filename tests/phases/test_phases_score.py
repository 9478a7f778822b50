"""The score itself: a wrong tag must not count as right, and one that DESIGN.md allows not as wrong."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from tests.phases.run import TRUTH
from tests.phases.score import Score, score
from tests.phases.server import Model, Server
from tests.phases.stored import Stored, read_mark

SERVER = Server("made up", (), {"iris": Model("iris.joblib")})


def judged(folder: Path, *events: tuple[str, float, dict[str, Any]], server: Server = SERVER) -> Score:
    """Score marks by their names, seconds and the tags stored (None: not stored)."""
    marks, opened = {}, {}
    for number, (name, second, tags) in enumerate(events):
        path = folder / f"{name}.7-{number}.truth"
        path.touch()
        mark = read_mark(path)
        assert mark
        marks[path.name] = mark
        if tags is not None:
            opened[path.name] = {"ns": int(second * 1e9), "tid": 7, "pid": 7, "phase": "serve", "scope": "none", "instance": 1,
                                 "model_id": "iris", "model_digest": "ab", "origin_phase": "none", "origin_scope": "none",
                                 "origin_model": "", "path": str(path), "event_name": "file_open", "access": "write", **tags}
    return score(Stored(server, 7, marks, opened, list(opened.values()), [], {"iris": {"ab"}}))


def test_an_earlier_phase_stands_for_100_ms_and_no_longer(tmp_path: Path) -> None:
    result = judged(tmp_path, ("warmup.iris.ticker.-", 1.0, {"phase": "warmup"}),
                    ("serve.iris.ticker.-", 2.0, {"phase": "warmup"}),
                    ("serve.iris.ticker.-", 2.09, {"phase": "warmup"}), ("serve.iris.ticker.-", 2.2, {"phase": "warmup"}),
                    ("serve.iris.ticker.-", 2.3, {}))
    assert (result.all.phase, result.all.events) == (4, 5)
    assert result.late_ms == {"warmup to serve": pytest.approx(200)}


def test_the_model_of_a_load_stands_as_long_as_its_phase(tmp_path: Path) -> None:
    two = Server("made up", (), {"iris": Model("iris.joblib"), "roses": Model("roses.joblib")})
    late = {"phase": "load", "model_id": "roses"}
    result = judged(tmp_path, ("load+serve.roses.request.-", 1.0, late), ("serve.-.request.-", 1.01, late),
                    ("serve.-.request.-", 1.2, late), server=two)
    assert (result.all.phase, result.all.model) == (2, 2)


def test_a_phase_that_comes_too_early_is_wrong(tmp_path: Path) -> None:
    result = judged(tmp_path, ("load+start.iris.ticker.-", 1.0, {}), ("load.iris.loader.-", 1.01, {}),
                    ("serve.iris.ticker.-", 1.02, {}))
    assert result.all.phase == 1


def test_a_request_thread_in_load_long_after_the_answer_is_counted(tmp_path: Path) -> None:
    result = judged(tmp_path, ("serve.iris.loop.-", 1.0, {}), ("serve.iris.request.-", 1.2, {"phase": "load"}))
    assert result.late_requests == 1


def test_a_model_of_another_digest_is_another_model(tmp_path: Path) -> None:
    assert judged(tmp_path, ("serve.iris.request.-", 1.0, {"model_digest": "cd"})).all.model == 0


def test_no_model_is_right_only_where_it_may_be(tmp_path: Path) -> None:
    result = judged(tmp_path, ("serve.-+iris.request.-", 1.0, {"instance": 0}), ("serve.iris.request.-", 2.0, {"instance": 0}))
    assert result.all.model == 1


@pytest.mark.parametrize(("truth", "scope", "right"), [("iris~", "tail", 1), ("iris~", "open", 0), ("iris", "open", 1),
                                                       ("-", "open", 0)])
def test_an_origin_is_a_load_or_its_tail(tmp_path: Path, truth: str, scope: str, right: int) -> None:
    tags = {"origin_phase": "load", "origin_scope": scope, "origin_model": "iris"}
    assert judged(tmp_path, (f"serve.iris.request.{truth}", 1.0, tags)).all.origin == right


def test_a_mark_that_was_not_stored_is_wrong(tmp_path: Path) -> None:
    result = judged(tmp_path, ("serve.iris.request.-", 1.0, {}), ("serve.iris.request.-", 2.0, None))  # type: ignore[arg-type]
    assert (result.unstored, result.all.phase, result.all.events) == (1, 1, 2)


def test_truth_of_a_process_that_loads_answers_and_loads_again(tmp_path: Path) -> None:
    """Each line marks once; what the marks say, in their order."""
    code = """
        import threading, truth
        truth.mark("a")
        with truth.loading("iris", "b"):
            truth.mark("c")
            other = threading.Thread(target=truth.mark, args=("d",)); other.start(); other.join()
        begun = truth.answer_begins()
        truth.mark("e")
        truth.answer_sent(begun)
        truth.mark("f")
        with truth.loading("roses", "g"):
            other = threading.Thread(target=truth.mark, args=("h",)); other.start(); other.join()
        truth.stopping("i")
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True,
                   env=os.environ | {"PYTHONPATH": str(TRUTH.parent), "MODELWARD_TRUTH": str(tmp_path)})
    said = sorted((mark for path in tmp_path.iterdir() if (mark := read_mark(path))), key=lambda mark: mark.number)
    assert [(m.role, m.words, "+".join(sorted(m.models))) for m in said] == [
        ("a", "start", "-"), ("c", "load", "iris"), ("d", "load+start+warmup", "-+iris"), ("b", "load+warmup", "iris"),
        ("e", "load+serve+warmup", "iris"), ("f", "serve", "iris"), ("h", "serve", "-+iris"), ("g", "load+serve", "-+roses"),
        ("i", "stop", "-+roses"),
    ]
