"""``modelward test-alert``: a harmless effect in the kernel of a host, followed hop by hop until it left the collector."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.text import Text

from modelward_collector.operator.client import Client
from modelward_collector.operator.show import console, safe

LOOK_S = 0.2
STUCK_S = 5.0
"""An output that says for so long what is wrong with its receiver is not waited for longer."""

SENT, DONE, SEEN, JUDGED, DELIVERED = (
    "sent to the agent", "done by the agent", "seen in its kernel, and stored", "detection made, and stored", "delivered to ")


@dataclass(slots=True)
class Progress:
    """What is known of one test. ``hops``: name to time, seconds since 1970."""

    host: str
    id: str
    outputs: list[str]
    hops: dict[str, float] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    problem: str = ""
    """Why it cannot come further."""
    stuck_since: float | None = None

    def take(self, found: dict[str, Any]) -> None:
        """What the collector says now."""
        for answer in found["answers"]:
            if answer["error"]:
                self.problem = f"the agent could not do it: {answer['error']}"
            else:
                self.hops.setdefault(DONE, answer["at"])
        if (event := found["event"]) is not None:
            self.hops.setdefault(SEEN, _seconds(event["time"]))
            self.notes[SEEN] = "by the host's clock"
        if (detection := found["detection"]) is not None:
            self.hops.setdefault(JUDGED, _seconds(detection["stored_at"]))
            self.notes[JUDGED] = detection["severity"]
            if detection["silenced_by"]:
                self.problem = f"exception {detection['silenced_by']} covers the rule of test alerts: no output is told"
        for output in found["outputs"]:
            name = DELIVERED + output["output"]
            if output["outcome"] == "delivered":
                self.hops.setdefault(name, output["at"])
            elif output["outcome"] == "set_aside":
                self.problem = f"the receiver of output {output['output']} refuses it: {output['problem']}"
            self.notes[name] = output["problem"]
        self._look_whether_stuck()

    def _look_whether_stuck(self) -> None:
        rest = [DELIVERED + name for name in self.outputs if DELIVERED + name not in self.hops]
        if not rest or not all(self.notes.get(name) for name in rest):
            self.stuck_since = None
            return
        self.stuck_since = self.stuck_since or time.monotonic()
        if time.monotonic() - self.stuck_since > STUCK_S:
            self.problem = self.notes[rest[0]]

    @property
    def done(self) -> bool:
        """Whether the detection was made, and each output delivered it."""
        return JUDGED in self.hops and all(DELIVERED + name in self.hops for name in self.outputs)

    def missing(self, version: str) -> tuple[str, str]:
        """The hop that did not come, and where to look."""
        host = self.host
        if SEEN not in self.hops and JUDGED not in self.hops:
            if DONE not in self.hops:
                return DONE, (
                    f"it does not answer. Its version is {version or 'unknown'}; one older than test alerts ignores them. "
                    f"Else it hangs, or its connection does: 'journalctl -u modelward-agent' on {host} says more")
            return SEEN, (
                f"the agent started the program, but no event of it arrived. 'modelward hosts --host {host}' says what "
                f"is lost and how each effect is watched; 'modelward-agent check' on {host} proves each hook")
        if JUDGED not in self.hops:
            return JUDGED, "the event is stored, and rule test_alert did not match: the page lists rules that are broken"
        name = next(name for name in self.outputs if DELIVERED + name not in self.hops)
        waits = "the receiver has not taken it yet; 'modelward outputs' says more"
        return DELIVERED + name, self.notes.get(DELIVERED + name) or waits


def run(client: Client, host: str, timeout_s: float, *, as_json: bool) -> int:
    """Start a test and follow it. Returns 0 when it came through.

    Raises:
        CollectorError: it could not be started, or the collector went away.
    """
    shown = console()
    started = client.begin_test_alert(host)
    progress = Progress(host, started["id"], started["outputs"], {SENT: min(one["at"] for one in started["sent"])})
    version = str(started["sent"][0]["agent_version"])
    until = time.monotonic() + timeout_s
    told: set[str] = set()
    while True:
        if not as_json:
            _tell(progress, told, shown)
        if progress.done or progress.problem or time.monotonic() > until:
            break
        time.sleep(LOOK_S)
        progress.take(client.test_alert(host, progress.id))
    failed, reason = ("", "") if progress.done else progress.missing(version)
    reason = progress.problem or reason
    if as_json:
        print(json.dumps({"host": host, "id": progress.id, "ok": not reason, "failed": failed, "reason": reason, "hops": [
            {"hop": name, "at": at} for name, at in progress.hops.items()]}))
    elif reason:
        shown.print(Text(f"✗ {safe(failed)}: ", "bold red").append(safe(reason), ""))
    elif not progress.outputs:
        shown.print("No output is set: the detection is on the page and in 'modelward detections', and nobody is told. "
                    "See --webhook-url of 'modelward-collector run'.")
    return 1 if reason else 0


def _tell(progress: Progress, told: set[str], shown: Console) -> None:
    begin = progress.hops[SENT]
    for name, at in progress.hops.items():
        if name not in told:
            told.add(name)
            line = Text("✔ ", "green").append(f"{safe(name):32}").append(f" {_clock(at)}", "dim")
            if name != SENT:
                line.append(f"  {at - begin:+.2f} s")
            if note := progress.notes.get(name):
                line.append(f"  {safe(note)}", "dim")
            shown.print(line)


def _clock(at: float) -> str:
    return time.strftime("%H:%M:%S", time.gmtime(at)) + f".{int(at * 1000) % 1000:03d}"


def _seconds(text: str) -> float:
    """Of RFC 3339 in UTC with nanoseconds."""
    return datetime.fromisoformat(text[:26].rstrip("Z") + "+00:00").timestamp()
