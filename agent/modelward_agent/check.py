"""``modelward-agent check``: what this host offers, hook by hook, which door each effect gets, and what that costs in sight."""

from __future__ import annotations

import json
import os
import platform
import shutil
import signal
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from modelward_proto import __version__

if TYPE_CHECKING:
    from modelward_agent.sensor.doors import DoorReport


def check(*, as_json: bool, probes: bool = True) -> int:
    """Print what the host offers, then open every door and prove it with a canary; if ``probes``, also whether functions can be
    probed, on which no effect depends. Returns the exit code."""
    from modelward_agent import exit_codes
    from modelward_agent.run import allow_locked_memory
    from modelward_agent.sensor.errors import SensorError
    from modelward_agent.sensor.offers import check_host
    from modelward_agent.sensor.sensor import Sensor

    allow_locked_memory()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    offers: Sequence[DoorReport] = ()
    doors: Sequence[DoorReport] = ()
    probed: Sequence[DoorReport] = ()
    refusal = ""
    try:
        offers = check_host()
        sensor = Sensor.open(exclude_pids=(os.getpid(),))
        try:
            doors = sensor.prove()
            probed = sensor.prove_probes() if probes else ()
        finally:
            sensor.close()
    except SensorError as e:
        refusal = str(e)
    blind = [door for door in doors if door.door == "none" or not door.proven]
    if as_json:
        print(json.dumps({
            "agent_version": __version__, "kernel_release": platform.release(), "refusal": refusal,
            "offers": [asdict(offer) for offer in offers], "doors": [asdict(door) for door in doors],
            "probes": [asdict(probe) for probe in probed],
        }, indent=2))
    else:
        print(_report(offers, doors, probed))
        if not refusal:
            print(_verdict(blind, probed))
    if refusal:
        print(f"modelward-agent: this host cannot be watched: {refusal}", file=sys.stderr)
        return exit_codes.HOST
    return 1 if blind else 0


def _report(offers: Sequence[DoorReport], doors: Sequence[DoorReport], probed: Sequence[DoorReport]) -> str:
    lines = [f"modelward-agent {__version__} on kernel {platform.release()}"]
    if offers:
        width = max(len(offer.effect) for offer in offers)
        lines += ["", "What this host offers"]
        for offer in offers:
            lines += _entry(f"{offer.effect:{width}}  {'yes' if offer.proven else 'no ':3}  ", offer.reason)
    lines += _section("How each effect is watched here", doors)
    lines += _section("How functions of frameworks and drivers can be probed here, where a server has them", probed)
    return "\n".join(lines)


def _section(title: str, doors: Sequence[DoorReport]) -> list[str]:
    if not doors:
        return []
    width = max(len(door.effect) for door in doors)
    lines = ["", title]
    for door in doors:
        state = "proven" if door.proven else "NOT PROVEN" if door.door != "none" else "NOT SEEN"
        lines += _entry(f"{door.effect:{width}}  {state:10}  ", door.door)
        indent = " " * (width + 14)
        if door.reason and door.reason != "first choice":
            lines += _entry(indent, f"why: {door.reason}")
        if door.loss:
            lines += _entry(indent, f"cannot see: {door.loss}")
    return lines


def _entry(head: str, text: str) -> list[str]:
    """A line that begins with ``head``, wrapped under it to the width of the terminal."""
    room = max(40, shutil.get_terminal_size((110, 24)).columns - len(head) - 2)
    first, *more = textwrap.wrap(text, room, break_long_words=False) or [""]
    return ["  " + head + first, *("  " + " " * len(head) + line for line in more)]


def _verdict(blind: Sequence[DoorReport], probed: Sequence[DoorReport]) -> str:
    lines = ["", "Every effect is watched, and each hook was proven by an effect of its own."]
    if blind:
        lines[1] = f"Not watched, or not proven: {', '.join(door.effect for door in blind)}."
    deaf = [probe.effect for probe in probed if not probe.proven]
    if deaf:
        lines.append(f"No probes: {', '.join(deaf)}. Phases are then told by files, sockets and quiet time alone.")
    return "\n".join(lines)
