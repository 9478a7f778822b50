"""The whole explanation, section by section, in the order in which a reader asks."""

from __future__ import annotations

from modelward_collector.explain import happened, judged
from modelward_collector.explain.document import Explanation, Glossary
from modelward_collector.explain.gather import Facts
from modelward_collector.explain.words import TERMS
from modelward_collector.rules.rule import Rule


def explanation(facts: Facts, rule: Rule | None) -> Explanation:
    """``rule``: the one with the detection's rule id that is in force now, whatever its version."""
    d, glossary = facts.detection, Glossary(TERMS)
    sections = [
        happened.what(facts, glossary),
        judged.rule(facts, rule, glossary),
        judged.steps(facts),
        happened.seen(facts, glossary),
    ]
    if d["event_name"] not in happened.WITHOUT_WORKLOAD:
        sections += [
            happened.phase(facts, glossary),
            happened.load(facts, glossary),
            happened.model(facts, glossary),
            happened.processes(facts, glossary),
        ]
    if (near := judged.around(facts, glossary)) is not None:
        sections.append(near)
    sections += [judged.sure(facts, rule, glossary), judged.silence(facts)]
    return Explanation(
        id=d["detection_id"],
        title=d["rule_title"],
        severity=d["severity"],
        host=d["host_name"],
        time=d["time"],
        headline=d["sentence"] or d["rule_title"],
        silenced_by=d.get("silenced_by", ""),
        sections=tuple(sections),
    )
