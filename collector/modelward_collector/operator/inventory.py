"""``modelward models``: what the inventory says of a model, and ``modelward models MODEL``: each place of one."""

from __future__ import annotations

import difflib
import json
from typing import Any

from rich.console import Console
from rich.text import Text

from modelward_collector.operator.client import Client, Refused
from modelward_collector.operator.show import PHASE_STYLES, Column, console, moment, plain, safe, short_time, table

NEAR = 5


def now(row: dict[str, Any]) -> Text:
    """Where it is now: its phase, and how many loads of it there are; of silent hosts nothing is known."""
    loaded, unknown = int(row.get("loaded_now") or 0), int(row.get("loaded_unknown") or 0)
    phase = safe(row.get("phase"))
    if not phase:
        return Text("not loaded", "dim")
    if not loaded:
        return Text(f"unknown x{unknown}" if unknown > 1 else "unknown", "yellow")
    said = Text(phase, PHASE_STYLES.get(phase, ""))
    said.append(f" x{loaded}" if loaded > 1 else "", "")
    return said.append(f" +{unknown} unknown" if unknown else "", "yellow")


def kind(row: dict[str, Any]) -> Text:
    """Architecture, quantization, and of an adapter the model that it is for."""
    base = f"on {safe(row['base'])}" if row.get("base") else ""
    return Text(" ".join(part for part in (safe(row.get("architecture")), safe(row.get("quantization")), base) if part))


def where(row: dict[str, Any]) -> Text:
    """The hosts, the first few by name."""
    names = [safe(name) for name in row.get("host_names") or ()]
    more = int(row.get("hosts") or 0) - 3
    return Text(", ".join(names[:3]) + (f" and {more} more" if more > 0 else ""), "dim")


_PLACES = (
    Column("host", plain("host_name", "bold")),
    Column("workload", plain("workload_id"), fold=True),
    Column("loaded by", lambda row: Text(f"{safe(row['runtime'])} {safe(row['runtime_version'])}".strip())),
    Column("now", now),
    Column("since", moment("since")),
    Column("loads", plain("loads"), right=True),
    Column("last loaded", moment("last_loaded"), room=110),
    Column("file", plain("path"), fold=True, room=130),
)


def run(client: Client, model: str, *, as_json: bool) -> int:
    """Print one model; two of one name, or of one start of a digest, one after the other.

    Raises:
        CollectorError: the collector is away, or knows no such model.
    """
    found = client.rows("models", {"model": model, "limit": "20"}).rows
    if not found:
        raise Refused(_nothing(client, model))
    places = client.rows("loads", {"model": model, "limit": "1000"})
    shown = console()
    for row in found:
        mine = [place for place in places.rows if (place["model_id"], place["digest"]) == (row["model_id"], row["digest"])]
        if as_json:
            print(json.dumps({**row, "places": mine}))
        else:
            _show(row, mine, shown)
    if not as_json and not places.complete:
        shown.print(f"The latest {len(places.rows):,} places; there are more.", style="dim")
    return 0


def _show(row: dict[str, Any], places: list[dict[str, Any]], shown: Console) -> None:
    shown.print(Text(safe(row["model_id"]), "bold"))
    facts = (
        ("digest", safe(row["digest"]) or "not hashed yet"),
        ("format", safe(row["format"])),
        ("what it is", kind(row).plain),
        ("revision", safe(row["revision"])),
        ("source", safe(row["source"])),
        ("file", safe(row["path"])),
        ("loaded by", safe(row["runtimes"])),
        ("loads", f"{int(row['instances']):,} on {int(row['hosts']):,} host{'' if int(row['hosts']) == 1 else 's'}, the first "
                  f"{short_time(str(row['first_loaded']))}, the last {short_time(str(row['last_loaded']))}"),
    )
    for name, value in facts:
        if value:
            shown.print(Text(f"  {name:11}", "cyan").append(value))
    shown.print(Text(f"  {'now':11}", "cyan").append_text(now(row)).append(f" since {short_time(str(row['since']))}", "dim"))
    if places:
        shown.print(table(_PLACES, places, shown.width))
        shown.print(Text("'modelward timeline WORKLOAD' shows what one did.", "dim"))


def _nothing(client: Client, model: str) -> str:
    rows = client.rows("models", {"limit": "1000"}).rows
    names = sorted({str(row["model_id"]) for row in rows})
    near = difflib.get_close_matches(model, names, NEAR, 0.5)
    near += [name for name in names if model.lower() in name.lower() and name not in near][: NEAR - len(near)]
    said = f"No model is called {model}, and no digest begins so (6 digits or more are wanted)."
    return f"{said} Near it: {', '.join(near)}." if near else f"{said} 'modelward models' lists those that were loaded."
