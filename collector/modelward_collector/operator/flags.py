"""The filters of a list as flags of the command: how they are asked for, what is sent to the collector, how they were given."""

from __future__ import annotations

import argparse

from modelward_proto.fields import EVENT_NAMES, PHASES, SEVERITIES

from modelward_collector.operator.listings import Listing

_HELP = {
    "since": ("SPAN", "not before: 15m, 24h, 7d or 2026-11-25T07:00:00Z"),
    "until": ("SPAN", "before: the same"),
    "host": ("NAME", "of this host"),
    "label": ("NAME=VALUE", "of hosts with this label, such as env=prod"),
    "severity": ("LEVEL", f"this severe or worse: {', '.join(SEVERITIES)}"),
    "model": ("ID", "of this model (its id, or its sha256), or of a process that came from its load"),
    "phase": ("PHASE", f"in this lifecycle phase: {', '.join(PHASES)}"),
    "process": ("PID|KEY|TEXT", "of this process: a pid, a process key, or part of its path or command line"),
    "event": ("NAME", f"of this kind: {', '.join(EVENT_NAMES.values())}"),
    "rule": ("NAME", "made by this rule"),
    "text": ("TEXT", "with this text in it"),
}
_API_NAMES = {"severity": "min_severity", "text": "q"}


def add(parser: argparse.ArgumentParser, listing: Listing) -> None:
    """The flags of a list."""
    for name in listing.filters:
        if name == "silenced":
            parser.add_argument("--silenced", action="store_const", const="1", default="", help="also what an exception covers")
            continue
        metavar, help = _HELP[name]
        choices = {"severity": SEVERITIES, "phase": PHASES}.get(name)
        parser.add_argument(f"--{name}", metavar=metavar, help=help, default="", choices=choices)
    parser.add_argument(
        "--limit", type=_limit, metavar="N", default=listing.limit, help=f"at most N rows ({listing.limit})"
    )


def to_send(given: argparse.Namespace, listing: Listing) -> dict[str, str]:
    """What to send."""
    found = {
        _API_NAMES.get(name, name): getattr(given, name) for name in listing.filters if getattr(given, name)
    }
    return {**found, "limit": str(given.limit)}


def as_typed(given: argparse.Namespace, listing: Listing) -> list[str]:
    """The filters that a person gave, as on the command line."""
    values = ((name, getattr(given, name)) for name in listing.filters)
    return [f"--{name}" if name == "silenced" else f"--{name} {value}" for name, value in values if value]


def _limit(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 1000:
        raise argparse.ArgumentTypeError("a number from 1 to 1000 is wanted")
    return int(text)
