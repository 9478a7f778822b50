"""``modelward silence`` and ``modelward exceptions``: what is expected here, for a while and for a reason."""

from __future__ import annotations

import argparse
import getpass
import json
import re
import socket
import sys
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.text import Text

from modelward_collector.operator.client import BadRequest, Client
from modelward_collector.operator.show import Column, console, moment, plain, safe, table

Command = Callable[[str, str, Callable[[argparse.Namespace], int]], argparse.ArgumentParser]
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_LONGEST_S = 366 * 86400
Connect = Callable[[argparse.Namespace], Client]


def add_commands(command: Command, connect: Connect) -> None:
    """Both commands. ``command`` adds one, ``connect`` gives the collector that its flags name."""
    silence = command("silence", "say that a detection is expected: what equals it is hidden for a while", lambda given: _silence(
        given, connect(given)))
    silence.add_argument("id", metavar="ID", help="of the detection, or the start of it: at least 6 digits")
    silence.add_argument("--reason", required=True, metavar="TEXT", help="why it is expected; shown to everyone")
    silence.add_argument("--for", required=True, dest="span", metavar="SPAN", help="how long: 12h, 7d, 4w, at most 366d")
    silence.add_argument("--all-hosts", action="store_true", help="on every host, not only the one it was found on")
    silence.add_argument("--yes", action="store_true", help="do not ask after showing what will be silenced")
    exceptions = command("exceptions", "what is silenced, why and until when; and end it", lambda given: _exceptions(
        given, connect(given)))
    exceptions.add_argument("--all", action="store_true", help="expired and revoked ones too")
    exceptions.add_argument("--revoke", metavar="ID", default="", help="end this one: what it silenced shows again")


def author() -> str:
    """Who asks, as far as this machine knows; nobody checks it."""
    try:
        name = getpass.getuser()
    except (OSError, KeyError):
        name = "unknown"
    return safe(f"{name}@{socket.gethostname()}")[:100]


def _silence(given: argparse.Namespace, client: Client) -> int:
    if not given.reason.strip():
        raise BadRequest("--reason: say why this is expected; everyone sees it.")
    # Said before it is shown and asked about, not after.
    if not _lasts(given.span):
        most = _LONGEST_S // 86400
        raise BadRequest(f"--for: a span such as 12h, 7d or 4w, of at most {most} days, is wanted, not '{given.span}'.")
    asked = {"detection": given.id, "all_hosts": str(int(given.all_hosts))}
    found = client.document("GET", "/api/v1/exceptions/preview", params=asked)
    shown = console()
    if not given.json:
        _show(found, given, shown)
    if not found["covers"]["executable_path"]:
        raise BadRequest("A detection without a program cannot be silenced; change its rule instead.")
    if not given.yes:
        if not sys.stdin.isatty() or given.json:
            raise BadRequest("Nothing was saved. Without a terminal to ask on, --yes says that this is meant.")
        if input("Silence this? [y/N] ").strip().lower() not in ("y", "yes"):
            shown.print("Nothing was saved.")
            return 0
    wanted = {"detection": found["detection_id"], "covers": found["covers"], "reason": given.reason, "for": given.span}
    made = client.document("POST", "/api/v1/exceptions", json={**wanted, "author": author()})
    if given.json:
        print(json.dumps({**found, **made}))
    else:
        shown.print(Text(f"Silenced. 'modelward exceptions --revoke {safe(made['id'])}' ends it."))
    return 0


def _lasts(span: str) -> bool:
    found = re.fullmatch(r"(\d{1,6})([smhdw])", span, re.ASCII)
    return found is not None and 0 < int(found[1]) * _SECONDS[found[2]] <= _LONGEST_S


def _show(found: dict[str, Any], given: argparse.Namespace, shown: Console) -> None:
    covers = found["covers"]
    digest = safe(covers["model_digest"])
    rows = (
        ("rule", f"{safe(covers['rule_name'])}: {safe(found['rule_title'])}"),
        ("program", safe(covers["executable_path"]) or "(none)"),
        ("model", f"{safe(found['model_id'])}, sha256 {digest}" if digest else "(none known)"),
        ("host", safe(covers["host_name"]) or "every host"),
        ("for", safe(given.span)),
        ("reason", safe(given.reason)),
    )
    shown.print(Text("This will be silenced: detections that equal all of", "bold"))
    for name, value in rows:
        shown.print(Text(f"  {name:8} ", "cyan").append(value))
    count = int(found["count"])
    times = f"{count:,} detection{'' if count == 1 else 's'} of the last {found['days']} days"
    shown.print(Text(f"It would have covered {times}, on {int(found['hosts']):,} host{'' if int(found['hosts']) == 1 else 's'}."))
    shown.print(Text("They stay stored. An attack that looks the same is silenced too.", "yellow"))
    for note in found["notes"]:
        shown.print(Text(safe(note), "yellow"))


_COLUMNS = (
    Column("id", plain("id", "dim")),
    Column("until", moment("expires")),
    Column("state", lambda row: _state(row)),
    Column("rule", plain("rule_name")),
    Column("program", plain("executable_path"), fold=True),
    Column("model digest", lambda row: Text(safe(row["model_digest"])[:12] or "none known", "dim"), room=120),
    Column("host", lambda row: Text(safe(row["host_name"]) or "every host"), room=90),
    Column("hits", plain("hits"), right=True),
    Column("reason", plain("reason"), fold=True),
    Column("by", plain("author"), room=130),
)


def _state(row: dict[str, Any]) -> Text:
    if row["active"]:
        return Text("in force", "green")
    return Text("revoked" if row["revoked"] else "expired", "dim")


def _exceptions(given: argparse.Namespace, client: Client) -> int:
    if given.revoke:
        made = client.document("DELETE", f"/api/v1/exceptions/{_id(given.revoke)}", params={"author": author()})
        if given.json:
            print(json.dumps(made))
        else:
            console().print(Text(f"Exception {safe(made['id'])} is revoked: what it silenced shows again."))
        return 0
    found = client.rows("exceptions", {} if given.all else {"active": "true"})
    if given.json:
        for row in found.rows:
            print(json.dumps(row))
        return 0
    shown = console()
    if found.rows:
        # Without --all each of them is in force.
        columns = [column for column in _COLUMNS if given.all or column.title != "state"]
        shown.print(table(columns, found.rows, shown.width))
    else:
        shown.print("Nothing is silenced. 'modelward silence ID' does it for a detection that is expected.")
    return 0


def _id(text: str) -> str:
    if len(text) != 16 or not all(c in "0123456789abcdef" for c in text):
        raise BadRequest("--revoke: the id of an exception has 16 digits of 0-9 and a-f; 'modelward exceptions' shows them.")
    return text
