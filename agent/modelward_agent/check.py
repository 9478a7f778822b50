"""``modelward-agent check``: what this host offers, hook by hook, which door each effect gets, and what that costs in sight."""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from modelward_proto import __version__

if TYPE_CHECKING:
    from modelward_agent.sensor.doors import DoorReport


def check(*, as_json: bool) -> int:
    """Print what the host offers, then open every door and prove it with a canary. Returns the exit code."""
    from modelward_agent.cli import EXIT_HOST, allow_locked_memory
    from modelward_agent.sensor.errors import SensorError
    from modelward_agent.sensor.sensor import Sensor, check_host

    allow_locked_memory()
    offers: Sequence[DoorReport] = ()
    doors: Sequence[DoorReport] = ()
    refusal = ""
    try:
        offers = check_host()
        sensor = Sensor.open(exclude_pids=(os.getpid(),))
        try:
            doors = sensor.prove()
        finally:
            sensor.close()
    except SensorError as e:
        refusal = str(e)
    blind = [door for door in doors if door.door == "none" or not door.proven]
    if as_json:
        print(json.dumps({
            "agent_version": __version__, "kernel_release": platform.release(), "refusal": refusal,
            "offers": [asdict(offer) for offer in offers], "doors": [asdict(door) for door in doors],
        }, indent=2))
    else:
        print(_report(offers, doors))
        if not refusal:
            print(_verdict(blind))
    if refusal:
        print(f"modelward-agent: this host cannot be watched: {refusal}", file=sys.stderr)
        return EXIT_HOST
    return 1 if blind else 0


def _report(offers: Sequence[DoorReport], doors: Sequence[DoorReport]) -> str:
    lines = [f"modelward-agent {__version__} on kernel {platform.release()}"]
    if offers:
        lines += ["", "What this host offers", *_table(
            ("HOOK", "OFFERED", "WHY"),
            [(offer.effect, "yes" if offer.proven else "no", offer.reason) for offer in offers],
        )]
    if doors:
        lines += ["", "How each effect is watched here", *_table(
            ("EFFECT", "DOOR", "PROVEN", "WHY THIS DOOR, AND WHAT IT CANNOT SEE"),
            [(d.effect, d.door, "yes" if d.proven else "NO", _sentence(d)) for d in doors],
        )]
    return "\n".join(lines)


def _sentence(door: DoorReport) -> str:
    return f"{door.reason}. Not seen: {door.loss}" if door.loss else door.reason


def _verdict(blind: Sequence[DoorReport]) -> str:
    if not blind:
        return "\nEvery effect is watched, and a probe proved each hook."
    return f"\nNot watched, or not proven: {', '.join(door.effect for door in blind)}."


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Aligned columns; the last one is wrapped to the terminal."""
    widths = [max(len(row[i]) for row in (head, *rows)) + 2 for i in range(len(head) - 1)]
    room = max(30, shutil.get_terminal_size((110, 24)).columns - sum(widths) - 2)
    lines: list[str] = []
    for row in (head, *rows):
        first, *more = textwrap.wrap(row[-1], room) or [""]
        lines.append("  " + "".join(cell.ljust(w) for cell, w in zip(row, widths, strict=False)) + first)
        lines += [" " * (sum(widths) + 2) + line for line in more]
    return lines
