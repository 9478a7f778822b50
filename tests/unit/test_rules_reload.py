"""Rules change without a restart, and a broken edit takes nothing away."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from modelward_collector.rules.judge import BatchName, Judge
from modelward_collector.rules.self_tests import frame

RULE = """\
title: A rule of one's own
id: {id}
logsource: {{product: modelward, category: file_open}}
detection:
  this:
    file.path: {path}
  condition: this
level: low
tags: [attack.t1005, atlas.aml.t0037]
modelward:
  reason: Why.
  next: What.
  sentence: "{{file.path}} was opened"
  tests:
    match: [{{file.path: {path}}}]
    no_match: [{{file.path: /other}}]
"""
ID = "0d3b3f6a-2a53-4d0e-8f63-5e1d4f5f9a{:02d}"


def text(number: int = 1, path: str = "/first") -> str:
    return RULE.format(id=ID.format(number), path=path)


def opened(judge: Judge, path: str) -> list[str]:
    events = frame([{"event.name": "file_open", "file.path": path}])
    found = judge.judge(judge.classify(events), BatchName("h", "a", "e", 1))
    return found["rule_name"].to_list()


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A rule file that is in force."""
    file = tmp_path / "own.yml"
    file.write_text(text())
    return file


def test_nothing_changed_reloads_nothing(own: Path) -> None:
    judge = Judge([own.parent])
    assert judge.reload() is False


def test_rule_that_was_touched_but_not_changed_reloads_nothing(own: Path) -> None:
    judge = Judge([own.parent])
    os.utime(own, ns=(1, 1))
    assert judge.reload() is False


def test_new_rule_is_taken_up(own: Path) -> None:
    judge = Judge([own.parent])
    (own.parent / "second.yml").write_text(text(2, "/second"))
    assert judge.reload() is True
    assert opened(judge, "/second") == ["second"]


def test_edited_rule_is_taken_up(own: Path) -> None:
    judge = Judge([own.parent])
    own.write_text(text(1, "/changed"))
    assert judge.reload() is True
    assert (opened(judge, "/first"), opened(judge, "/changed")) == ([], ["own"])


def test_removed_rule_is_gone(own: Path) -> None:
    judge = Judge([own.parent])
    own.unlink()
    assert judge.reload() is True
    assert opened(judge, "/first") == []


def test_broken_edit_keeps_the_last_good_version_and_is_named(own: Path) -> None:
    judge = Judge([own.parent])
    own.write_text(text().replace("file.path: /first\n", "file.paht: /first\n", 1))
    assert judge.reload() is True
    assert opened(judge, "/first") == ["own"]
    (problem,) = judge.problems()
    assert (problem.file, problem.line) == (str(own), 6)
    assert "'file.path'" in problem.message
    assert "last good version stays in force" in problem.message


def test_second_broken_edit_still_keeps_the_last_good_version(own: Path) -> None:
    judge = Judge([own.parent])
    for broken in ("title: [", "title: {"):
        own.write_text(broken)
        judge.reload()
    assert opened(judge, "/first") == ["own"]


def test_repaired_rule_has_no_problem_left(own: Path) -> None:
    judge = Judge([own.parent])
    own.write_text("title: [")
    judge.reload()
    own.write_text(text(1, "/repaired"))
    assert judge.reload() is True
    assert judge.problems() == []
    assert opened(judge, "/repaired") == ["own"]


def test_rule_that_was_never_good_is_named_and_the_others_work(own: Path) -> None:
    (own.parent / "never.yml").write_text("title: [")
    judge = Judge([own.parent])
    assert [Path(problem.file).name for problem in judge.problems()] == ["never.yml"]
    assert opened(judge, "/first") == ["own"]


def test_second_rule_with_an_id_that_is_taken_is_refused_and_names_the_first(own: Path) -> None:
    (own.parent / "twin.yml").write_text(text(1, "/twin"))
    judge = Judge([own.parent])
    (problem,) = judge.problems()
    assert problem.file.endswith("twin.yml")
    assert "own.yml" in problem.message
    assert opened(judge, "/twin") == []


def test_own_rule_cannot_take_the_place_of_a_shipped_one(tmp_path: Path) -> None:
    shipped = next(rule for rule in Judge([]).rules() if rule.name == "shell_in_load")
    (tmp_path / "mine.yml").write_text(text().replace(ID.format(1), shipped.id))
    judge = Judge([tmp_path])
    assert [rule.name for rule in judge.rules() if rule.id == shipped.id] == ["shell_in_load"]
    assert len(judge.problems()) == 1


def test_folder_that_is_not_there_is_a_problem_and_the_shipped_rules_work(tmp_path: Path) -> None:
    judge = Judge([tmp_path / "nowhere"])
    assert [problem.file for problem in judge.problems()] == [str(tmp_path / "nowhere")]
    assert judge.rules()


def test_folder_that_appears_later_is_read(tmp_path: Path) -> None:
    judge = Judge([tmp_path / "later"])
    (tmp_path / "later").mkdir()
    (tmp_path / "later" / "own.yml").write_text(text())
    assert judge.reload() is True
    assert opened(judge, "/first") == ["own"]


def test_own_list_of_classes_adds_to_the_shipped_one(tmp_path: Path) -> None:
    judge = Judge([tmp_path])
    (tmp_path / "classes.yml").write_text("version: 1\nfiles:\n  credential:\n    names: [house.key]\n")
    assert judge.reload() is True
    events = judge.classify(frame([{"file.path": "/srv/house.key"}, {"file.path": "/etc/shadow"}]))
    assert events["file_class"].to_list() == ["credential", "credential"]


def test_broken_list_of_classes_is_named_and_the_shipped_one_stays(tmp_path: Path) -> None:
    (tmp_path / "classes.yml").write_text("files:\n  credentail: {}\n")
    judge = Judge([tmp_path])
    assert [(problem.line, "'credential'" in problem.message) for problem in judge.problems()] == [(2, True)]
    assert judge.classify(frame([{"file.path": "/etc/shadow"}]))["file_class"].to_list() == ["credential"]


def test_broken_edit_of_own_classes_keeps_the_last_good_lists(tmp_path: Path) -> None:
    lists = tmp_path / "classes.yml"
    lists.write_text("version: 1\nfiles:\n  credential:\n    names: [house.key]\n")
    judge = Judge([tmp_path])
    lists.write_text("files: [")
    assert judge.reload() is True
    assert len(judge.problems()) == 1
    assert judge.classify(frame([{"file.path": "/srv/house.key"}]))["file_class"].to_list() == ["credential"]


def test_class_lists_that_did_not_change_are_not_read_again(tmp_path: Path) -> None:
    judge = Judge([tmp_path])
    before = judge._folder.classes
    judge.reload()
    assert judge._folder.classes is before
