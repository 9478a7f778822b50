"""The shipped pack: every rule is good, passes its own tests, and says what a person needs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from modelward_collector.rules import self_tests
from modelward_collector.rules.parse import parse
from modelward_collector.rules.reload import PACK, RuleFolder
from modelward_collector.rules.rule import Rule

FILES = sorted(path for path in PACK.glob("*.yml") if path.name != "classes.yml")
FOLDER = RuleFolder([])
NEEDED = {
    "shell_in_load",
    "egress_in_load",
    "credential_read",
    "exec_in_serve",
    "exec_new_file",
    "exec_from_memory",
    "reverse_shell",
    "metadata_in_serve",
    "startup_hook_write",
    "agent_silent",
    "agent_twice",
    "events_lost",
    "phase_lie",
}


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
def rule(request: pytest.FixtureRequest) -> Rule:
    path: Path = request.param
    return parse(str(path), path.read_bytes())


def test_pack_has_no_problem_and_every_file_is_in_force() -> None:
    assert FOLDER.problems == []
    assert len(FOLDER.rules) == len(FILES)


def test_pack_holds_the_rules_that_the_main_path_promises() -> None:
    assert {rule.name for rule in FOLDER.rules} >= NEEDED


def test_rule_passes_its_own_tests(rule: Rule) -> None:
    assert self_tests.run(rule) == []


def test_rule_explains_itself_in_sentences(rule: Rule) -> None:
    for text in (rule.reason, rule.next_step):
        assert text.endswith(".")
        assert text[0].isupper()
    assert len(rule.title) < 80


def test_rule_names_techniques_of_both_catalogues(rule: Rule) -> None:
    assert any(one.startswith("T") for one in rule.attack)
    assert any(one.startswith("AML.T") for one in rule.attack)


def test_rule_knows_no_name_of_the_demo(rule: Rule) -> None:
    text = Path(rule.file).read_text().lower()
    demo = Path(__file__).parents[2] / "deploy" / "demo"
    names = {path.stem for path in demo.rglob("*.py") if "_app" in path.stem} | {
        "modelward-demo",
        "flawed",
        "poisoned",
    }
    assert not [name for name in names if name in text]


def test_rule_holds_the_event_kinds_it_is_about_only(rule: Rule) -> None:
    """A rule that no event kind restricts would look at every file open."""
    text = yaml.safe_load(Path(rule.file).read_text())
    assert "category" in text["logsource"] or "event.name" in str(text["detection"])


def test_rule_on_the_page_for_authors_is_good_and_passes_its_tests() -> None:
    page = (PACK.parent / "README.md").read_text()
    text = page.partition("```yaml\n")[2].partition("```")[0]
    assert self_tests.run(parse("README.yml", text.encode())) == []


def test_own_test_that_fails_is_reported_at_its_line() -> None:
    path = PACK / "agent_silent.yml"
    text = path.read_text().replace("{event.name: lifecycle}", "{event.name: agent_silent}")
    rule = parse("x.yml", text.encode())
    line = next(number for number, one in enumerate(text.splitlines(), 1) if one.endswith("{event.name: agent_silent}"))
    assert [(p.line, p.message) for p in self_tests.run(rule)] == [(line, "own test no_match 1 matches, and must not")]


def test_checking_command_prints_the_rules_and_ends_well() -> None:
    command = [sys.executable, "-m", "modelward_collector.operator.cli", "rules", "test"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "shell_in_load" in done.stdout


def test_checking_command_fails_on_a_broken_rule_and_says_where(tmp_path: Path) -> None:
    (tmp_path / "bad.yml").write_text("title: x\nlevle: high\n")
    command = [sys.executable, "-m", "modelward_collector.operator.cli", "rules", "test", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"{tmp_path / 'bad.yml'}:2: unknown key 'levle' (did you mean 'level'?)" in done.stdout
