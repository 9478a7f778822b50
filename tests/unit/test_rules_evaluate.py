"""All rules together on large batches: what is shared between rules and between rows changes no answer."""

from __future__ import annotations

import random
from typing import Any

import polars as pl
import pytest
from modelward_collector.rules import evaluate
from modelward_collector.rules.evaluate import Evaluator
from modelward_collector.rules.judge import Judge
from modelward_collector.rules.rule import Row, Rule
from modelward_collector.rules.self_tests import frame
from modelward_proto.fields import BY_NAME


@pytest.fixture(scope="module")
def rules() -> list[Rule]:
    return Judge([]).rules()


def events_of(rules: list[Rule], count: int, seed: int) -> list[Row]:
    """The rules' own test events, changed at random so that closed columns meet in many combinations."""
    chance = random.Random(seed)
    own = [row for rule in rules for row in (*rule.match, *rule.no_match)]
    closed = [field for field in BY_NAME.values() if field.type == "closed" and field.name != "event.name"]
    names = BY_NAME["event.name"].values
    made: list[Row] = []
    for _ in range(count):
        row: dict[str, Any] = {"event.name": chance.choice(names)} | dict(chance.choice(own))
        for field in chance.sample(closed, chance.randrange(4)):
            row[field.name] = chance.choice(field.values)
        made.append(row)
    return made


def answers(evaluator: Evaluator, events: pl.DataFrame) -> dict[str, list[int]]:
    matches, failures = evaluator.run(events)
    assert not failures
    return {match.rule.id: match.rows.to_list() for match in matches}


@pytest.mark.parametrize("as_text", [True, False], ids=["closed columns as text", "closed columns as categories"])
def test_rules_together_answer_as_each_alone(rules: list[Rule], as_text: bool) -> None:
    rows = events_of(rules, 300, 1)
    events = frame(rows)
    if not as_text:
        events = events.with_columns(pl.col(f.column).cast(pl.Categorical) for f in BY_NAME.values() if f.type == "closed")
    together = answers(Evaluator(rules), events)
    for rule in rules:
        alone = Evaluator([rule])
        assert answers(alone, events).get(rule.id, []) == together.get(rule.id, []), rule.name
        for index in together.get(rule.id, [])[:2]:
            assert answers(alone, events[index : index + 1]) == {rule.id: [0]}, (rule.name, rows[index])


def test_more_combinations_than_are_planned_at_once_change_no_answer(
    rules: list[Rule], monkeypatch: pytest.MonkeyPatch
) -> None:
    events = frame(events_of(rules, 400, 2))
    whole = answers(Evaluator(rules), events)
    assert whole
    monkeypatch.setattr(evaluate, "NEW_PLANS", 3)
    monkeypatch.setattr(evaluate, "MAX_PLANS", 7)
    few = Evaluator(rules)
    for _ in range(4):
        assert answers(few, events) == whole
    assert len(few._fine) <= 7


def test_a_column_with_a_value_of_a_newer_agent_and_one_that_is_missing_are_no_match_and_no_failure(rules: list[Rule]) -> None:
    rows = events_of(rules, 50, 3)
    events = frame(rows)
    odd = events.with_columns(pl.lit("tomorrow").alias("lifecycle_phase"), pl.lit(None, pl.String).alias("process_entry"))
    matches, failures = Evaluator(rules).run(odd.drop("file_class", "destination_port"))
    assert not failures
    assert not {match.rule.name for match in matches} & {"credential_read", "exec_in_serve", "startup_hook_write"}


def test_values_that_a_host_makes_up_cost_no_plan_each(rules: list[Rule]) -> None:
    evaluator = Evaluator(rules)
    for made in range(3):
        names, phases = ([f"{kind}{made}.{number}" for number in range(16)] for kind in ("event", "phase"))
        events = pl.DataFrame({"event_name": [name for name in names for _ in phases], "lifecycle_phase": phases * len(names)})
        answers(evaluator, events.with_columns(pl.all().cast(pl.Categorical)))
    assert len(evaluator._coarse) == len(evaluator._fine) == 1
