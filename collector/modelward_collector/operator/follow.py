"""``modelward tail``: detections and events as they arrive, through restarts of the collector."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from rich.text import Text

from modelward_collector.operator.client import Client, Unreachable
from modelward_collector.operator.show import PHASE_STYLES, console, safe, severity, short_time

RETRY_S = 1.0


def follow(client: Client, *, events: bool, as_json: bool, limit: int, host: str) -> int:
    """Print rows until ``limit`` of them, or for ever.

    The first connection must succeed; later a lost one is told and tried again.

    Raises:
        CollectorError: the collector cannot be reached at first, or refuses.
    """
    shown = console()
    count = 0
    connected = False
    lost = False
    while True:
        try:
            for kind, data in client.tail(events=events):
                if kind == "hello":
                    if lost:
                        _note("connected again")
                    elif not as_json and sys.stderr.isatty():
                        _note(f"watching {client.url}; Ctrl-C ends")
                    connected, lost = True, False
                elif kind == "missed":
                    _note(f"{data['count']} rows came too fast to show")
                elif kind == "away":
                    _note(str(data["error"]))
                elif kind in ("detection", "event") and host in ("", data.get("host_name")):
                    if as_json:
                        print(json.dumps({"kind": kind, **data}), flush=True)
                    else:
                        shown.print(_line(kind, data))
                    count += 1
                    if count == limit:
                        return 0
        except Unreachable:
            if not connected:
                raise
        if not lost:
            _note("the collector went away; trying again")
        lost = True
        time.sleep(RETRY_S)


def _note(text: str) -> None:
    print(f"modelward: {safe(text)}", file=sys.stderr, flush=True)


def _line(kind: str, row: dict[str, Any]) -> Text:
    line = Text(f"{short_time(str(row['time'])):>12} ", "dim")
    if kind == "detection":
        line.append_text(severity(row)).append(f" {safe(row['host_name'])} ", "bold")
        line.append(safe(row["sentence"] or row["rule_title"]))
        line.append(f"  {safe(row['detection_id'])[:12]}", "dim")
        if model := row.get("lifecycle_origin_model") or row.get("model_id"):
            line.append(f"  model {safe(model)}", "magenta")
        return line
    phase = safe(row["lifecycle_phase"])
    line.append(f"{safe(row['event_name']):9} ", "cyan").append(f"{safe(row['host_name'])} ", "dim")
    line.append(f"{phase:7} ", PHASE_STYLES.get(phase, ""))
    return line.append(f"{what(row)}").append(f"  {safe(row['process_chain'])}", "dim")


def what(row: dict[str, Any]) -> str:
    """The object of an event: the command line, file, address or transition."""
    name = row["event_name"]
    if name == "exec":
        text = safe(row["process_command_line"] or row["process_executable_path"])
    elif name == "file_open":
        text = f"{safe(row['file_path'])} ({safe(row['file_access'])})"
    elif name in ("connect", "listen"):
        address = safe(row["destination_address"])
        text = (
            f"[{address}]:{row['destination_port']}"
            if ":" in address
            else f"{address}:{row['destination_port']}"
        )
    elif name == "exit":
        signal = row["process_exit_signal"]
        text = f"signal {signal}" if signal else f"status {row['process_exit_code']}"
    elif name == "lifecycle":
        text = f"{safe(row['lifecycle_from'])} > {safe(row['lifecycle_phase'])} ({safe(row['lifecycle_trigger'])})"
        text += f" {safe(row['lifecycle_detail'])}" if row.get("lifecycle_detail") else ""
        text += f" {safe(row['file_path'])}" if row["file_path"] else ""
        text += {"failure": " failed", "attempted": " tried"}.get(row["event_outcome"], "")
    elif name == "model_identity":
        text = f"{safe(row['model_id'])} {safe(row['model_digest'])[:12]}"
    elif name == "library":
        text = safe(row["file_path"])
    elif name == "loss":
        text = f"{safe(row['loss_kind'])} lost at {safe(row['loss_hop'])}"
    else:
        text = safe(row["process_executable_path"])
    count = int(row["count"])
    return f"{text} x{count}" if count > 1 else text
