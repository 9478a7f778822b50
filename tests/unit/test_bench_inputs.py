"""What make bench feeds the collector: rules that are good, and rows that none of them is after."""

from __future__ import annotations

from pathlib import Path

import polars as pl
from modelward_collector.ingest.validate import Source, check
from modelward_collector.rules import self_tests
from modelward_collector.rules.judge import BatchName, Judge

from tests.batches import envelope, now_ns
from tests.bench import rules, workload


def test_the_hundred_rules_are_good_and_the_rows_are_checked_judged_and_no_finding(tmp_path: Path) -> None:
    rules.write(tmp_path, 100 - len(Judge([]).rules()))
    judge = Judge([tmp_path])
    assert not judge.problems()
    assert len(judge.rules()) == 100
    made = [rule for rule in judge.rules() if rule.file.startswith(str(tmp_path))]
    assert not [problem for rule in made for problem in self_tests.run(rule)]
    checked = check(envelope(1, workload.batch(2000, 1, now_ns())), Source("host", b"A" * 16, 30), now_ns())
    events = pl.from_arrow(checked.events)
    assert isinstance(events, pl.DataFrame)
    found = judge.judge(judge.classify(events), BatchName("host", "a", "e", 1))
    assert not judge.problems()
    assert not found["rule_name"].unique().to_list()
