"""A collector and an agent on this machine, started as an operator would, on free ports and in a given
folder.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
from modelward_agent.sensor import pins

from deploy.demo.console import Console
from deploy.demo.processes import DemoError, Processes, free_port

_BIN = Path(sys.executable).parent
_FAREWELL_S = 10.0


class Stack:
    """``modelward-collector run`` and ``modelward-agent run`` from this interpreter's environment."""

    def __init__(self, processes: Processes, folder: Path, *, rules: Sequence[Path] = (), http_port: int = 0) -> None:
        self._processes = processes
        self._data, self._state = folder / "collector", folder / "agent"
        self.hint_socket = folder / "hint.sock"
        self._rules = rules
        self._listen, self._http = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port(http_port)}"
        self.collector: subprocess.Popen[bytes] | None = None
        self.agent: subprocess.Popen[bytes] | None = None
        self.console = Console(f"http://{self._http}")

    def start(self) -> None:
        """Start both and wait until the agent's hooks are in place and its stream is open."""
        self.start_collector()
        self.start_agent()

    def start_collector(self, timeout_s: float = 60.0) -> None:
        """Start the collector and wait until its store and receivers work.

        Raises:
            DemoError: it ended, or was not ready in time.
        """
        rules = [part for folder in self._rules for part in ("--rules", folder)]
        self.collector = self._processes.start(
            "collector",
            [
                _BIN / "modelward-collector",
                "run",
                "--data",
                self._data,
                "--listen",
                self._listen,
                "--http",
                self._http,
                *rules,
            ],
        )
        self._wait("the collector", self.collector, self.console.healthy, timeout_s)

    def start_agent(self, *options: str, timeout_s: float = 60.0) -> None:
        """Start the agent and wait until the collector has heard which hooks it holds.

        Raises:
            DemoError: it ended, or was not ready in time.
        """
        self.agent = self._processes.start(
            "agent",
            [_BIN / "modelward-agent", "run", "--collector", self._listen, "--state", self._state,
             "--hint-socket", self.hint_socket, *options],
        )
        self._wait("the agent", self.agent, lambda: bool(self.host()), timeout_s)

    def stop_collector(self) -> int:
        """Stop the collector by SIGTERM; gives its exit status."""
        if self.collector is None:
            return 0
        process, self.collector = self.collector, None
        return self._processes.stop(process)

    def stop_agent(self) -> int:
        """Stop the agent by SIGTERM, and wait until the collector knows that it is gone; gives its exit status."""
        if self.agent is None:
            return 0
        process, self.agent = self.agent, None
        status = self._processes.stop(process)
        # Or the next agent would be taken to be ready by what was heard of this one.
        deadline = time.monotonic() + _FAREWELL_S
        while self.host() is not None and time.monotonic() < deadline:
            time.sleep(0.1)
        return status

    def host(self) -> dict[str, Any] | None:
        """This host as the collector knows it, once its agent is connected and its hooks are in place."""
        try:
            rows = self.console.get("hosts")
        except (httpx.HTTPError, ValueError):
            return None
        return next((row for row in rows if row["connected"] and row["doors"]), None)

    def close(self) -> None:
        """Stop both, the agent first, so that what it holds is still stored."""
        self.stop_agent()
        # An agent that had to be killed left its hooks in the kernel.
        pins.remove(pins.folder_of(self._state))
        self.stop_collector()
        self.console.close()

    def _wait(self, what: str, process: subprocess.Popen[bytes], ready: Callable[[], bool], timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while not ready():
            words = self._processes.last_words(process)
            if process.poll() is not None:
                raise DemoError(f"{what} ended with status {process.returncode}:\n{words}")
            if time.monotonic() > deadline:
                raise DemoError(f"{what} was not ready within {timeout_s:.0f} s:\n{words}")
            time.sleep(0.1)
