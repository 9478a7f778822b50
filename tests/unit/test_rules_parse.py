"""A rule file with a mistake is refused, with the file, the line and the nearest name that exists."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from modelward_collector.rules import document
from modelward_collector.rules.parse import parse
from modelward_collector.rules.reload import PACK
from modelward_collector.rules.rule import Problem, RuleError

GOOD = """\
title: A rule
id: 0d3b3f6a-2a53-4d0e-8f63-5e1d4f5f9a01
logsource: {product: modelward, category: exec}
detection:
  program:
    process.executable.class: shell
    process.command_line|contains: [id, "who*ami"]
  later:
    lifecycle.phase: [serve, stop]
  condition: program and not later
level: high
tags: [attack.t1059.004, atlas.aml.t0050]
modelward:
  reason: Why it is
    wrong.
  next: What to do.
  sentence: "{process.executable.path} of {artifact}"
  tests:
    match:
      - {process.executable.class: shell, process.command_line: id}
    no_match:
      - {process.executable.class: shell}
"""


def problems(text: str) -> list[Problem]:
    with pytest.raises(RuleError) as caught:
        parse("folder/a_rule.yml", text.encode())
    return caught.value.problems


def only(old: str, new: str) -> Problem:
    """The single problem that a change of the good rule makes."""
    assert old in GOOD
    found = problems(GOOD.replace(old, new))
    assert len(found) == 1, found
    assert found[0].file == "folder/a_rule.yml"
    return found[0]


def test_a_good_rule_is_read_in_full() -> None:
    rule = parse("folder/a_rule.yml", GOOD.encode())
    assert (rule.name, rule.severity, rule.response) == ("a_rule", "high", "observe")
    assert rule.attack == ("T1059.004", "AML.T0050")
    assert rule.reason == "Why it is wrong."
    assert len(rule.version) == 12
    assert rule.match == ({"event.name": "exec", "process.executable.class": "shell", "process.command_line": "id"},)


def test_version_changes_with_any_byte_of_the_file() -> None:
    assert parse("a.yml", GOOD.encode()).version != parse("a.yml", GOOD.encode() + b"\n").version


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        (
            "process.executable.class: shell\n",
            "process.executable.clas: shell\n",
            6,
            "'process.executable.class'",
        ),
        ("lifecycle.phase: [serve, stop]", "lifecycle.phase: [serve, stopp]", 9, "'stop'"),
        ("level: high", "level: hihg", 11, "'high'"),
        ("level: high", "levle: high\nlevel: high", 11, "'level'"),
        ("  reason:", "  reson: x\n  reason:", 14, "'reason'"),
        ("|contains:", "|contians:", 7, "'contains'"),
        ("program and not later", "program and not latter", 10, "'later'"),
        ("category: exec", "category: exce", 3, "'exec'"),
        ("{process.executable.path}", "{process.executable.paht}", 17, "'process.executable.path'"),
        (
            "no_match:\n      - {process.executable.class: shell}",
            "no_match:\n      - {file.pth: x}",
            22,
            "'file.path'",
        ),
        ("process.command_line: id}", "process.executable.clas: shell}", 20, "'process.executable.class'"),
    ],
)
def test_a_misspelt_name_is_refused_at_its_line_with_the_nearest_one(old: str, new: str, line: int, said: str) -> None:
    found = [p for p in problems(GOOD.replace(old, new)) if "did you mean" in p.message]
    assert [(p.line, said in p.message) for p in found] == [(line, True)], found


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ("|contains: [id", "|base64: [id", 7, "'base64' is not supported"),
        ("|contains: [id", "|windash|contains: [id", 7, "'windash' is not supported"),
        ("|contains: [id", "|exists: [id", 7, "'exists' is not supported"),
        ("|contains: [id", "|neq: [id", 7, "'neq' is not supported"),
        ("|contains: [id", "|gt: [id", 7, "does not fit process.command_line"),
        ("|contains: [id", "|all: [id", 7, "can never hold"),
        ("|contains: [id", "|contains|startswith: [id", 7, "do not go together"),
        ("|contains: [id", "|i: [id", 7, "goes with 're' only"),
        ("[id, ", "[12, ", 7, "write '12' in quotes"),
        ("[id, ", '["", ', 7, "tests nothing"),
        ("[id, ", '["*", ', 7, "tests nothing"),
        ("    process.executable.class: shell\n", "    process.executable.class: 'x*'\n", 6, "no value of"),
        ("    process.executable.class: shell\n", "    file.created: 'yes'\n", 6, "true or false"),
        ("    process.executable.class: shell\n", "    destination.port: 70000\n", 6, "never 70,000"),
        ("    process.executable.class: shell\n", "    destination.port: '80'\n", 6, "is a number"),
        ("    process.executable.class: shell\n", "    destination.port: 80.5\n", 6, "whole number"),
        ("    process.executable.class: shell\n", "    destination.port: true\n", 6, "is a number"),
        ("    process.executable.class: shell\n", "    destination.port|gt: [1, 2]\n", 6, "takes one number"),
        ("    process.executable.class: shell\n", "    destination.port|contains: 8\n", 6, "does not fit"),
        (
            "    process.executable.class: shell\n",
            "    destination.port|fieldref: file.path\n",
            6,
            "cannot be compared",
        ),
        ("    process.executable.class: shell\n", "    file.path|cidr: not-a-network\n", 6, "cidr"),
        ("    process.executable.class: shell\n", "    file.path: []\n", 6, "empty list"),
        ("    process.executable.class: shell\n", "    file.path: {a: b}\n", 6, "is text"),
        ("    process.executable.class: shell\n", "    model.id: x\n", 6, "not supported yet"),
        ("    process.executable.class: shell\n", "    lifecycle.origin.model: x\n", 6, "not supported yet"),
        ("    process.executable.class: shell\n", "    batch: 1\n", 6, "not for rules"),
        ("  later:", "  timeframe: 5m\n  later:", 8, "not supported yet"),
        ("  later:", "  unused:\n    file.created: true\n  later:", 8, "not used by the condition"),
        ("condition: program and not later", "condition: program and later |count() > 3", 10, "pipe"),
        ("condition: program and not later", "condition: program and not (later", 10, "syntax error"),
        ("condition: program and not later", "condition: [program, later]", 10, "one expression"),
        ("condition: program and not later", "condition: program and not 1 of nothing*", 8, ""),
        ("tags: [attack.t1059.004, ", "tags: [", 12, "no ATT&CK"),
        (", atlas.aml.t0050]", "]", 12, "no ATLAS"),
        ("atlas.aml.t0050]", "atlas.aml.t0050, execution]", 12, "neither"),
        ("id: 0d3b3f6a", "id: zzzz", 2, "UUID"),
        ("product: modelward", "product: linux", 3, "modelward"),
        ("logsource: {product: modelward, ", "logsource: {product: modelward, service: x, ", 3, "'service'"),
        ("{artifact}", "{artifact", 17, "brace"),
        ("  next: What to do.\n", "", 13, "'next' is missing"),
        ("    no_match:\n      - {process.executable.class: shell}\n", "", 18, "'no_match' is missing"),
    ],
)
def test_what_is_wrong_or_not_supported_is_refused_at_its_line(old: str, new: str, line: int, said: str) -> None:
    assert old in GOOD
    found = problems(GOOD.replace(old, new))
    assert any(p.line == line and said in p.message for p in found), found


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("a(", "missing ')'"),
        ("a)", "unmatched"),
        ("[a", "missing ']'"),
        ("a**", "quantifier on a quantifier"),
        ("a{3", "repeat"),
        ("(a{100}){100}", "multiply"),
        ("(?=a)", "subset"),
        ("(?<x>a)", "subset"),
        ("(?i)a", "subset"),
        (r"\1", "subset"),
        (r"\p{L}", "subset"),
        (r"\Q.\E", "subset"),
        ("[[:alpha:]]", "in a class"),
        ("[a&&b]", "in a class"),
        (r"\xff", "below 80"),
    ],
)
def test_a_regex_outside_the_common_subset_is_refused(pattern: str, said: str) -> None:
    found = only('|contains: [id, "who*ami"]', f"|re: '{pattern}'")
    assert found.line == 7
    assert said in found.message


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("", 1, "empty"),
        ("title: [unclosed\ndetection: {", 2, "broken YAML"),
        ("title: a\n\tid: b\n", 2, "broken YAML"),
        ("- a\n- b\n", 1, "mapping"),
        ("title: a\n---\ntitle: b\n", 2, "one rule per file"),
        ("title: a\nid: b\ntitle: c\n", 3, "stands twice"),
        ("a: &x [1]\nb: *x\n", 1, "anchors and aliases"),
        ("title: \x00\n", 1, "broken YAML"),
        ("{" * 60, 1, "nested deeper than 40"),
        ("title: !!int ''\n", 1, "broken YAML"),
        ("title: !!bool perhaps\n", 1, "broken YAML"),
        ("title: !!timestamp never\n", 1, "broken YAML"),
        ("title: a\ncorrelation:\n  type: event_count\n", 2, "not supported yet by this version"),
    ],
)
def test_a_file_that_is_no_rule_is_refused(text: str, line: int, said: str) -> None:
    assert any(p.line == line and said in p.message for p in problems(text)), problems(text)


def test_bytes_that_are_not_utf8_are_refused_at_their_line() -> None:
    with pytest.raises(RuleError) as caught:
        parse("a.yml", b"title: a\nid: \xff\n")
    assert [(p.line, "UTF-8" in p.message) for p in caught.value.problems] == [(2, True)]


def test_a_file_that_is_too_large_is_refused_unread() -> None:
    with pytest.raises(RuleError, match="bytes"):
        parse("a.yml", b"#" * 300_000)


def test_every_problem_of_a_file_is_said_in_the_order_of_its_lines() -> None:
    text = GOOD.replace("process.executable.class: shell\n", "proces.pid: 1\n").replace("level: high", "level: loud")
    assert [p.line for p in problems(text)] == [6, 11]


PIECES = [
    "\n",
    " ",
    ":",
    "|",
    "- ",
    "{",
    "}",
    "[",
    "]",
    '"',
    "'",
    "0",
    "null",
    "true",
    ".inf",
    "2026-11-25",
    "1_0",
    "!!binary ",
    "!x ",
    "? ",
    "&a ",
    "<<: ",
    "%",
    "#",
    "~",
    "0x1f",
    "-1",
    "1e999",
    "\x85",
    "é",
    "*",
    "(",
    ")",
    "not ",
    "1 of ",
    "them",
    "|re",
    "|cidr",
    "|all",
    "|fieldref",
]


@settings(max_examples=500, deadline=None)
@given(st.integers(0, len(GOOD)), st.integers(0, 12), st.lists(st.sampled_from(PIECES), max_size=3).map("".join))
def test_no_damage_to_a_file_does_more_than_refuse_it(at: int, length: int, piece: str) -> None:
    damaged = (GOOD[:at] + piece + GOOD[at + length :]).encode()
    try:
        found = [Problem("a.yml", 1, parse("a.yml", damaged).id)]
    except RuleError as e:
        found = e.problems
    assert found
    assert all(problem.file == "a.yml" and problem.line >= 0 and problem.message for problem in found)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(GOOD)), st.integers(0, 12),
       st.lists(st.sampled_from([*PIECES, "?", "\t", "---\n", "!", "|", ">-", "#", "\ufeff"]), max_size=3))
def test_the_quick_reader_says_what_the_other_says(at: int, length: int, pieces: list[str]) -> None:
    raw = (GOOD[:at] + "".join(pieces) + GOOD[at + length :]).encode()
    assert said_by(True, raw) == said_by(False, raw)


@pytest.mark.parametrize("path", sorted(PACK.glob("*.yml")), ids=lambda path: path.stem)
def test_the_quick_reader_reads_the_pack_as_the_other_does(path: Path) -> None:
    assert said_by(True, path.read_bytes()) == said_by(False, path.read_bytes())


@pytest.mark.parametrize("deep", ["[", "- ", "{a: ", "? "])
def test_depth_neither_ends_nor_holds_up_a_reader(deep: str) -> None:
    begun = time.process_time()
    for quick in (True, False):
        assert "nested deeper than 40" in said_by(quick, (deep * 60_000).encode())
    assert time.process_time() - begun < 5


def said_by(quick: bool, raw: bytes) -> str:
    """What a file is, lines included, by libyaml first or without it."""
    with pytest.MonkeyPatch.context() as changed:
        if not quick:
            changed.setattr(document, "_QUICK", None)
        try:
            found = document.read("a.yml", raw)
        except RuleError as e:
            return f"RuleError {e.problems}"
        return f"{found.data!r} {found.lines}"
