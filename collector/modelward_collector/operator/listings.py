"""The lists of the command: which filters each has, its columns, and what is said when there is nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.text import Text

from modelward_collector.operator import inventory
from modelward_collector.operator.client import Rows
from modelward_collector.operator.follow import what
from modelward_collector.operator.show import Column, moment, phase, plain, safe, severity, table

_BLIND = ("paused", "degraded")
"""Modes in which no hook is attached."""


@dataclass(frozen=True, slots=True)
class Listing:
    """One list."""

    name: str
    help: str
    filters: tuple[str, ...]
    columns: tuple[Column, ...]
    nothing: str
    limit: int
    oldest_first: bool = True
    after: Callable[[Sequence[dict[str, Any]], Console], None] | None = None
    """What is printed below the table."""


def _model(row: dict[str, Any]) -> Text:
    """The model that the load was of, else the one the process has; the origin is what tells the story."""
    origin = safe(row.get("lifecycle_origin_model") or row.get("origin_model"))
    own = safe(row.get("model_id"))
    return Text(origin or own, "magenta")


def _chain(row: dict[str, Any]) -> Text:
    return Text(safe(row.get("process_chain") or row.get("chain")), "dim")


def _state(row: dict[str, Any]) -> Text:
    if row["silent"]:
        return Text("silent", "bold red")
    if row["connected"] and row.get("mode") in _BLIND:
        return Text(safe(row["mode"]), "bold red")
    return Text("connected", "green") if row["connected"] else Text("away", "yellow")


def _delivers(row: dict[str, Any]) -> Text:
    return Text(safe(row["problem"]), "bold red") if row["problem"] else Text("delivers", "green")


def _sentence(row: dict[str, Any]) -> Text:
    """What happened; dim when an exception covers it."""
    if row.get("silenced_by") or row.get("all_silenced"):
        return Text(f"(silenced) {safe(row['sentence'])}", "dim")
    return Text(safe(row["sentence"]))


def _labels(key: str) -> Any:
    return lambda row: Text(safe(row.get(key) or []), "dim")


def _lost(row: dict[str, Any]) -> Text:
    lost = int(row["lost"])
    return Text(f"{lost:,}", "bold red" if lost else "dim")


def _number(key: str) -> Any:
    return lambda row: Text(f"{int(row.get(key) or 0):,}")


def _digest(row: dict[str, Any]) -> Text:
    return Text(safe(row["digest"])[:12] or "-", "dim")


def _short_id(row: dict[str, Any]) -> Text:
    """Enough of it for 'modelward explain'."""
    return Text(safe(row["detection_id"])[:12], "dim")


def _newest_id(row: dict[str, Any]) -> Text:
    """Of the group's last detection: what 'modelward explain' wants."""
    return Text(safe((row.get("detection_ids") or [""])[0])[:12], "dim")


def _proven(row: dict[str, Any]) -> Text:
    """A probe waits for a server that has such a library, and then for a call: neither is a failure."""
    if row["proven"]:
        return Text("yes", "green")
    if row["door"] != "none" and str(row["effect"]).startswith("probe:"):
        return Text("not in use" if row["door"] == "not mapped" else "not called yet", "dim")
    return Text("no", "yellow")


_DOORS = (
    Column("effect", plain("effect", "bold")),
    Column("door", plain("door", "cyan"), fold=True),
    Column("proven", _proven),
    Column("why this door", plain("reason"), fold=True),
    Column("not seen", plain("loss", "yellow"), fold=True),
)


def _about_hosts(rows: Sequence[dict[str, Any]], console: Console) -> None:
    """Why a host does not watch, and problems of all; of a single one that does, also how each effect is watched there."""
    for row in rows:
        if row.get("mode_reason"):
            mode, reason = safe(row["mode"]), safe(row["mode_reason"])
            # 'paused by ada: ...' has said it.
            why = reason if reason.startswith(mode) else f"{mode}: {reason}"
            console.print(Text(f"{safe(row['host_name'])}: ", "bold").append(why, "red"))
        for problem in row["problems"]:
            console.print(Text(f"{safe(row['host_name'])}: ", "bold").append(safe(problem), "yellow"))
    if len(rows) == 1 and rows[0].get("mode") not in _BLIND:
        console.print(table(_DOORS, rows[0]["doors"], console.width))


_TIME = ("since", "until")

LISTINGS = {
    listing.name: listing
    for listing in (
        Listing(
            "detections",
            "what the rules found, newest last",
            (*_TIME, "host", "label", "severity", "model", "phase", "process", "event", "rule", "text", "silenced"),
            (
                Column("id", _short_id),
                Column("time", moment("time")),
                Column("severity", severity),
                Column("host", plain("host_name")),
                Column("labels", _labels("host_labels"), fold=True, room=170),
                Column("rule", plain("rule_name"), room=125),
                Column("model", _model),
                Column("phase", phase("lifecycle_phase"), room=90),
                Column("what happened", _sentence, fold=True),
            ),
            "No detections. 'modelward events' shows what is seen, 'modelward hosts' who is watching.",
            50,
        ),
        Listing(
            "incidents",
            "detections of one workload, rule and origin, grouped, newest last",
            (*_TIME, "host", "label", "severity", "model", "rule", "text", "silenced"),
            (
                Column("newest id", _newest_id),
                Column("last", moment("last")),
                Column("severity", severity),
                Column("n", _number("count"), right=True),
                Column("host", plain("host_name")),
                Column("labels", _labels("host_labels"), fold=True, room=170),
                Column("model", _model),
                Column("what happened", _sentence, fold=True),
                Column("process chain", _chain, fold=True, room=115),
            ),
            "No incidents. 'modelward events' shows what is seen, 'modelward hosts' who is watching.",
            50,
        ),
        Listing(
            "events",
            "what models' processes did, newest last (the last 24 hours unless --since is given)",
            (*_TIME, "host", "label", "model", "phase", "process", "event", "text"),
            (
                Column("time", moment("time")),
                Column("event", plain("event_name", "cyan")),
                Column("host", plain("host_name")),
                Column("phase", phase("lifecycle_phase"), room=90),
                Column("model", _model),
                Column("pid", plain("process_pid"), right=True, room=100),
                Column("what", lambda row: Text(what(row)), fold=True),
                Column("process chain", _chain, fold=True, room=115),
            ),
            "No events in this span. Is an agent connected? See 'modelward hosts'.",
            50,
        ),
        Listing(
            "hosts",
            "machines with an agent: who is silent, who loses events; with --host, how each effect is watched there",
            ("since", "host", "label"),
            (
                Column("host", plain("host_name", "bold")),
                Column("labels", _labels("labels"), fold=True, room=130),
                Column("state", _state),
                Column("last word", moment("last_seen")),
                Column("agent", plain("agent_version"), room=100),
                Column("kernel", plain("kernel_release"), room=120),
                Column("processes", _number("tracked_processes"), right=True, room=110),
                Column("seen", _number("seen"), right=True),
                Column("stored", _number("stored"), right=True),
                Column("lost", _lost, right=True),
            ),
            "No hosts. An agent makes one: modelward-agent run --collector HOST:4460 --state DIR",
            500,
            oldest_first=False,
            after=_about_hosts,
        ),
        Listing(
            "outputs",
            "where detections are sent, whether they arrive, how many wait",
            (),
            (
                Column("output", plain("output", "bold")),
                Column("to", plain("address"), fold=True),
                Column("state", _delivers),
                Column("wait", _number("behind"), right=True),
                Column("delivered", _number("delivered"), right=True),
                Column("silenced", _number("silenced"), right=True, room=90),
                Column("refused", _number("set_aside"), right=True, room=90),
            ),
            "No output is set: detections are on the page and in 'modelward detections' alone. See --webhook-url of "
            "'modelward-collector run'.",
            100,
        ),
        Listing(
            "models",
            "models that were loaded: what they are, where, by what, and in which phase now",
            ("since", "model", "text"),
            (
                Column("model", plain("model_id", "bold")),
                Column("digest", _digest),
                Column("format", plain("format"), room=100),
                Column("what it is", inventory.kind, room=130),
                Column("source", plain("source"), room=150),
                Column("now", inventory.now),
                Column("since", moment("since")),
                Column("hosts", plain("hosts"), right=True),
                Column("loads", plain("instances"), right=True, room=100),
                Column("loaded by", plain("runtimes"), fold=True, room=90),
                Column("where", inventory.where, fold=True, room=170),
            ),
            "No models. One shows once a watched process has loaded it.",
            100,
            oldest_first=False,
        ),
    )
}

def show(listing: Listing, found: Rows, console: Console, asked: Sequence[str] = ()) -> None:
    """Print rows, or what to do when there is none. ``asked``: the filters that were given, as flags."""
    if not found.rows:
        console.print(listing.nothing)
        if asked:
            console.print(Text(f"Asked for was only {safe(' '.join(asked))}: there may be others.", "yellow"))
        return
    rows: Sequence[dict[str, Any]] = found.rows[::-1] if listing.oldest_first else found.rows
    console.print(table(listing.columns, rows, console.width))
    if listing.after:
        listing.after(rows, console)
    if not found.complete:
        console.print(f"The latest {len(rows):,}; --limit shows more.", style="dim")
