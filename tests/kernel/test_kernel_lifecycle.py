"""Phases, scopes, instances and origins, as the events of a program carry them."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest
from modelward_agent.sensor.constants import Evidence, Flag, Outcome, Phase, Scope, Trigger, Via

from .conftest import Event, Host, answering, of

pytestmark = pytest.mark.kernel

_QUIET = 0.35
"""Seconds after which the sweep has surely seen the 100 ms without artifact I/O; nothing is concluded from it
being longer."""

_SERVER = f"""
import os, signal, socket, subprocess, sys, threading, time
artifact = sys.argv[1]

def load(path=artifact):
    fd = os.open(path, os.O_RDONLY)
    os.read(fd, 100)
    os.close(fd)

def quiet():
    time.sleep({_QUIET})

def run(name):
    subprocess.run(["/bin/true", name])

def thread(work):
    t = threading.Thread(target=work)
    t.start()
    t.join()
"""


def _run(host: Host, body: str, artifact: Path, *more: str) -> list[Event]:
    return host.run(_SERVER + answering() + body, str(artifact), *more)


def _marked(events: list[Event], name: str) -> Event:
    """The exec of ``run(name)``."""
    [event] = [e for e in of(events, "exec") if e.args[-1] == name.encode()]
    return event


def _transitions(events: list[Event]) -> list[tuple[Phase, Phase, Trigger]]:
    return [(Phase(e.from_phase), Phase(e.to_phase), Trigger(e.trigger)) for e in of(events, "lifecycle")]


def test_load_begins_with_the_open_and_ends_by_quiet(host: Host, artifact: Path) -> None:
    events = _run(host, "load(); run('inside'); quiet(); run('after')", artifact)
    opened, quiet, *_ = of(events, "lifecycle")
    assert (opened.from_phase, opened.to_phase, opened.trigger) == (Phase.UNKNOWN, Phase.LOAD, Trigger.ARTIFACT_OPEN)
    assert (quiet.from_phase, quiet.to_phase, quiet.trigger) == (Phase.LOAD, Phase.WARMUP, Trigger.QUIET)
    assert opened.path == quiet.path == bytes(artifact)
    assert opened.artifact_inode == artifact.stat().st_ino
    assert opened.instance == quiet.instance != 0
    inside, after = _marked(events, "inside"), _marked(events, "after")
    assert (inside.phase, inside.scope, inside.instance) == (Phase.LOAD, Scope.OPEN, opened.instance)
    assert (after.phase, after.scope, after.instance) == (Phase.LOAD, Scope.TAIL, opened.instance)
    assert inside.evidence == Evidence.OBSERVED


def test_the_open_itself_belongs_to_the_load_it_begins(host: Host, artifact: Path) -> None:
    [event] = [e for e in of(_run(host, "load()", artifact), "file_open") if e.path == bytes(artifact)]
    assert event.flags & Flag.ARTIFACT
    assert (event.phase, event.scope) == (Phase.LOAD, Scope.OPEN)
    assert event.instance != 0


def test_reading_the_artifact_keeps_the_load_open(host: Host, artifact: Path) -> None:
    body = """
fd = os.open(artifact, os.O_RDONLY)
for _ in range(50):
    os.pread(fd, 10, 0)
    time.sleep(0.01)
run("reading")
"""
    events = _run(host, body, artifact)
    assert _marked(events, "reading").scope == Scope.OPEN
    assert Trigger.QUIET not in [t for _, _, t in _transitions(events)]


def test_shards_and_repeated_opens_of_one_load_are_one_instance(host: Host, artifact: Path, tmp_path: Path) -> None:
    (tmp_path / "b.safetensors").write_bytes(b"x")
    body = f"load(); load({str(tmp_path / 'b.safetensors')!r}); load(); quiet(); load()"
    events = _run(host, body, artifact)
    opens = [e for e in of(events, "file_open") if e.flags & Flag.ARTIFACT]
    assert len(opens) == 4
    assert len({e.instance for e in opens}) == 1
    assert (Phase.WARMUP, Phase.LOAD, Trigger.REOPENED) in _transitions(events)


def test_a_second_thread_starts_an_instance_of_its_own(host: Host, artifact: Path) -> None:
    events = _run(host, "t = threading.Thread(target=lambda: (time.sleep(0.05), load())); t.start(); load(); t.join()", artifact)
    opens = [e for e in of(events, "file_open") if e.flags & Flag.ARTIFACT]
    assert len({e.tid for e in opens}) == 2
    assert len({e.instance for e in opens}) == 2


def test_a_forked_child_in_the_load_has_its_origin_for_ever(host: Host, artifact: Path) -> None:
    body = """
load()
if os.fork() == 0:
    time.sleep(0.6)
    run("late")
    os._exit(0)
quiet()
answer()
os.wait()
run("parent")
"""
    events = _run(host, body, artifact)
    late, parent = _marked(events, "late"), _marked(events, "parent")
    [opened] = of(events, "lifecycle", trigger=Trigger.ARTIFACT_OPEN)
    assert (late.origin_instance, late.origin_via, late.origin_scope) == (opened.instance, Via.FORK, Scope.OPEN)
    assert 0 < late.origin_time_ns < late.time_ns
    assert (late.phase, late.scope) == (Phase.SERVE, Scope.NONE)
    assert (parent.origin_instance, parent.origin_via) == (0, Via.NONE)


def test_a_thread_started_in_the_load_has_a_thread_origin(host: Host, artifact: Path) -> None:
    events = _run(host, "load(); quiet(); thread(lambda: run('child'))", artifact)
    child = _marked(events, "child")
    assert child.origin_via == Via.FORK  # the fork of /bin/true, by a thread that is in the scope itself
    forks = of(events, "fork")
    assert forks[-1].origin_via == Via.THREAD
    assert forks[-1].origin_scope == Scope.TAIL


def test_a_program_that_the_loading_task_becomes_has_an_exec_origin(host: Host, artifact: Path) -> None:
    events = _run(host, "load(); os.execv('/bin/sh', ['sh', '-c', 'exit 0', 'became'])", artifact)
    event = _marked(events, "became")
    assert event.tgid == event.root_tgid
    assert (event.origin_via, event.origin_scope) == (Via.EXEC, Scope.OPEN)
    assert event.origin_instance == event.instance


def test_serve_begins_with_the_first_answer_after_the_load(host: Host, artifact: Path) -> None:
    events = _run(host, "load(); quiet(); run('before'); answer(); run('after')", artifact)
    assert (Phase.WARMUP, Phase.SERVE, Trigger.ANSWER) in _transitions(events)
    assert (_marked(events, "before").phase, _marked(events, "before").scope) == (Phase.LOAD, Scope.TAIL)
    after = _marked(events, "after")
    assert (after.phase, after.scope, after.origin_instance) == (Phase.SERVE, Scope.NONE, 0)
    assert after.instance == of(events, "lifecycle")[0].instance


def test_health_answers_before_and_during_a_load_change_nothing(host: Host, artifact: Path) -> None:
    body = """
thread(lambda: answer())
fd = os.open(artifact, os.O_RDONLY)
os.read(fd, 100)
thread(lambda: answer())
time.sleep(0.3)
thread(lambda: answer())
run("main")
"""
    events = _run(host, body, artifact)
    assert Phase.SERVE not in [to for _, to, _ in _transitions(events)]


def test_a_load_in_a_server_leaves_its_other_threads_in_serve(host: Host, artifact: Path, tmp_path: Path) -> None:
    second = tmp_path / "second.onnx"
    second.write_bytes(b"x")
    body = f"""
load(); quiet(); answer()
loaded = threading.Event()
def swap():
    load({str(second)!r})
    run("loader")
    loaded.set()
    time.sleep(0.2)
t = threading.Thread(target=swap)
t.start()
loaded.wait()
run("request")
t.join()
run("after")
"""
    events = _run(host, body, artifact)
    loader, request = _marked(events, "loader"), _marked(events, "request")
    assert (loader.phase, loader.scope) == (Phase.LOAD, Scope.OPEN)
    assert (request.phase, request.scope) == (Phase.SERVE, Scope.NONE)
    assert request.instance == 0, "two models: which one is not known"
    assert _marked(events, "after").phase == Phase.SERVE


def test_a_load_again_after_the_scope_closed_is_a_new_instance_of_the_same_model(host: Host, artifact: Path) -> None:
    events = _run(host, "load(); quiet(); answer(); load(); quiet(); answer(); run('after')", artifact)
    first, second = of(events, "lifecycle", trigger=Trigger.ARTIFACT_OPEN)
    assert first.instance != second.instance
    assert (second.from_phase, second.to_phase) == (Phase.SERVE, Phase.LOAD)
    assert _marked(events, "after").instance == second.instance


def test_a_worker_forked_from_a_loaded_master_serves_once_it_answers(host: Host, artifact: Path) -> None:
    body = """
load(); quiet()
if os.fork() == 0:
    run("before")
    answer()
    run("worker")
    os._exit(0)
os.wait()
"""
    events = _run(host, body, artifact)
    before, worker = _marked(events, "before"), _marked(events, "worker")
    assert (before.phase, before.scope) == (Phase.LOAD, Scope.TAIL)
    assert (worker.phase, worker.scope) == (Phase.SERVE, Scope.NONE)
    assert worker.instance == before.instance


def test_stop_begins_with_a_signal_and_ends_if_the_process_answers_again(host: Host, artifact: Path) -> None:
    body = """
load(); quiet(); answer()
signal.signal(signal.SIGTERM, lambda *_: None)
os.kill(os.getpid(), signal.SIGTERM)
run("stopping")
answer()
run("again")
"""
    events = _run(host, body, artifact)
    assert (Phase.SERVE, Phase.STOP, Trigger.SIGNAL) in _transitions(events)
    assert (Phase.STOP, Phase.SERVE, Trigger.ANSWER) in _transitions(events)
    assert _marked(events, "stopping").phase == Phase.STOP
    assert _marked(events, "again").phase == Phase.SERVE


def test_a_load_that_ends_with_its_process_is_told_as_failed(host: Host, artifact: Path) -> None:
    process = host.start(_SERVER + "load(); os._exit(3)", str(artifact))
    assert host.finish(process) == 3
    ended = of(host.events(process.pid), "lifecycle", trigger=Trigger.EXIT, path=bytes(artifact))[0]
    assert (ended.from_phase, ended.to_phase) == (Phase.LOAD, Phase.STOP)
    assert ended.outcome == Outcome.FAILURE


def test_a_load_that_had_gone_quiet_did_not_fail(host: Host, artifact: Path) -> None:
    events = _run(host, "load(); quiet()", artifact)
    [ended] = of(events, "lifecycle", trigger=Trigger.EXIT, path=bytes(artifact))
    assert ended.outcome != Outcome.FAILURE


def test_a_server_starts_with_its_exec(host: Host, artifact: Path, tmp_path: Path) -> None:
    script = tmp_path / "uvicorn"
    script.write_text(_SERVER + "run('start'); load(); run('load')")
    program = "import os, sys; os.execv(sys.executable, ['python3', '-S', *sys.argv[1:]])"
    events = host.run(program, str(script), str(artifact))
    assert _transitions(events)[0] == (Phase.UNKNOWN, Phase.START, Trigger.EXEC)
    start, load = _marked(events, "start"), _marked(events, "load")
    assert (start.phase, start.scope, start.instance) == (Phase.START, Scope.NONE, 0)
    assert (load.phase, load.scope) == (Phase.LOAD, Scope.OPEN)
    [server] = [e for e in of(events, "exec") if e.flags & Flag.SERVER]
    assert server.flags & Flag.ROOT
    assert not start.flags & Flag.SERVER


def test_instances_are_unique_over_processes(host: Host, artifact: Path) -> None:
    instances = {of(_run(host, "load()", artifact), "lifecycle")[0].instance for _ in range(3)}
    assert len(instances) == 3


def test_a_server_that_is_killed_has_stopped(host: Host, artifact: Path) -> None:
    program = _SERVER + "load(); print('loaded', flush=True); time.sleep(30)"
    process = host.start(program, str(artifact), stdout=subprocess.PIPE)
    assert process.stdout
    process.stdout.readline()
    host.pump_for(_QUIET)
    os.kill(process.pid, signal.SIGTERM)
    host.finish(process)
    events = host.events(process.pid)
    assert _transitions(events)[-1] == (Phase.WARMUP, Phase.STOP, Trigger.EXIT)
    assert of(events, "exit")[-1].exit_signal == signal.SIGTERM


def test_a_load_ends_with_the_thread_that_did_it(host: Host, artifact: Path) -> None:
    events = _run(host, "thread(load); run('after'); thread(load); quiet(); answer(); run('served')", artifact)
    first, second = of(events, "lifecycle", trigger=Trigger.ARTIFACT_OPEN)
    assert first.instance != second.instance
    ended = [e for e in of(events, "lifecycle", trigger=Trigger.EXIT) if e.path == bytes(artifact)]
    assert [e.to_phase for e in ended] == [Phase.WARMUP, Phase.WARMUP]
    assert not any(e.outcome == Outcome.FAILURE for e in ended)
    after, served = _marked(events, "after"), _marked(events, "served")
    assert (after.phase, after.scope) == (Phase.WARMUP, Scope.NONE)
    assert served.phase == Phase.SERVE


def test_loads_beyond_the_quota_of_a_group_are_judged_as_load_and_counted(host: Host, artifact: Path) -> None:
    body = """
go, loaded = threading.Event(), threading.Barrier(201)
def loader():
    load()
    loaded.wait()
    go.wait()
threads = [threading.Thread(target=loader) for _ in range(200)]
[t.start() for t in threads]
loaded.wait()
threading.Thread(target=lambda: (run("beyond"), go.set())).start()
[t.join() for t in threads]
"""
    missed = host.sensor.counters().get(("missed", "lifecycle"), 0)
    events = _run(host, body, artifact)
    assert len(of(events, "lifecycle", trigger=Trigger.ARTIFACT_OPEN)) == 128
    assert host.sensor.counters()["missed", "lifecycle"] - missed >= 72
    assert _marked(events, "beyond").phase == Phase.LOAD
