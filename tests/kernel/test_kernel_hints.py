"""What a process declares of its own phase: believed where it makes us stricter, refused and told where it would do less."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from modelward_agent.hints.hint import Hint
from modelward_agent.hints.listening import Hints
from modelward_agent.sensor.constants import Evidence, Outcome, Phase, Scope, Trigger

from .conftest import Event, Host, answering, of

pytestmark = pytest.mark.kernel

_AGENT = Path(__file__).parents[2] / "agent"
_SERVER = f"""
import os, subprocess, sys, threading, time
sys.path.insert(0, {str(_AGENT)!r})
import modelward_hint as hint
artifact = sys.argv[1]

def load():
    fd = os.open(artifact, os.O_RDONLY)
    os.read(fd, 100)
    os.close(fd)

def heard():
    time.sleep(0.4)

def run(name):
    subprocess.run(["/bin/true", name])
"""


@pytest.fixture
def socket_path(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A hint socket that is read whenever the rings are."""
    path = str(tmp_path / "hint.sock")
    hints, pump = Hints(path), host.pump

    def pump_with_hints() -> None:
        hints.deliver(host.sensor)
        pump()

    monkeypatch.setattr(host, "pump", pump_with_hints)
    monkeypatch.setenv("MODELWARD_HINT_SOCKET", path)
    yield path
    hints.close()


@pytest.fixture
def server(host: Host, socket_path: str, artifact: Path) -> Callable[[str], list[Event]]:
    """Runs a program that may declare; its events."""

    def run(body: str) -> list[Event]:
        return host.run(_SERVER + answering() + body, str(artifact))

    return run


def said(events: list[Event]) -> list[tuple[Phase, Phase, Outcome]]:
    return [(Phase(e.from_phase), Phase(e.to_phase), Outcome(e.outcome))
            for e in of(events, "lifecycle", trigger=Trigger.DECLARED)]


def refused(events: list[Event]) -> list[tuple[Phase, Phase]]:
    return [(one, other) for one, other, outcome in said(events) if outcome == Outcome.FAILURE]


def marked(events: list[Event], name: str) -> Event:
    [event] = [e for e in of(events, "exec") if e.args[-1] == name.encode()]
    return event


def test_a_declared_load_without_a_file_is_not_seen(server: Callable[[str], list[Event]]) -> None:
    events = server("with hint.load('resnet50'):\n    heard(); run('inside')\nheard(); run('after')")
    inside, after = marked(events, "inside"), marked(events, "after")
    assert (inside.phase, inside.evidence) == (Phase.LOAD, Evidence.DECLARED)
    assert inside.scope != Scope.NONE
    assert inside.instance
    assert (after.phase, after.scope) == (Phase.WARMUP, Scope.NONE)
    began, ended = of(events, "lifecycle", trigger=Trigger.DECLARED)
    assert (began.to_phase, began.asked) == (Phase.LOAD, b"resnet50")
    assert (ended.from_phase, ended.to_phase, ended.outcome) == (Phase.LOAD, Phase.WARMUP, Outcome.SUCCESS)


def test_an_artifact_in_a_declared_load_begins_another(server: Callable[[str], list[Event]]) -> None:
    events = server("with hint.load('x'):\n    heard(); load(); run('inside')\nheard()\nhint.serving()\nheard(); run('after')")
    assert len({e.instance for e in of(events, "lifecycle") if e.to_phase == Phase.LOAD}) == 1
    assert marked(events, "inside").scope == Scope.OPEN
    assert (marked(events, "after").phase, marked(events, "after").scope) == (Phase.SERVE, Scope.NONE)
    assert refused(events) == []


def test_a_server_that_never_listens_is_not_believed_to_serve(server: Callable[[str], list[Event]]) -> None:
    events = server("load(); hint.serving(); heard(); threading.Thread(target=run, args=('request',)).start()")
    assert refused(events) == []
    [declared] = of(events, "lifecycle", trigger=Trigger.DECLARED)
    assert (declared.to_phase, declared.outcome, declared.evidence) == (Phase.SERVE, Outcome.SUCCESS, Evidence.DECLARED)


def test_what_a_load_closed_by_saying_so_is_judged_as_serving_alone(server: Callable[[str], list[Event]]) -> None:
    events = server("load(); hint.serving(); heard(); run('after')")
    assert (marked(events, "after").phase, marked(events, "after").scope) == (Phase.LOAD, Scope.TAIL)


def test_a_payload_in_a_file_that_is_read_is_believed(server: Callable[[str], list[Event]]) -> None:
    events = server("fd = os.open(artifact, os.O_RDONLY)\nhint.serving(); heard(); run('payload'); os.close(fd)")
    assert refused(events) == [(Phase.LOAD, Phase.SERVE)]
    [lie] = of(events, "lifecycle", outcome=Outcome.FAILURE)
    assert lie.evidence == Evidence.DECLARED
    assert marked(events, "payload").phase == Phase.LOAD
    assert marked(events, "payload").scope != Scope.NONE


def test_a_payload_ends_the_load_that_its_server_declared(server: Callable[[str], list[Event]]) -> None:
    events = server(
        "with hint.load('x'):\n    heard(); fd = os.open(artifact, os.O_RDONLY)\n"
        "    hint.warmup(); hint.serving(); heard(); run('payload'); os.close(fd)"
    )
    assert refused(events) == [(Phase.LOAD, Phase.SERVE)]
    assert marked(events, "payload").scope != Scope.NONE


def test_a_load_that_is_declared_after_it_was_seen_never_ends(server: Callable[[str], list[Event]]) -> None:
    events = server("load()\nwith hint.load('late'):\n    heard(); run('inside')\nheard(); run('after')")
    assert refused(events) == []
    assert b"late" in {e.asked for e in of(events, "lifecycle", trigger=Trigger.DECLARED)}
    assert marked(events, "inside").scope != Scope.NONE
    assert (marked(events, "after").phase, marked(events, "after").scope) == (Phase.WARMUP, Scope.NONE)


def test_a_server_that_answers_is_believed_to_be_in_an_earlier_phase(server: Callable[[str], list[Event]]) -> None:
    events = server("load(); time.sleep(0.35); answer(); hint.warmup(); heard(); run('after')")
    assert refused(events) == [(Phase.SERVE, Phase.WARMUP)]
    assert marked(events, "after").phase == Phase.SERVE


def test_a_hot_swap_that_is_declared_is_a_lie(server: Callable[[str], list[Event]]) -> None:
    swap = "load(); time.sleep(0.35); answer()\nwith hint.load('new'):\n    heard(); load(); run('inside')\nheard(); run('after')"
    events = server(swap)
    assert refused(events) == []
    assert (marked(events, "inside").phase, marked(events, "after").phase) == (Phase.LOAD, Phase.SERVE)


def test_a_declared_end_hides_that_the_server_goes_on(server: Callable[[str], list[Event]]) -> None:
    events = server("load(); time.sleep(0.35); answer(); hint.stopping(); heard(); answer(); hint.serving(); heard()")
    assert said(events) == [(Phase.SERVE, Phase.STOP, Outcome.SUCCESS)]
    assert [Phase(e.to_phase) for e in of(events, "lifecycle", from_phase=Phase.STOP)] == [Phase.SERVE]


def test_a_thread_of_a_container_is_taken_for_another(host: Host, socket_path: str, artifact: Path) -> None:
    body = """
def work():
    with hint.load('in a namespace'):
        heard(); run('loading')
print(os.getpid(), flush=True)
threads = [threading.Thread(target=time.sleep, args=(1.5,)) for _ in range(3)] + [threading.Thread(target=work)]
for t in threads: t.start()
time.sleep(0.2); run('beside')
for t in threads: t.join()
"""
    process = subprocess.Popen(
        ["unshare", "--pid", "--fork", sys.executable, "-S", "-c", _SERVER + body, str(artifact)], stdout=subprocess.PIPE
    )
    host.finish(process)
    assert process.stdout is not None
    assert process.stdout.read() == b"1\n"
    raw = [Event(record) for part in host.all_records() for record in part]
    loading, beside = (
        [e for e in of(raw, "exec") if e.args[-1] == name and e.args[0] == b"/bin/true"] for name in (b"loading", b"beside")
    )
    assert [(e.phase, e.evidence) for e in loading] == [(Phase.LOAD, Evidence.DECLARED)]
    assert [e.scope for e in beside] == [Scope.NONE]


def test_a_process_that_loads_nothing_is_watched_because_it_speaks(server: Callable[[str], list[Event]]) -> None:
    assert server("hint.serving(); hint.warmup(); hint.stopping(); heard(); run('x')") == []


def test_a_process_is_judged_by_what_an_earlier_one_of_its_number_said(host: Host, artifact: Path) -> None:
    process = host.start(_SERVER + "heard(); run('x')", str(artifact))
    host.sensor.declare(Hint(process.pid, Phase.LOAD, 0, b"", time.clock_gettime_ns(time.CLOCK_BOOTTIME) - 60_000_000_000))
    host.finish(process)
    assert host.events(process.pid) == []


def test_a_declaration_of_a_process_that_is_gone_fails(host: Host) -> None:
    with subprocess.Popen(["true"]) as process:
        process.wait()
    host.sensor.declare(Hint(process.pid, Phase.LOAD, 0, b"", time.clock_gettime_ns(time.CLOCK_BOOTTIME)))
    host.sensor.declare(Hint(os.getpid(), Phase.SERVE, 999_999_999, b"\xff" * 63, time.clock_gettime_ns(time.CLOCK_BOOTTIME)))
