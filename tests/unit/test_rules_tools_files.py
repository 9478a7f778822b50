"""``modelward rules lint | test | new`` on files: no collector is needed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from modelward_collector.rules.files import NoRules, read_files
from modelward_collector.rules.reload import PACK
from modelward_collector.rules.self_tests import run
from modelward_collector.rules.template import CannotWrite, write_template


def modelward(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MODELWARD_")} | {"COLUMNS": "120"}
    return subprocess.run(
        [sys.executable, "-m", "modelward_collector.operator.cli", "rules", *arguments],
        capture_output=True, text=True, env=environment, cwd=cwd, timeout=60, check=False,
    )


def test_a_new_rule_passes_its_checks_and_its_own_tests(tmp_path: Path) -> None:
    made = modelward("new", "my_rule", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    assert modelward("lint", "my_rule.yml", cwd=tmp_path).returncode == 0
    tested = modelward("test", "my_rule.yml", cwd=tmp_path)
    assert tested.returncode == 0, tested.stdout
    assert "4 pass" in tested.stdout


def test_two_new_rules_have_ids_of_their_own(tmp_path: Path) -> None:
    for name in ("first", "second"):
        write_template(name, tmp_path, "o'hara: #x")
    found = read_files([tmp_path])
    assert found.problems == []
    assert len({rule.id for rule in found.rules}) == 2


def test_new_never_writes_over_a_file(tmp_path: Path) -> None:
    (tmp_path / "my_rule.yml").write_text("mine")
    done = modelward("new", "my_rule", cwd=tmp_path)
    assert done.returncode == 2
    assert "is there already" in done.stderr
    assert (tmp_path / "my_rule.yml").read_text() == "mine"


@pytest.mark.parametrize("name", ["", "My", "../x", "a/b", "a b", "x" * 80, "1a", "ä"])
def test_what_cannot_name_a_file_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(CannotWrite):
        write_template(name, tmp_path, "me")


def test_lint_says_file_and_line_and_ends_with_status_1(tmp_path: Path) -> None:
    path = write_template("my_rule", tmp_path, "me")
    lines = path.read_text().splitlines()
    [at] = [number for number, line in enumerate(lines, 1) if line.startswith("    lifecycle.phase: [load")]
    path.write_text(path.read_text().replace("    lifecycle.phase: [load", "    lifecycle.fase: [load"))
    done = modelward("lint", "my_rule.yml", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stdout.startswith(f"my_rule.yml:{at}: unknown field 'lifecycle.fase' (did you mean 'lifecycle.phase'?)")


def test_lint_as_json_is_one_problem_a_line(tmp_path: Path) -> None:
    (tmp_path / "bad.yml").write_text("title: x\n")
    done = modelward("lint", "--json", ".", cwd=tmp_path)
    problems = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 1
    assert {problem["file"] for problem in problems} == {"bad.yml"}


def test_test_names_the_own_test_that_fails_by_its_line(tmp_path: Path) -> None:
    path = write_template("my_rule", tmp_path, "me")
    wrong = "      - {process.executable.class: network_tool, lifecycle.phase: start}"
    [at] = [number for number, line in enumerate(path.read_text().splitlines(), 1) if line == wrong]
    path.write_text(path.read_text().replace(wrong, wrong.replace("start", "serve")))
    done = modelward("test", "my_rule.yml", cwd=tmp_path)
    assert done.returncode == 1
    assert f"my_rule.yml:{at}: own test no_match 1 matches, and must not" in done.stdout


def test_an_id_of_another_rule_is_told(tmp_path: Path) -> None:
    shipped = read_files([PACK / "shell_in_load.yml"]).rules[0]
    path = write_template("my_rule", tmp_path, "me")
    mine = read_files([path]).rules[0]
    path.write_text(path.read_text().replace(mine.id, shipped.id))
    [problem] = read_files([path]).problems
    assert "shell_in_load.yml" in problem.message
    assert path.read_text().splitlines()[problem.line - 1].startswith("id:")


def test_a_path_that_is_not_there_is_wrong_usage(tmp_path: Path) -> None:
    for command in ("lint", "test"):
        done = modelward(command, "nosuch.yml", cwd=tmp_path)
        assert done.returncode == 2
        assert "nosuch.yml" in done.stderr


def test_a_folder_without_rules_is_told(tmp_path: Path) -> None:
    with pytest.raises(NoRules, match="no rule"):
        read_files([tmp_path])


def test_without_a_path_the_shipped_rules_are_meant() -> None:
    found = read_files([])
    assert found.problems == []
    assert len(found.rules) == len([path for path in PACK.glob("*.yml") if path.name != "classes.yml"])
    assert [problem for rule in found.rules for problem in run(rule)] == []
    assert found.classes is None


def test_lists_of_ones_own_are_checked_and_used(tmp_path: Path) -> None:
    write_template("my_rule", tmp_path, "me")
    (tmp_path / "classes.yml").write_text("version: 1\nexecutables: {network_tool: [my-tunnel]}\n")
    found = read_files([tmp_path])
    assert found.problems == []
    assert found.classes is not None
    assert found.classes.lists.executable("/opt/my-tunnel") == "network_tool"
    (tmp_path / "classes.yml").write_text("version: 1\nexecutables: {netwrk_tool: [my-tunnel]}\n")
    assert "network_tool" in str(read_files([tmp_path]).problems[0])


def test_a_rule_of_a_hostile_name_cannot_act_on_the_terminal(tmp_path: Path) -> None:
    (tmp_path / "a\x1b[31m.yml").write_text(f"id: {uuid.uuid4()}\n")
    done = modelward("lint", ".", cwd=tmp_path)
    assert done.returncode == 1
    assert "\x1b" not in done.stdout
