"""Loads that are cut off or fail, and where tasks come from that a load made while its file was open."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest
from modelward_agent.sensor.constants import Outcome, Phase, Scope, Trigger, Via

from .conftest import Event, Host, answering, of

pytestmark = pytest.mark.kernel

_PRELUDE = """
import os, signal, subprocess, sys, threading, time
artifact = sys.argv[1]

def idle():
    threading.Thread(target=time.sleep, args=(30,), daemon=True).start()

def load():
    os.close(os.open(artifact, os.O_RDONLY))

def load_aside():
    begun = threading.Event()
    def loader():
        os.open(artifact, os.O_RDONLY)
        begun.set()
        time.sleep(30)
    threading.Thread(target=loader, daemon=True).start()
    begun.wait()

def quiet():
    time.sleep(0.6)
"""


def _ended(host: Host, artifact: Path, body: str, *, status: int | None = 0) -> list[Event]:
    """Transitions with which the load of a program ends; with ``status`` None it is told to end by SIGTERM."""
    process = host.start(_PRELUDE + body, str(artifact), stdout=subprocess.PIPE)
    if status is None:
        assert process.stdout
        process.stdout.readline()
        process.send_signal(signal.SIGTERM)
    assert host.finish(process) == (-signal.SIGTERM if status is None else status)
    events = host.events(process.pid)
    [begun] = of(events, "lifecycle", trigger=Trigger.ARTIFACT_OPEN)
    return [e for e in of(events, "lifecycle", instance=begun.instance, from_phase=Phase.LOAD)
            if e.trigger in (Trigger.EXIT, Trigger.SIGNAL) and e.scope == Scope.NONE]


def test_a_signal_cuts_off_a_quiet_load_whose_file_is_open(host: Host, artifact: Path) -> None:
    body = """
signal.signal(signal.SIGTERM, lambda *_: None)
load_aside(); quiet()
os.kill(os.getpid(), signal.SIGTERM)
"""
    assert [(e.trigger, e.outcome) for e in _ended(host, artifact, body)] == [(Trigger.SIGNAL, Outcome.FAILURE)]


def test_a_signal_that_ends_the_process_cuts_off_a_quiet_load_whose_file_is_open(host: Host, artifact: Path) -> None:
    body = "load_aside(); quiet(); print(flush=True); time.sleep(30)"
    assert [(e.trigger, e.outcome) for e in _ended(host, artifact, body, status=None)] == [(Trigger.EXIT, Outcome.FAILURE)]


@pytest.mark.parametrize("threads", ["", "idle(); idle(); "], ids=["one thread", "other threads"])
def test_a_load_that_nothing_answered_after_failed_when_its_process_says_so(host: Host, artifact: Path, threads: str) -> None:
    [end] = _ended(host, artifact, threads + "load(); quiet(); sys.exit(1)", status=1)
    assert (end.trigger, end.outcome, end.to_phase) == (Trigger.EXIT, Outcome.FAILURE, Phase.STOP)


@pytest.mark.parametrize(("body", "status"), [
    pytest.param("idle(); load(); quiet(); sys.exit(0)", 0, id="exit"),
    pytest.param("idle(); load(); quiet(); print(flush=True); time.sleep(30)", None, id="signal"),
    pytest.param("t = threading.Thread(target=load); t.start(); t.join(); sys.exit(1)", 1, id="returned before"),
])
def test_a_load_that_is_over_is_not_failed_by_the_end_of_its_process(
    host: Host, artifact: Path, body: str, status: int | None
) -> None:
    assert [e.outcome for e in _ended(host, artifact, body, status=status)] == [Outcome.SUCCESS]


def test_an_answer_after_the_only_load_failed_does_not_make_a_server_serve(host: Host, artifact: Path) -> None:
    body = """
signal.signal(signal.SIGTERM, lambda *_: None)
load_aside()
os.kill(os.getpid(), signal.SIGTERM)
answer()
quiet()
subprocess.run(["/bin/true"])
"""
    events = host.run(answering() + _PRELUDE + body, str(artifact))
    assert of(events, "lifecycle", outcome=Outcome.FAILURE)
    assert not of(events, "lifecycle", to_phase=Phase.SERVE)


def test_what_a_quiet_load_makes_while_its_file_is_open_comes_from_the_open_load(host: Host, artifact: Path) -> None:
    body = """
def write(name):
    os.close(os.open(artifact + "." + name, os.O_WRONLY | os.O_CREAT))
fd = os.open(artifact, os.O_RDONLY)
quiet()
subprocess.run(["/bin/true", "held"])
t = threading.Thread(target=write, args=("held",)); t.start(); t.join()
os.close(fd)
subprocess.run(["/bin/true", "closed"])
t = threading.Thread(target=write, args=("closed",)); t.start(); t.join()
"""
    events = host.run(_PRELUDE + body, str(artifact))
    programs = {e.args[-1]: (e.scope, e.origin_scope, e.origin_via) for e in of(events, "exec")}
    assert programs == {b"held": (Scope.TAIL, Scope.OPEN, Via.FORK), b"closed": (Scope.TAIL, Scope.TAIL, Via.FORK)}
    threads = {e.path.rpartition(b".")[2]: (e.origin_scope, e.origin_via) for e in of(events, "file_open", access=2)}
    assert threads == {b"held": (Scope.OPEN, Via.THREAD), b"closed": (Scope.TAIL, Via.THREAD)}
