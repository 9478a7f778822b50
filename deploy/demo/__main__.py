"""``python -m deploy.demo``: real model servers, real attacks, this machine only.

Exit status 0 when exactly what was expected was detected.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from types import FrameType

import httpx

from deploy.demo.place import Place
from deploy.demo.processes import DemoError, Processes
from deploy.demo.report import Report
from deploy.demo.screen import Screen
from deploy.demo.stack import Stack
from deploy.demo.story import Story
from deploy.demo.torch_install import ensure_torch
from deploy.demo.verdicts import Verdicts
from deploy.demo.watch import Watch

_CONSOLE_PORT = 4461
"""Where a collector's console is unless something else is there, so that ``modelward`` finds it without being told."""

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m deploy.demo", description=__doc__)
    parser.add_argument(
        "--framework",
        choices=("sklearn", "torch"),
        default="sklearn",
        help="what loads the poisoned checkpoint",
    )
    parser.add_argument("--keep", action="store_true", help="leave the console and the healthy servers running until Ctrl-C")
    parser.add_argument("--no-color", action="store_true", help="plain text")
    options = parser.parse_args()
    screen = Screen(color=False if options.no_color else None)
    if os.geteuid() != 0:
        print("The demo loads programs into the kernel and must be started by root.", file=sys.stderr)
        return 1
    for number in _ENDING:
        signal.signal(number, _interrupt)
    try:
        status = _run(screen, options.framework, options.keep)
    except KeyboardInterrupt:
        status = 130
    except (DemoError, httpx.HTTPError) as e:
        screen.failed(f"The demo could not go on: {e}")
        return 1
    if options.keep or status == 130:
        screen.end()
        screen.say("stopped", "All programs of the demo have ended, and its folder is gone.")
    return status


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _run(screen: Screen, framework: str, keep: bool) -> int:
    screen.title(
        "Modelward: what does a model do to the host that serves it?",
        "Real model servers, real attacks, real detections. All of it happens on this machine, in a folder "
        "that is removed at the end.",
    )
    if framework == "torch":
        ensure_torch(screen)
    with ExitStack() as opened:
        folder = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="modelward-demo-", ignore_cleanup_errors=True)))
        try:
            return _tell(screen, folder, opened, framework, keep)
        finally:
            for number in _ENDING:
                signal.signal(number, signal.SIG_IGN)  # cleaning up takes a few seconds, and is not to be cut short


def _tell(screen: Screen, folder: Path, opened: ExitStack, framework: str, keep: bool) -> int:
    started = time.monotonic()
    processes = Processes(folder / "logs")
    opened.callback(processes.close)
    stack = Stack(processes, folder, http_port=_CONSOLE_PORT)
    opened.callback(stack.close)
    _start(screen, stack)
    watch = Watch(stack.console.url, folder)
    opened.callback(watch.close)
    report = Report("demo")
    verdicts = Verdicts(screen, watch, report)
    story = Story(screen, Place(processes, folder), verdicts)
    story.tell(framework)
    if not keep:
        story.stop_serving()
    _sum_up(screen, stack, verdicts, report, started)
    _look_further(screen, stack.console.url, keep)
    if keep:
        with suppress(KeyboardInterrupt):
            threading.Event().wait()
    return 0 if verdicts.good else 1


def _start(screen: Screen, stack: Stack) -> None:
    screen.chapter(None, "Modelward starts")
    with screen.step("collector", "receives, judges and stores"):
        stack.start_collector()
    with screen.step("agent", "watches this host") as more:
        stack.start_agent()
        doors = (stack.host() or {})["doors"]
        more.append(f"through {len(doors)} hooks in the kernel")
    screen.say("console", f"{stack.console.url}/  (to look at while the demo runs)")


def _sum_up(screen: Screen, stack: Stack, verdicts: Verdicts, report: Report, started: float) -> None:
    screen.chapter(None, "In the end")
    verdicts.nothing_else()
    events = stack.console.query("SELECT sum(count) AS effects, count() AS rows FROM events")[0]
    effects, rows = int(events["effects"]), int(events["rows"])
    taken = time.monotonic() - started
    report.add("effects recorded", effects, "count", "> 0", effects > 0)
    report.add("duration", round(taken, 1), "s", "< 180", taken < 180)
    screen.say("recorded", f"{effects:,} effects of model servers on this host, in {rows:,} rows")
    screen.say("detected", verdicts.score())
    screen.say("took", f"{taken:.0f} s")
    screen.say("report", os.path.relpath(report.write()))
    words = "All that was expected was detected, and nothing else." if verdicts.good else "Not as expected: see above."
    screen.verdict("verdict", verdicts.good, words)


def _look_further(screen: Screen, url: str, keep: bool) -> None:
    screen.chapter(None, "How to look further")
    if keep:
        command = ".venv/bin/modelward" + ("" if url.endswith(f":{_CONSOLE_PORT}") else f" --url {url}")
        screen.say("console", f"{url}/", "link")
        screen.lines("commands", [f"{command} {part}" for part in ("detections", "incidents", "models", "hosts", "events")])
        screen.say("running", "The console and the healthy servers run on until Ctrl-C.")
    else:
        screen.say("console", "It ended with the demo. 'make demo KEEP=1' leaves it running, with commands to try.")
    screen.end()


if __name__ == "__main__":
    sys.exit(main())
