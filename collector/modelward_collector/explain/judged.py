"""The second half of the explanation: why it is wrong, what else happened, what to do, and how sure all of it is."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from modelward_collector.explain.document import Evidence, Glossary, Section, listed
from modelward_collector.explain.gather import Facts
from modelward_collector.explain.happened import WITHOUT_WORKLOAD, clock
from modelward_collector.explain.matched import matched
from modelward_collector.explain.words import deed, program
from modelward_collector.rules.rule import Rule

_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@/+-]{0,200}", re.ASCII)
"""What can be pasted into a shell as it is."""

_OUTCOMES = {
    "attempted": "the hook sees the attempt; whether it succeeded is not known",
    "unknown": "whether it succeeded is not known",
    "failure": "it was tried, and failed",
}


def rule(facts: Facts, current: Rule | None, glossary: Glossary) -> Section:
    """Why the rule matched, as far as it is still the same rule."""
    d = facts.detection
    sentences = [f"Rule '{d['rule_name']}' ({d['severity']}): {d['reason']}"]
    if d["attack"]:
        sentences.append(f"MITRE's catalogues of attacks have it as {listed(d['attack'])}.")
    rows: list[Evidence] = []
    if current is None:
        sentences.append("This rule is not in force any more, so its conditions cannot be shown.")
    elif current.version != d["rule_version"]:
        sentences.append(
            f"The rule was changed since (version {d['rule_version']} then, {current.version} now), so its conditions of then "
            "cannot be shown."
        )
    elif not facts.events:
        sentences.append("The event is no longer stored, so its conditions cannot be shown one by one.")
    elif (why := matched(current.tree, facts.events[-1])) is not None:
        sentences.append("Each of these was true of the event:" if len(why.conditions) > 1 else "This was true of the event:")
        rows = [
            Evidence(
                one.field,
                f"{one.value or '(empty)'}"
                + (f"; the rule asks for {one.wanted}" if one.wanted != one.value else "")
                + (f" ({one.meaning})" if one.meaning else ""),
            )
            for one in why.conditions
        ]
        if why.exclusions:
            known = "exclusion" if why.exclusions == 1 else "exclusions"
            rows.append(
                Evidence("exclusions", f"the rule has {why.exclusions} {known} for what healthy servers do; none applied")
            )
    else:
        sentences.append(
            "Asked again now, the rule does not match the stored event; its lists of programs, files or addresses may have "
            "changed since."
        )
    title = "What it means" if d["event_name"] == "canary" else "Why this is wrong"
    return Section("rule", title, tuple(sentences), tuple(rows))


def around(facts: Facts, glossary: Glossary) -> Section | None:
    """Just before, and just after."""
    d = facts.detection
    here = Evidence("detection", d["sentence"] or d["rule_title"], d["time"], "this")
    rows = [*map(_row, facts.before), here, *map(_row, facts.after)]
    others = [
        Evidence(
            "detection", f"[{one['detection_id'][:12]}] {one['severity']}: {one['sentence'] or one['rule_title']}", one["time"]
        )
        for one in facts.related
    ]
    if len(rows) == 1 and not others:
        return None
    sentences = []
    if len(rows) > 1:
        sentences.append("In the same workload, within 30 s. Files that were only read are left out unless they hold secrets.")
    if others:
        count = "One other detection belongs" if len(others) == 1 else f"{len(others)} other detections belong"
        sentences.append(f"{count} to the same processes or the same load; they come last, with the start of their ids.")
    return Section("around", "What happened just before and after", tuple(sentences), (*rows, *others))


def _row(row: Mapping[str, Any]) -> Evidence:
    return Evidence(row["event_name"], f"{program(row)} {deed(row)}", row["time"])


def steps(facts: Facts) -> Section:
    """What to do, and where to look."""
    d, digest = facts.detection, facts.identity["model_digest"] if facts.identity else ""
    commands: list[str] = []
    if _plain(d["host_name"], d["process_entity_id"]):
        commands.append(f"modelward events --host {d['host_name']} --process {d['process_entity_id']} --since {d['time'][:10]}")
    elif _plain(d["host_name"]) and d["event_name"] in WITHOUT_WORKLOAD:
        commands.append(f"modelward hosts --host {d['host_name']}")
    if _plain(digest):
        commands.append(f"modelward models --model {digest}")
    return Section("next", "What to do now", (d["next_step"],), commands=tuple(commands))


def silence(facts: Facts) -> Section:
    """What an exception would cover, and its price."""
    d, digest = facts.detection, facts.identity["model_digest"] if facts.identity else ""
    if d["silenced_by"]:
        said = (
            f"Exception {d['silenced_by']} covers it: somebody said that this is expected. It stays stored, and is not sent on."
        )
        return Section("silence", "It is silenced", (said,), commands=("modelward exceptions",))
    title = "If this is expected here"
    if not d["process_executable_path"]:
        said = "It cannot be silenced: an exception names a program, and here is none. Change the rule instead."
        return Section("silence", title, (said,))
    which = f"this model (digest {digest[:12]})" if digest else "no known model"
    covers = (
        f"An exception would cover what rule '{d['rule_name']}' finds of {d['process_executable_path']} with {which} on "
        f"{d['host_name']}, for as long as you say."
    )
    price = "What it covers is still stored, but hidden and not sent on. An attack that looks the same is covered too."
    command = f'modelward silence {d["detection_id"][:12]} --for 7d --reason "why this is expected"'
    return Section("silence", title, (covers, price), commands=(command,))


def sure(facts: Facts, current: Rule | None, glossary: Glossary) -> Section:
    """What speaks for it, and what could make it wrong or incomplete."""
    d = facts.detection
    rows = [] if d["event_name"] in WITHOUT_WORKLOAD else [*_about_the_process(facts)]
    rows.append(
        _good("events", "the events that matched are stored")
        if facts.events
        else _doubt("events", "the events that matched are not stored any more")
    )
    if facts.losses:
        lost = listed([f"{int(one['lost']):,} {one['loss_kind']} at '{one['loss_hop']}'" for one in facts.losses])
        rows.append(
            _doubt("loss", f"within 10 minutes this host lost events ({lost}): something may be missing from the picture")
        )
    else:
        rows.append(_good("loss", "this host reported no loss within 10 minutes"))
    if facts.host and facts.host["silent"]:
        since = f"{facts.host['last_seen'][:10]}, {clock(facts.host['last_seen'])} UTC"
        rows.append(_doubt("agent", f"the agent has been silent since {since}: what happens now is not seen"))
    if d["late"]:
        rows.append(_doubt("late", "the event came after an outage, so it is older than its alarm"))
    if current is None or current.version != d["rule_version"]:
        rows.append(_doubt("rule", "the rule of then is not the rule of now"))
    limits = (
        "Phase and model say what was going on; they never make anything allowed. What no agent of this kind can see: code that "
        "touches nothing on the host, and an attacker inside the kernel."
    )
    said = () if d["event_name"] in WITHOUT_WORKLOAD else (limits,)
    return Section("sure", "How sure is this?", said, tuple(rows), terms=glossary.terms(["loss"]))


def _about_the_process(facts: Facts) -> Iterator[Evidence]:
    d = facts.detection
    if d["lifecycle_evidence"] == "observed":
        yield _good("phase", "the kernel observed each step that led to it")
    else:
        how = d["lifecycle_evidence"] or "not known"
        yield _doubt("phase", f"it is {how}: the agent did not see every step, so phase and load may be wrong")
    if facts.identity and facts.identity["model_digest"]:
        yield _good("model", "its file was hashed on the host")
    elif facts.identity or str(d["model_instance"]) != "0":
        yield _doubt("model", "its file is not hashed, so its name is a claim")
    outcome = _OUTCOMES.get(facts.events[-1]["event_outcome"]) if facts.events else None
    if outcome:
        yield _doubt("result", outcome)
    if facts.ancestors and facts.ancestors[0]["process_entity_id"] == d["process_root_id"]:
        yield _good("processes", "each step of the chain is stored")
    else:
        yield _doubt("processes", "not every step of the chain is stored")


def _good(about: str, text: str) -> Evidence:
    return Evidence(about, text, mark="good")


def _doubt(about: str, text: str) -> Evidence:
    return Evidence(about, text, mark="warn")


def _plain(*texts: str) -> bool:
    return all(_PLAIN.fullmatch(text) for text in texts)
