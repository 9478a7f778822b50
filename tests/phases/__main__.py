"""``make phases``: real servers with real models; is each event tagged with the right phase, model and origin?

As root. ``python -m tests.phases [--only NAME,...] [--short] [--list] [--keep]``; writes build/reports/phases.json, and exits
with a status other than zero when a goal is missed or a server could not run.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
import traceback
from pathlib import Path

from deploy.demo.processes import DemoError
from tests.phases import report
from tests.phases.environments import NoEnvironment, python_of
from tests.phases.keeping import keep
from tests.phases.run import run_server
from tests.phases.score import Score, score
from tests.phases.server import Server
from tests.phases.servers import all_servers
from tests.stack import running


def _chosen(only: str, short: bool) -> list[Server]:
    servers = [server for server in all_servers() if server.short or not short]
    words = [word.strip() for word in only.split(",") if word.strip()]
    return [server for server in servers if not words or any(word in server.name for word in words)]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.phases", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default="", help="only servers whose name holds one of these words, joined by commas")
    parser.add_argument("--short", action="store_true", help="only those that make test runs")
    parser.add_argument("--list", action="store_true", help="say which servers there are, and run none")
    parser.add_argument("--keep", action="store_true", help="keep marks, logs and stored rows")
    given = parser.parse_args()
    servers = _chosen(given.only, given.short)
    if given.list:
        for server in servers:
            print(f"{server.name:34} {', '.join(server.requires) or '.venv'}{'  (make test)' if server.short else ''}")
        return 0
    if not servers:
        parser.error(f"no server's name holds any of: {given.only}; --list says which there are")
    if os.geteuid() != 0:
        print("make phases runs an agent that attaches to the kernel: run it as root", file=sys.stderr)
        return 1
    done, not_run = measure(servers, keep_all=given.keep)
    return report.show(done, not_run, whole=len(servers) == len(all_servers()))


def measure(servers: list[Server], *, keep_all: bool = False) -> tuple[list[Score], dict[str, str]]:
    """The scores of servers, and why others were not run."""
    not_run: dict[str, str] = {}
    ready: list[Server] = []
    for server in servers:
        try:
            python_of(server.requires)
            ready.append(server)
        except NoEnvironment as e:
            not_run[server.name] = str(e)
            print(f"{server.name}: not run: {e}", flush=True)
    done: list[Score] = []
    kept = Path(tempfile.mkdtemp(prefix="modelward-phases-")) if keep_all else None
    with running() as whole:
        for server in ready:
            print(f"{server.name} ...", flush=True)
            begun = time.monotonic()
            try:
                stored = run_server(whole, server)
            except DemoError as e:
                not_run[server.name] = str(e)
                print(f"  not run to its end: {e}", flush=True)
                continue
            except Exception as e:
                traceback.print_exc()
                not_run[server.name] = f"{type(e).__name__}: {e}"
                continue
            result = score(stored)
            result.seconds = time.monotonic() - begun
            report.say(result)
            done.append(result)
            if kept:
                keep(stored, result, kept)
        if kept:
            shutil.copytree(whole.folder / "logs", kept / "logs")
            print(f"kept: {kept}")
    return done, not_run


if __name__ == "__main__":
    raise SystemExit(main())
