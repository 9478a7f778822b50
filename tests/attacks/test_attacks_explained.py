"""Real attacks, explained by the command: the evidence of one detection from the kernel's hook to the screen."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from deploy.demo import models
from deploy.demo.client import Callee
from deploy.demo.expect import PYTHON, SHELL, Expected
from tests.stack import Whole

pytestmark = [pytest.mark.kernel, pytest.mark.attack]


def explanation(whole: Whole, pid: int, rule: str) -> str:
    """What ``modelward explain`` says of the first detection of a rule in a workload, in one line, spaces made one."""
    detection = next(found for found in whole.watch.of(pid) if found.rule == rule)
    env = {k: v for k, v in os.environ.items() if not k.startswith("MODELWARD_")} | {"COLUMNS": "400"}
    done = subprocess.run(
        [sys.executable, "-m", "modelward_collector.operator.cli", "--url", whole.console.url, "explain", detection.id[:12]],
        capture_output=True, text=True, env=env, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return " ".join(done.stdout.split())


def test_a_shell_of_a_load_is_explained_with_every_step_observed(whole: Whole) -> None:
    callee = Callee("id -un\nexit\n")
    path = whole.place.models / "wryneck.joblib"
    models.write_poisoned(path, models.reverse_shell(callee.port))
    server = whole.place.uvicorn("sklearn_app", path).wait()
    server.client.classify(6)
    callee.wait()
    callee.close()
    whole.detects(
        server,
        Expected("shell_in_load", ("load",), (PYTHON, SHELL), server.model),
        Expected("reverse_shell", ("load",), (PYTHON, SHELL, "bash"), server.model),
    )
    text = explanation(whole, server.pid, "shell_in_load")
    for words in (
        "a shell: ", "at the hook 'tp_btf/sched_process_exec'", "The program was not asked",
        "wrote it to its disk", "received it and held it against its rules: 'shell_in_load' matched", "stored the event and this",
        "The server was loading a model", "The kernel reported each step as it happened",
        f"from start to load: it opened a model file, {path}", "It happened inside the load of wryneck",
        "A file can have any name; the digest is what was really loaded", "process.executable.class shell",
        f"process {server.pid}", "(the server)", "✔ phase", "✔ model", "✔ processes", "✔ events",
    ):
        assert words in text, words


def test_what_a_load_planted_is_explained_by_its_origin(whole: Whole) -> None:
    path, sign = whole.place.models / "nightjar.joblib", whole.place.home / ".nightjar"
    models.write_poisoned(path, models.sleeper(sign, "id -un"))
    server = whole.place.uvicorn("sklearn_app", path).wait()
    server.client.classify(30)
    sign.touch()
    whole.watch.wait(server.pid, [Expected("shell_in_load", ("serve",), (PYTHON, SHELL), server.model, by_origin=True)])
    server.stop()
    text = explanation(whole, server.pid, "shell_in_load")
    for words in (
        "The server was answering requests", "Yes, by its origin. The process came out of the load of nightjar as a copy of it",
        "an answer went out over the network", "a copy of its parent (fork)", "lifecycle.origin.scope open",
    ):
        assert words in text, words
