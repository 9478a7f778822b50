"""Attackers who know how models and loads are recognised: each way round that is really gone by a real server."""

from __future__ import annotations

import base64
import json
import os
import time
from pathlib import Path

import pytest

from deploy.demo import models
from deploy.demo.expect import PYTHON, SHELL, Expected
from deploy.demo.place import ModelServer
from tests.stack import Whole

pytestmark = [pytest.mark.kernel, pytest.mark.attack]

_ACT = models.Call(os.system, "id >/dev/null")


def _loaded(whole: Whole, way: str, path: Path, *calls: models.Call) -> ModelServer:
    """A server that loads a poisoned checkpoint in some way before it answers for the first time."""
    models.write_poisoned(path, *(calls or (_ACT,)))
    server = whole.place.uvicorn("evading_app", path, WAY=way).wait()
    server.client.health()
    return server


def _shell_in_load(server: ModelServer, *, model: str | None = None) -> Expected:
    return Expected("shell_in_load", ("load",), (PYTHON, SHELL), server.model if model is None else model)


@pytest.mark.parametrize("way", ["plainly", "by_hard_link", "by_descriptor", "renamed_meanwhile"])
def test_checkpoint_under_a_name_that_says_nothing_is_a_load(whole: Whole, way: str) -> None:
    server = _loaded(whole, way, whole.place.models / f"ruff-{way}.dat")
    whole.detects(server, _shell_in_load(server))


def test_checkpoint_that_is_unpacked_into_memory_is_a_load(whole: Whole) -> None:
    packed = whole.place.models / "knot.txt"
    checkpoint = packed.with_suffix(".packing")
    models.write_poisoned(checkpoint, _ACT)
    packed.write_bytes(base64.b64encode(checkpoint.read_bytes()))
    checkpoint.unlink()
    server = whole.place.uvicorn("evading_app", packed, WAY="from_memory").wait()
    server.client.health()
    whole.detects(server, _shell_in_load(server, model="memfd:cache"))


def test_load_in_a_grandchild_that_left_its_session_belongs_to_the_server(whole: Whole) -> None:
    server = _loaded(whole, "in_a_grandchild", whole.place.models / "dunlin.joblib")
    whole.detects(server, _shell_in_load(server))


def test_load_behind_more_loads_than_there_is_room_for_is_judged_as_one(whole: Whole) -> None:
    server = _loaded(whole, "behind_many", whole.place.models / "sanderling.joblib")
    server.stop()
    whole.watch.settle()
    rules = {found.rule for found in whole.watch.of(server.pid)}
    assert rules & {"shell_in_load", "exec_in_serve"}, f"the shell of the load was not detected: {rules}"
    assert "telling_events_lost" in {found.rule for found in whole.watch.all()}, "the ledger does not say that there was no room"


def test_load_after_a_decoy_is_a_load_of_its_own(whole: Whole) -> None:
    server = _loaded(whole, "after_a_decoy", whole.place.models / "turnstone.joblib")
    whole.detects(server, _shell_in_load(server))


def test_load_that_waits_until_its_file_is_closed_and_quiet_is_still_a_load(whole: Whole) -> None:
    server = _loaded(whole, "later", whole.place.models / "whimbrel.joblib")
    whole.detects(server, _shell_in_load(server))


def test_thread_that_a_load_leaves_behind_is_tied_to_it(whole: Whole) -> None:
    sign, done = whole.place.home / ".tick", whole.place.home / ".tock"
    waiting = f"""
import os, time
while not os.path.exists({str(sign)!r}):
    time.sleep(0.1)
os.system("id >{done}")
"""
    code = f"import threading; threading.Thread(target=exec, args=({waiting!r},), daemon=True).start()"
    server = _loaded(whole, "plainly", whole.place.models / "redshank.joblib", models.Call(exec, code))
    server.client.classify(30)
    sign.touch()
    end = time.monotonic() + 60
    while not done.exists() and time.monotonic() < end:
        server.client.classify(1)
    whole.detects(server, Expected("shell_in_load", ("serve",), (PYTHON, SHELL), server.model, by_origin=True))
    sign.unlink()


def test_names_that_a_load_gives_its_shell_hide_nothing(whole: Whole) -> None:
    code = """
import ctypes, os
ctypes.CDLL(None).prctl(15, b"llama-server", 0, 0, 0)
pid = os.fork()
if pid == 0:
    os.execv("/bin/sh", ["llama-server", "-c", "id >/dev/null"])
os.waitpid(pid, 0)
"""
    server = _loaded(whole, "plainly", whole.place.models / "greenshank.joblib", models.Call(exec, code))
    whole.detects(server, _shell_in_load(server))


def _taken_over(whole: Whole, name: str, code: str) -> ModelServer:
    """A server with a clean model that answers, and is then made to run ``code`` in the thread of a request."""
    path = whole.place.models / f"{name}.joblib"
    models.write_classifier(path)
    server = whole.place.uvicorn("flawed_app", path).wait()
    for _ in range(20):
        server.client.report("Report")
    server.client.report("{{ cycler.__init__.__globals__.__builtins__.exec(" + json.dumps(code) + ") }}")
    return server


def test_decoy_opened_in_serve_makes_nothing_allowed(whole: Whole) -> None:
    decoy = whole.place.models / "avocet.gguf"
    decoy.write_bytes(b"GGUF")
    server = _taken_over(whole, "lapwing", f"import os; open({str(decoy)!r}, 'rb').read(); os.system('id >/dev/null')")
    whole.detects(server, Expected("shell_in_load", ("load",), (PYTHON, SHELL), "avocet"))


def test_server_that_tells_itself_to_stop_is_allowed_no_more(whole: Whole) -> None:
    code = "import os, signal, time; os.kill(os.getpid(), signal.SIGTERM); time.sleep(0.3); os.system('id >/dev/null')"
    server = _taken_over(whole, "curlew", code)
    whole.detects(server, Expected("exec_in_serve", ("stop",), (PYTHON, SHELL), server.model))


def test_process_that_connects_to_a_server_stays_out_of_its_workload(whole: Whole) -> None:
    path = whole.place.models / "snipe.joblib"
    models.write_classifier(path)
    server = whole.place.uvicorn("sklearn_app", path).wait()
    server.client.classify(20)  # from this process, which starts a shell now
    assert os.system("id >/dev/null") == 0
    whole.detects(server)
