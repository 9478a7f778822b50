"""The first half of the explanation: what happened, how it was seen, in which phase, of which load, model and process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from modelward_collector.explain.document import Evidence, Glossary, Section
from modelward_collector.explain.gather import Facts, Row, nanoseconds
from modelward_collector.explain.words import EFFECTS, EVIDENCE, PHASES, deed, door, program

OWN_EVENTS = ("agent_silent", "agent_twice", "loss")
"""What the collector or the agent says of a host, rather than what a process did."""

WITHOUT_WORKLOAD = (*OWN_EVENTS, "canary")
"""Of no model server: they have no phase, no load, no model and no chain."""

SHOWN = 5
"""Of the events that matched, the last ones."""


def clock(time: str) -> str:
    """``10:22:55.874`` of an RFC 3339 time."""
    return time[11:23].rstrip("Z")


def span(seconds: float) -> str:
    """A length of time, as a person says it."""
    if seconds < 0.001:
        return "under 1 ms"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"


def what(facts: Facts, glossary: Glossary) -> Section:
    """The deed itself."""
    d = facts.detection
    labels = f" ({', '.join(d['host_labels'])})" if d["host_labels"] else ""
    when = f"On host {d['host_name']}{labels}, on {d['time'][:10]} at {clock(d['time'])} UTC"
    if d["event_name"] in OWN_EVENTS:
        said = {
            "agent_silent": "the collector had not heard of the agent for longer than it may be silent",
            "agent_twice": "two agents were sending under the name of this host",
            "loss": "events were lost on their way to the store",
        }[d["event_name"]]
        return Section(
            "what", "What happened", (f"{when}, {said}.",), _matched(facts), terms=glossary.terms(["detection", "rule"])
        )
    actor = facts.events[-1] if facts.events else d
    sentences = [f"{when}, process {d['process_pid']} {deed(actor)}."]
    if len(d["events"]) > 1:
        shown = f"the last {len(facts.events[-SHOWN:])} are below" if facts.events else "none of them is stored any more"
        sentences.append(f"The rule matched {len(d['events'])} events that differ in nothing but their time; {shown}.")
    elif not facts.events:
        sentences.append(
            "The event itself is no longer stored: events are kept for a limited time, detections with their main facts "
            "stay. What follows rests on the detection."
        )
    if actor.get("truncated"):
        sentences.append("A text of this event was longer than a record holds, and its end is missing.")
    if actor.get("raced"):
        sentences.append(
            "The name that was asked for and the file that was opened disagree: another thread may have swapped them in "
            "between, which is itself suspicious."
        )
    return Section("what", "What happened", tuple(sentences), _matched(facts), terms=glossary.terms(["detection", "rule"]))


def _matched(facts: Facts) -> tuple[Evidence, ...]:
    return tuple(
        Evidence(row["event_name"], f"{program(row)} {deed(row)}" if row["process_pid"] else deed(row), row["time"], "this")
        for row in facts.events[-SHOWN:]
    )


def seen(facts: Facts, glossary: Glossary) -> Section:
    """From the kernel's hook to the verdict."""
    d = facts.detection
    judged = (nanoseconds(d["detected_at"]) - nanoseconds(d["time"])) / 1e9
    if d["event_name"] in OWN_EVENTS:
        source = {
            "agent_silent": "No hook saw this: the collector noticed it by a clock of its own, because nothing arrived.",
            "agent_twice": "No hook saw this: the collector noticed it, because what two agents say of themselves took turns.",
            "loss": "No hook saw this: the numbers that events carry have a gap, or the counts of two steps differ.",
        }
        return Section("seen", "How it was seen", (source[d["event_name"]],), terms=glossary.terms(["loss"]))
    effect, effect_words = EFFECTS.get(d["event_name"], (d["event_name"], "it"))
    if facts.events and facts.events[-1]["event_outcome"] == "attempted" and d["event_name"] == "file_open":
        effect = "uring_open"
    taken = next((one for one in _doors(facts.host) if one["effect"] == effect), None)
    sentences = []
    if taken is None or taken["door"] == "none":
        # The host says which hooks it has now, not which it had then: a paused agent has none.
        why = "the host does not list it now." if taken is None else "the agent has none in place now."
        sentences.append(
            f"The kernel told the agent on {d['host_name']} of {effect_words}. Through which hook is not known here: {why}"
        )
    else:
        sentences.append(
            f"The kernel told the agent on {d['host_name']} of {effect_words} at the hook '{taken['door']}': "
            f"{door(taken['door'])}. The program was not asked, and could not prevent it."
        )
        if taken["loss"]:
            sentences.append(f"What this hook cannot see: {taken['loss']}.")
        sentences.append(
            "The agent tried this hook when it started, by an effect of its own, and the hook reported it."
            if taken["proven"]
            else "The agent has not proven on this host that this hook reports."
        )
    sentences.append(
        f"From the kernel to the verdict it took {span(max(judged, 0))}"
        + (
            ", because the event waited on the host's disk while the collector could not be reached."
            if d["late"]
            else "; if the collector is another machine, by the clocks of both."
        )
    )
    return Section("seen", "How it was seen", tuple(sentences), _way(facts), terms=glossary.terms(["hook", "door"]))


def _way(facts: Facts) -> tuple[Evidence, ...]:
    """The stations of the event, with the time at each."""
    d = facts.detection
    rows = [Evidence("kernel", "the hook ran and wrote a record", d["time"])]
    if facts.events:
        event = facts.events[-1]
        rows.append(
            Evidence(
                "agent",
                f"wrote it to its disk, as row {event['row']} of batch {event['batch']}, before anything was sent",
                event["batch_time"],
            )
        )
    rows.append(Evidence("collector", f"received it and held it against its rules: '{d['rule_name']}' matched", d["detected_at"]))
    if d.get("stored_at"):
        rows.append(
            Evidence(
                "store",
                "stored the event and this detection; only then was the agent told that it may delete its copy",
                d["stored_at"],
            )
        )
    return tuple(rows)


def _doors(host: Row | None) -> list[Mapping[str, Any]]:
    found = host["doors"] if host else []
    names = ("effect", "door", "reason", "proven", "loss")
    # The engine writes a tuple as an object or as a list, by its version.
    return [one if isinstance(one, Mapping) else dict(zip(names, one, strict=False)) for one in found]


def phase(facts: Facts, glossary: Glossary) -> Section:
    """Where the server was in its life, and how that is known."""
    d = facts.detection
    name = d["lifecycle_phase"] or "unknown"
    sentences = [f"The server was {PHASES.get(name, name)} (phase '{name}')."]
    evidence = d["lifecycle_evidence"]
    sentences.append(
        f"{EVIDENCE[evidence]} (evidence '{evidence}')." if evidence in EVIDENCE else "How that is known was not said."
    )
    rows = [Evidence("phase", f"{deed(row)}{_doubt(row)}", row["time"]) for row in _steps(facts.lifecycle)]
    here = Evidence("detection", f"here it happened, in phase {name}", d["time"], "this")
    at = next((i for i, row in enumerate(rows) if row.when > d["time"]), len(rows))
    if not rows:
        sentences.append("The steps themselves are no longer stored.")
    return Section(
        "phase",
        "In which phase was the server?",
        tuple(sentences),
        tuple([*rows[:at], here, *rows[at:]][-14:]),
        terms=glossary.terms(["phase", "evidence"]),
    )


def _steps(lifecycle: Sequence[Row]) -> list[Row]:
    """Without the second word on one step: a load's scope and its process tell of the same answer apart."""
    found: list[Row] = []
    for row in lifecycle:
        same = found and (found[-1]["lifecycle_phase"], found[-1]["lifecycle_trigger"]) == (
            row["lifecycle_phase"],
            row["lifecycle_trigger"],
        )
        if same and nanoseconds(row["time"]) - nanoseconds(found[-1]["time"]) < 10**6:
            found.pop()
        found.append(row)
    return found


def _doubt(row: Row) -> str:
    return "" if row["lifecycle_evidence"] == "observed" else f" ({row['lifecycle_evidence']})"


def load(facts: Facts, glossary: Glossary) -> Section:
    """Scope and origin: whether a load is behind it."""
    d = facts.detection
    model = d["lifecycle_origin_model"] or d["model_id"]
    of = f"of {model}" if model else "of a model"
    actor = facts.events[-1] if facts.events else None
    if d["lifecycle_scope"] == "open":
        said = [
            f"Yes. It happened inside the load {of}: the thread that reads the model file did it, or a process that this thread "
            "started meanwhile. Nothing that a load starts is asked for by a person or by a request."
        ]
    elif d["lifecycle_scope"] == "tail":
        said = [
            f"Very likely. The load {of} had stopped reading less than a moment before, and nothing had been answered yet. Code "
            "hidden in a model file often runs right after the file is read; but a server's own preparations happen then too."
        ]
    elif d["lifecycle_origin_phase"] == "load":
        via = {"fork": "as a copy of it", "exec": "as a program that it started", "thread": "as a thread of it"}.get(
            str(actor["lifecycle_origin_via"]) if actor else "", ""
        )
        later = f", {span(float(actor['lifecycle_origin_age_s']))} before this" if actor else ""
        said = [
            f"Yes, by its origin. The process came out of the load {of}{f' {via}' if via else ''}{later}. The load itself "
            f"was over: "
            "waiting for that moment is how planted code hides."
        ]
    else:
        said = ["No load is tied to it: it happened outside any load, in a process that no load started."]
        said.append(
            "Code that came with a model and runs inside the server's own threads would look the same; the model is not "
            "cleared by this."
        )
    return Section("load", "Does the load of a model lie behind it?", tuple(said), terms=glossary.terms(["scope", "origin"]))


def model(facts: Facts, glossary: Glossary) -> Section:
    """Which model, and where else it is."""
    d, known = facts.detection, facts.identity
    if known is None:
        if str(d["model_instance"]) == "0":
            said = "None is known: it happened outside a load, in a workload with no model or with several."
        else:
            said = f"Load number {d['model_instance']}, whose file was not identified (yet): files are hashed in the background."
        return Section("model", "Which model", (said,), terms=glossary.terms(["instance"]))
    form = f", in the format {known['model_format']}" if known["model_format"] else ""
    path = f", read from {known['model_path']}" if known["model_path"] else ""
    sentences = [f"{known['model_id']}{form}{path}."]
    if known["model_digest"]:
        sentences.append(
            f"Its digest is sha256 {known['model_digest']}. A file can have any name; the digest is what was really loaded."
        )
    else:
        sentences.append("Its digest is not known, so all there is is a name, which proves nothing.")
    if facts.fleet:
        times, hosts = _number(facts.fleet["instances"], "time"), _number(facts.fleet["hosts"], "host")
        first = facts.fleet["first_loaded"][:16].replace("T", " at ")
        sentences.append(f"The same file was loaded {times} on {hosts}, first on {first} UTC.")
    if d["lifecycle_origin_model"] not in ("", known["model_id"]):
        sentences.append(f"The process came out of the load of another model, {d['lifecycle_origin_model']}.")
    return Section("model", "Which model", tuple(sentences), terms=glossary.terms(["digest", "instance"]))


def _number(count: object, one: str) -> str:
    return f"{int(str(count)):,} {one}{'' if int(str(count)) == 1 else 's'}"


def processes(facts: Facts, glossary: Glossary) -> Section:
    """The chain from the workload's first process to the actor."""
    d = facts.detection
    names = d["process_chain"].split(" > ") if d["process_chain"] else []
    sentences = []
    if facts.ancestors:
        rows = [
            Evidence(f"process {row['process_pid']}", _came(row), row["time"], "this" if row is facts.ancestors[-1] else "")
            for row in facts.ancestors
        ]
        first = facts.ancestors[0]
        complete = first["process_entity_id"] == d["process_root_id"]
        sentences.append(
            ("From the first process of the workload" if complete else "From the first process that is still stored")
            + " to the one that did it:"
        )
    else:
        rows = [Evidence("chain", " started ".join(names))] if names else []
        sentences.append("How its processes came to be is not stored: they were there before the agent, or it is too long ago.")
    return Section(
        "processes", "Which processes", tuple(sentences), tuple(rows), terms=glossary.terms(["workload", "process chain"])
    )


def _came(row: Row) -> str:
    path, line = row["process_executable_path"], row["process_command_line"]
    if row["event_name"] == "fork":
        return f"a copy of its parent (fork): {path}"
    kind = {"server": "the server", "entered": "came in from outside the workload", "reader": "only reads a model file"}
    entry = kind.get(row["process_entry"], "")
    return f"{path}{f' ({entry})' if entry else ''}: {line}"
