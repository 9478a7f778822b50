"""A whole installation for one fault: collector and agent as units, and programs that provoke a known number of events."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import grpc
import httpx

from tests.faults.disks import small_disk
from tests.faults.units import Unit, wait_for
from tests.running import select

BIN = Path(sys.executable).parent
PROGRAM = Path(__file__).parent / "programs" / "provoke.py"
BPFFS = Path("/sys/fs/bpf")
RULE = """\
title: A canary file was opened
id: 11111111-2222-4333-8444-666666666666
status: stable
description: Made by the fault tests, to count detections.
author: Modelward
date: 2026-11-25
logsource: {product: modelward, category: file_open}
detection:
  canary:
    file.path|contains: /faults-canary-
  condition: canary
level: low
tags: [attack.t1059, atlas.aml.t0011]
modelward:
  reason: It is a canary.
  next: Look.
  sentence: "{process.executable.path} opened {file.path}"
  tests:
    match:
      - {event.name: file_open, file.path: /srv/faults-canary-1}
    no_match:
      - {event.name: file_open, file.path: /srv/other}
"""
CANARY = "test_canary"
MOST_STARTS = 5
"""A daemon that ended so often before it worked will not."""


class Provoker:
    """A tracked program that does what it is asked, and counts it: the ground truth."""

    def __init__(self, site: Site, name: str) -> None:
        self.folder = site.opened / name
        self.folder.mkdir()
        artifact = self.folder / "model.gguf"
        artifact.write_bytes(b"GGUF")
        self._process = subprocess.Popen(
            [sys.executable, str(PROGRAM), str(artifact), str(self.folder / "opens"), str(site.sink)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.opens = f"{self.folder / 'opens'}/"
        self.done: dict[str, int] = {}

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, seconds: float = 0.0, **wanted: int) -> None:
        """Begin with a request; :meth:`wait` for its end before the next."""
        assert self._process.stdin is not None
        print(json.dumps({k: n for k, n in wanted.items() if n} | {"seconds": seconds}), file=self._process.stdin, flush=True)

    def wait(self) -> dict[str, int]:
        """What was done so far, over all requests.

        Raises:
            RuntimeError: the program failed; nothing can be said of this run.
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the provoking program ended with {self._process.wait()}")
        self.done = json.loads(line)
        return self.done

    def do(self, seconds: float = 0.0, **wanted: int) -> dict[str, int]:
        """Ask and wait."""
        self.ask(seconds, **wanted)
        return self.wait()

    def expected(self) -> dict[str, int]:
        """Events by name that the kernel must have seen of this program and its children, among :func:`truth.observed`."""
        done = self.done
        return {
            "file_open": done["distinct"] + done["same"] + done["canaries"],
            "exec": done["execs"], "fork": done["execs"], "connect": done["connects"],
        }

    def close(self) -> None:
        """End it, and remove what it opened."""
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()  # type: ignore[union-attr]
        self._process.wait(60)
        self._process.stdout.close()  # type: ignore[union-attr]
        shutil.rmtree(self.folder, ignore_errors=True)


class Site:
    """One collector, one agent. Folders may be given, to lie on disks of their own."""

    def __init__(self, folder: Path, *, data: Path | None = None, state: Path | None = None) -> None:
        self.folder = folder
        self.data = data or folder / "data"
        self.state = state or folder / "state"
        self.pins = BPFFS / f"modelward-faults-{os.getpid()}-{folder.name[-8:]}"
        self.listen, self.http = (f"127.0.0.1:{_port()}" for _ in range(2))
        self.target = self.listen
        """Where the agent finds the collector: a proxy may stand between them."""
        self.collector_flags: list[str] = []
        self.agent_flags = ["--crash-limit", "0"]
        self.environment: dict[str, str] = {}
        self.sink = _sink()
        (folder / "rules").mkdir()
        (folder / "rules" / "test_canary.yml").write_text(RULE)
        self.collector: Unit | None = None
        self.agent: Unit | None = None
        self._stack = ExitStack()
        # Making 200,000 files takes a minute and a half on this project's disks.
        self.opened = self._stack.enter_context(small_disk(folder / "opened", 64))
        self.provokers: list[Provoker] = []
        """All that ever ran here."""

    def start_collector(self, environment: Mapping[str, str] | None = None) -> Unit:
        """Start it and wait until it serves."""
        self.collector = Unit(
            [str(BIN / "modelward-collector"), "run", "--data", str(self.data), "--listen", self.listen, "--http", self.http,
             "--rules", str(self.folder / "rules"), *self.collector_flags],
            self.folder / "collector.log", self.environment | dict(environment or {}))
        self._stack.callback(self.collector.stop)
        self.collector.start()
        self._wait(self.collector, self.healthy, "the collector serves")
        return self.collector

    def start_agent(self, environment: Mapping[str, str] | None = None, *, connected: bool = True) -> Unit:
        """Start it and wait until its hooks are in place, and its stream is open."""
        self.agent = Unit(
            [str(BIN / "modelward-agent"), "run", "--collector", self.target, "--state", str(self.state), "--keep-hooks",
             "--pins", str(self.pins), "--log-format", "text", *self.agent_flags],
            self.folder / "agent.log", self.environment | dict(environment or {}))
        self._stack.callback(self.agent.stop)
        self.agent.start()
        if connected:
            self._wait(self.agent, lambda: self.select("SELECT 1 FROM hosts_raw FINAL WHERE connected AND notEmpty(doors)"),
                       "the agent's stream is open")
        return self.agent

    def provoker(self) -> Provoker:
        """A new provoking program, tracked, that has done nothing yet."""
        made = Provoker(self, f"provoker-{len(self.provokers) + 1}")
        self.provokers.append(made)
        self._stack.callback(made.close)
        made.do()
        return made

    @property
    def canaries(self) -> int:
        """Opens so far that the rule of this site knows."""
        return sum(provoker.done["canaries"] for provoker in self.provokers)

    def healthy(self) -> bool:
        """Whether the collector says that its store and receivers are there."""
        try:
            return httpx.get(f"http://{self.http}/healthz", trust_env=False, timeout=5).status_code == 200
        except httpx.HTTPError:
            return False

    def select(self, sql: str, **parameters: object) -> list[dict[str, Any]]:
        """Rows of a query on the store; asked again while the store is away."""
        for left in range(60, -1, -1):
            try:
                return select(self.data, sql, **parameters)
            except grpc.RpcError:
                if not left:
                    raise
                time.sleep(0.5)
        return []

    def one(self, sql: str, **parameters: object) -> dict[str, Any]:
        """The only row of a query."""
        [row] = self.select(sql, **parameters)
        return row

    def close(self) -> None:
        """Stop all, the last started first; no pin is left."""
        self._stack.close()
        shutil.rmtree(self.pins, ignore_errors=True)

    def _wait(self, unit: Unit, check: Any, what: str) -> None:
        def ready() -> object:
            if unit.starts > MOST_STARTS:
                raise TimeoutError(f"it never came that {what}")
            return check()

        try:
            wait_for(ready, 90, f"that {what}")
        except TimeoutError as e:
            raise TimeoutError(f"{e}; it was started {unit.starts} times and last said:\n{unit.words()}") from e


@contextmanager
def site(**folders: Path) -> Iterator[Site]:
    """A site in a new folder, with nothing started yet."""
    with tempfile.TemporaryDirectory(prefix="modelward-faults-") as name:
        made = Site(Path(name), **folders)
        try:
            yield made
        finally:
            made.close()


def _port() -> int:
    """A free port that the kernel gives nobody by itself: a daemon that is started again must find it free again."""
    first_given = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.randrange(max(1024, first_given // 2), first_given)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def _sink() -> int:
    """A port of the loopback address where connections are taken and forgotten."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)

    def serve() -> None:
        while True:
            listener.accept()[0].close()

    threading.Thread(target=serve, daemon=True).start()
    return int(listener.getsockname()[1])
