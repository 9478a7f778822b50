"""One server of ``make phases``, from its model files to its end, under a real agent and collector."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from modelward_agent.sensor import pins

from deploy.demo.processes import DemoError, Processes, free_port
from tests.phases.environments import python_of
from tests.phases.server import Server
from tests.phases.stored import Stored, stored_of
from tests.stack import Whole

APPS = Path(__file__).parent / "apps"
TRUTH = Path(__file__).parent / "truth.py"
_ROOT = Path(__file__).parents[2]
_EVERY_S = 0.05


class Run:
    """What a story can do with its server."""

    def __init__(self, whole: Whole, server: Server, folder: Path) -> None:
        self.whole, self.server, self.folder = whole, server, folder
        self.python = python_of(server.requires)
        self.port = free_port()
        self.models, self.state, self.truth, self.client, self.programs = (
            folder / name for name in ("models", "state", "truth", "client", "srv"))
        for made in (self.models, self.state, self.truth, self.client, folder / "home"):
            made.mkdir(parents=True)
        shutil.copytree(APPS, self.programs, ignore=shutil.ignore_patterns("__*__*"))
        shutil.copy(TRUTH, self.programs)
        for name in ("asked", "answered"):
            (self.client / name).touch()
            os.utime(self.client / name, ns=(0, 0))
        self.digests: dict[str, set[str]] = {label: set() for label in server.models}
        self.statuses: Counter[int] = Counter()
        """Answers to health checks by status; 0: none."""
        self.process: subprocess.Popen[bytes] | None = None
        self.agent_started_ns = 0
        self._processes: Processes = whole.processes
        self._http = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=60.0, trust_env=False)
        # A connection each, so that every worker has its share of health checks.
        self._checks = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=5.0, trust_env=False,
                                    limits=httpx.Limits(max_keepalive_connections=0))
        self._asking = threading.Lock()
        self._ended = threading.Event()
        self._prober = threading.Thread(target=self._probe, daemon=True)

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def environment(self) -> dict[str, str]:
        bin_folder = self.python.parent
        return {
            "PATH": f"{bin_folder}:/usr/local/bin:/usr/bin:/bin", "HOME": str(self.folder / "home"), "LANG": "C.UTF-8",
            "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(self.programs),
            "MODELWARD_TRUTH": str(self.truth), "MODELWARD_CLIENT": str(self.client),
            **{name: self.filled(value) for name, value in self.server.variables.items()},
        }

    def filled(self, text: str) -> str:
        """``text`` with what stands in braces filled in."""
        places = {"python": self.python, "bin": self.python.parent, "port": self.port, "models": self.models, "state": self.state}
        for name, value in places.items():
            text = text.replace("{" + name + "}", str(value))
        return text

    def make(self, script: str, *arguments: str) -> None:
        """Run a script of the apps in the server's environment and the folder of models. Raises DemoError when it fails."""
        # Marks are made by servers alone.
        environment = {name: value for name, value in self.environment.items() if name != "MODELWARD_TRUTH"}
        environment["PYTHONPATH"] = f"{self.programs}:{_ROOT}"
        done = subprocess.run([self.python, self.programs / script, *map(self.filled, arguments)], cwd=self.models,
                              env=environment, capture_output=True, text=True, timeout=600)
        if done.returncode:
            raise DemoError(f"{script} ended with status {done.returncode}:\n{done.stderr[-2000:]}")
        self.note_digests()

    def note_digests(self) -> None:
        """What the models' files hold now is a digest that they may be known by."""
        for label, model in self.server.models.items():
            path = self.models / model.path
            if model.digest is not None:
                self.digests[label] |= {model.digest} - {""}
            elif path.is_file():
                # Not read here: this process, and with it the server, would count as one that serves models.
                done = subprocess.run(["sha256sum", path], check=True, capture_output=True, text=True)
                self.digests[label].add(done.stdout.split()[0])

    def start(self) -> None:
        """Start the server; health checks begin with it."""
        argv = [self.filled(part) for part in self.server.argv]
        self.process = self._processes.start(f"phases-{self.server.name}", argv, env=self.environment, cwd=self.programs)
        self._prober.start()

    def ready(self, path: str = "") -> None:
        """Wait until the server answers well. Raises DemoError when it ended, or is not ready in time."""
        self.wait_for(lambda: self._status(path or self.server.health) < 400, "ready", self.server.patience_s)

    def wait_for(self, condition: Callable[[], bool], what: str, timeout_s: float = 30.0) -> None:
        """Wait until a condition holds. Raises DemoError with the server's last words when it ended before, or takes too long."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert self.process is not None
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise DemoError(f"{self.server.name} was not {what} in {timeout_s:.0f} s:\n"
                                + self._processes.last_words(self.process, 30))
            time.sleep(_EVERY_S)

    def get(self, path: str) -> Any:
        """The JSON of an answer. Raises DemoError when it is a refusal."""
        return self._request("GET", path, None)

    def post(self, path: str, body: Any) -> Any:
        """The JSON of an answer. Raises DemoError when it is a refusal."""
        return self._request("POST", path, body)

    def classify(self, times: int, path: str = "/predict", **more: Any) -> None:
        """Predictions of the iris classifier."""
        for _ in range(times):
            self.post(path, {"features": [5.1, 3.5, 1.4, 0.2], **more})

    def classify_when_ready(self, times: int) -> None:
        """Predictions, once the server says that it is ready, whichever path health checks ask."""
        self.wait_for(lambda: self._status("/health") < 400, "ready", self.server.patience_s)
        self.classify(times)

    def refused(self, path: str, body: Any) -> int:
        """The status of an answer that is to be a refusal."""
        return self._ask("POST", path, body).status_code

    def calm(self, seconds: float) -> None:
        """Nothing but health checks for a while."""
        time.sleep(seconds)

    def _request(self, method: str, path: str, body: Any) -> Any:
        answer = self._ask(method, path, body)
        if answer.status_code >= 400:
            assert self.process is not None
            raise DemoError(f"{path} was refused with {answer.status_code}: {answer.text[:500]}\n"
                            + self._processes.last_words(self.process, 30))
        with contextlib.suppress(ValueError):
            return answer.json()
        return answer.text

    def _ask(self, method: str, path: str, body: Any = None, client: httpx.Client | None = None) -> httpx.Response:
        """Ask, and leave in the times of two files what a server may know of its client (tests/phases/truth.py)."""
        asked = time.time_ns()
        with self._asking:
            os.utime(self.client / "asked", ns=(asked, asked))
        answer = (client or self._http).request(method, path, **({} if body is None else {"json": body}))
        if answer.status_code < 400:
            with self._asking:
                before = (self.client / "answered").stat()
                os.utime(self.client / "answered", ns=(max(asked, before.st_atime_ns), max(time.time_ns(), before.st_mtime_ns)))
        return answer

    def _status(self, path: str) -> int:
        try:
            return self._ask("GET", path, client=self._checks).status_code
        except httpx.HTTPError:
            return 999

    def _probe(self) -> None:
        while not self._ended.wait(_EVERY_S):
            status = self._status(self.server.health) if self.server.health else 999
            self.statuses[0 if status == 999 else status] += 1

    def quiet(self) -> None:
        """No health checks from now on."""
        self._ended.set()
        if self._prober.is_alive() and threading.current_thread() is not self._prober:
            self._prober.join()

    def stop(self) -> None:
        """End the server as its description says, and whatever it left."""
        self.quiet()
        if self.process is None:
            return
        if self.server.stop is not None and self.process.poll() is None:
            (self.client / "ending").touch()
            self.process.send_signal(self.server.stop)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(30)
        self._processes.stop(self.process)

    def close(self) -> None:
        self.stop()
        self._http.close()
        self._checks.close()


@contextmanager
def _late_agent(whole: Whole, server: Server) -> Iterator[None]:
    if server.agent_late:
        whole.stack.stop_agent()
        # Nothing of the agent is in the kernel while the server starts.
        pins.remove(pins.folder_of(whole.folder / "agent"))
    try:
        yield
    finally:
        if whole.stack.agent is None:
            whole.stack.start_agent()


def run_server(whole: Whole, server: Server) -> Stored:
    """Make the models, run the story, stop the server, and give what is stored of it.

    Raises:
        DemoError: something that the story needs did not happen.
    """
    folder = whole.folder / "phases" / server.name
    run = Run(whole, server, folder)
    try:
        if server.make:
            run.make(*server.make)
        with _late_agent(whole, server):
            run.start()
            server.story(run)
            if server.agent_late:
                run.agent_started_ns = time.time_ns()
                whole.stack.start_agent()
                server.later(run)
        run.stop()
        return stored_of(run)
    finally:
        run.close()
