"""Which conditions of a rule an event satisfied: for each shipped rule, on the events of its own tests."""

from __future__ import annotations

from typing import Any

import pytest
from modelward_collector.explain.matched import asked, matched
from modelward_collector.rules.compile_polars import zero_of
from modelward_collector.rules.files import read_files
from modelward_collector.rules.rule import Row, Rule
from modelward_collector.rules.tree import leaves
from modelward_proto.fields import STORED

RULES = read_files([]).rules


def stored(row: Row) -> dict[str, Any]:
    """An event as the API gives it: 64-bit numbers as text."""
    event = {f.column: row.get(f.name, zero_of(f) if f.type != "time" else "2026-11-25T07:00:00Z") for f in STORED}
    return {f.column: str(event[f.column]) if f.type in ("u64", "i64") else event[f.column] for f in STORED}


@pytest.mark.parametrize("rule", RULES, ids=[rule.name for rule in RULES])
def test_what_a_rule_matches_is_said_condition_by_condition(rule: Rule) -> None:
    for row in rule.match:
        found = matched(rule.tree, stored(row))
        assert found is not None
        assert found.conditions
        for condition in found.conditions:
            assert condition.wanted


@pytest.mark.parametrize("rule", RULES, ids=[rule.name for rule in RULES])
def test_what_a_rule_does_not_match_has_no_conditions(rule: Rule) -> None:
    for row in rule.no_match:
        assert matched(rule.tree, stored(row)) is None


@pytest.mark.parametrize("rule", RULES, ids=[rule.name for rule in RULES])
def test_every_condition_has_words(rule: Rule) -> None:
    for leaf in leaves(rule.tree):
        assert asked(leaf).strip()
