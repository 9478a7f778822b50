"""Servers that run already when the sensor starts."""

from __future__ import annotations

import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from modelward_agent.sensor import Sensor, records
from modelward_agent.sensor.constants import Evidence, Flag, Phase, Scope, Trigger

from .conftest import Event, Host, of

pytestmark = pytest.mark.kernel

_PRELUDE = """
import mmap, os, socket, subprocess, sys, threading, time
artifact = sys.argv[1]
go = threading.Event()
def ready():
    print("ready", flush=True)
    sys.stdin.readline()
    go.set()
"""


@contextmanager
def _adopted(program: str, artifact: Path, *command: str) -> Iterator[tuple[Host, subprocess.Popen[bytes]]]:
    """Start a program, and a sensor once the program is ready; then let it go on."""
    line = [*(command or (sys.executable, "-S", "-c", _PRELUDE + program)), str(artifact)]
    process = subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin
    assert process.stdout
    process.stdout.readline()
    sensor = Sensor.open()
    try:
        yield Host(sensor), process
    finally:
        process.kill()
        process.wait()
        sensor.close()


def _go_on(host: Host, process: subprocess.Popen[bytes]) -> list[Event]:
    assert process.stdin
    process.stdin.write(b"\n")
    process.stdin.close()
    host.finish(process)
    return host.events(process.pid)


def _announced(events: list[Event]) -> list[Event]:
    return [e for e in of(events, "lifecycle", trigger=Trigger.ADOPTED) if not e.path]


_HOLD = "f = open(artifact, 'rb'); m = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ); f.close()\n"
_LISTEN = "s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen()\n"
_END = "ready(); subprocess.run(['/bin/true', 'end'])\n"


def test_no_event_is_told_of_an_adopted_server_before_its_model_is_known(artifact: Path) -> None:
    busy = """
for number in range(500):
    open(f"{artifact}.{number}", "w").close()
def opens():
    while not go.is_set():
        for number in range(500):
            os.close(os.open(f"{artifact}.{number}", os.O_RDONLY))
threads = [threading.Thread(target=opens) for _ in range(2)]
for thread in threads:
    thread.start()
"""
    with _adopted(_HOLD + _LISTEN + busy + _END, artifact) as (host, process):
        events = _go_on(host, process)
    effects = [e for e in events if e.name != "lifecycle"]
    assert effects
    assert not [e for e in effects if not e.instance or e.phase != Phase.SERVE]


def test_a_server_with_a_mapped_artifact_that_listens_is_adopted_in_serve(artifact: Path) -> None:
    with _adopted(_HOLD + _LISTEN + _END, artifact) as (host, process):
        events = _go_on(host, process)
    [event] = of(events, "exec")
    assert (event.phase, event.evidence) == (Phase.SERVE, Evidence.RECONSTRUCTED)
    [model] = [e for e in of(events, "lifecycle", trigger=Trigger.ADOPTED) if e.path]
    assert (model.path, model.artifact_inode) == (bytes(artifact), artifact.stat().st_ino)
    assert event.instance == model.instance != 0
    [announced] = [e for e in _announced(events) if e.tgid == process.pid]
    assert announced.to_phase == Phase.SERVE


def test_a_holder_of_an_artifact_that_does_not_listen_is_adopted_in_warmup(artifact: Path) -> None:
    with _adopted(_HOLD + _END, artifact) as (host, process):
        [event] = of(_go_on(host, process), "exec")
    assert (event.phase, event.evidence) == (Phase.WARMUP, Evidence.RECONSTRUCTED)


def test_a_program_in_the_middle_of_an_artifact_is_adopted_in_its_load(artifact: Path) -> None:
    with _adopted("fd = os.open(artifact, os.O_RDONLY); os.read(fd, 1000)\n" + _END, artifact) as (host, process):
        [event] = of(_go_on(host, process), "exec")
    assert event.phase == Phase.LOAD
    assert event.scope in (Scope.OPEN, Scope.TAIL)
    assert event.evidence == Evidence.RECONSTRUCTED


def test_a_listed_server_is_adopted_without_any_artifact_in_sight(artifact: Path, tmp_path: Path) -> None:
    script = tmp_path / "gunicorn"
    script.write_text(_PRELUDE + _LISTEN + _END)
    with _adopted("", artifact, sys.executable, "-S", str(script)) as (host, process):
        events = _go_on(host, process)
    [event] = of(events, "exec")
    assert (event.phase, event.instance) == (Phase.SERVE, 0)
    # A child that is being made meanwhile may be found before its fork is told.
    [announced] = [e for e in _announced(events) if e.tgid == process.pid]
    assert announced.flags & Flag.SERVER


def test_threads_and_descendants_of_a_running_server_are_tagged(artifact: Path) -> None:
    program = _HOLD + """
threads = [threading.Thread(target=lambda n=n: (go.wait(), subprocess.run(["/bin/true", f"thread{n}"]))) for n in range(20)]
[t.start() for t in threads]
wait, release = os.pipe()
if os.fork() == 0:
    os.close(release)
    if os.fork() == 0:
        os.read(wait, 1)
        subprocess.run(["/bin/true", "grandchild"])
        os._exit(0)
    os.wait()
    os._exit(0)
ready()
os.close(release)
[t.join() for t in threads]
os.wait()
"""
    with _adopted(program, artifact) as (host, process):
        events = _go_on(host, process)
    names = sorted(e.args[-1] for e in of(events, "exec"))
    assert names == sorted([b"grandchild", *(f"thread{n}".encode() for n in range(20))])
    assert len({e.tgid for e in _announced(events)}) == 3


def test_every_task_of_servers_that_run_already_is_found(artifact: Path, tmp_path: Path) -> None:
    """Workers that were forked before, with threads of their own; and a server of no list, known by the artifact it maps."""
    act = """
def act(name):
    os.close(os.open(f"{artifact}.{os.getpid()}.{name}", os.O_WRONLY | os.O_CREAT))
def threads(n):
    made = [threading.Thread(target=lambda n=n: (go.wait(), act(n))) for n in range(n)]
    [t.start() for t in made]
    return made
"""
    workers = act + _LISTEN + """
wait, release = os.pipe()
for _ in range(3):
    if os.fork() == 0:
        os.close(release)
        made = threads(3)
        os.read(wait, 1)
        go.set()
        [t.join() for t in made]
        act("main")
        os._exit(0)
ready()
os.close(release)
act("main")
[os.wait() for _ in range(3)]
"""
    script = tmp_path / "gunicorn"
    script.write_text(_PRELUDE + workers)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    mapping = subprocess.Popen([sys.executable, "-S", "-c", _PRELUDE + act + _HOLD + _LISTEN
                                + "made = threads(3)\nready()\n[t.join() for t in made]\nact('main')", str(artifact)], **pipes)
    try:
        assert mapping.stdout
        mapping.stdout.readline()
        with _adopted("", artifact, sys.executable, "-S", str(script)) as (host, process):
            forked = _go_on(host, process)
            mapped = _go_on(host, mapping)
    finally:
        mapping.kill()
        mapping.wait()
    for events, processes, threads in ((forked, 4, 3 * 4 + 1), (mapped, 1, 4)):
        acts = [e for e in of(events, "file_open") if e.access == 2]
        assert (len({e.tgid for e in acts}), len({e.tid for e in acts})) == (processes, threads)
        assert {e.evidence for e in acts} == {Evidence.RECONSTRUCTED}
        assert {e.phase for e in acts} == {Phase.SERVE}
        assert {e.tgid for e in _announced(events)} == {e.tgid for e in acts}


def test_connections_accepted_before_count_as_answers_to_a_later_load(artifact: Path) -> None:
    program = _LISTEN + """
client = socket.create_connection(s.getsockname())
accepted, _ = s.accept()
f = open(artifact, "rb", buffering=0)
f.read(10)
""" + """
ready()
time.sleep(0.3)
accepted.send(b"x")
subprocess.run(["/bin/true", "end"])
"""
    with _adopted(program, artifact) as (host, process):
        events = _go_on(host, process)
    assert of(events, "exec")[0].phase == Phase.SERVE


def test_what_is_not_a_server_is_not_adopted(artifact: Path) -> None:
    with _adopted(_LISTEN + _END, artifact) as (host, process):
        assert _go_on(host, process) == []


def test_children_made_while_others_are_adopted_are_counted_once(host: Host, artifact: Path) -> None:
    forking = """
import os, sys, time
os.open(sys.argv[1], os.O_RDONLY)
end = time.monotonic() + 2
while time.monotonic() < end:
    if (child := os.fork()) == 0:
        os._exit(0)
    os.waitpid(child, 0)
"""
    kernel = host.sensor._kernel
    process = host.start(forking, str(artifact))
    while process.poll() is None:
        kernel.programs["adopt"].iterate()
    layout, groups = records.dtype("mw_group"), kernel.map("groups")
    left = [np.frombuffer(groups.lookup(struct.pack("=I", slot), layout.itemsize), layout)[0] for slot in range(1024)]
    assert [(group["id"], group["tasks"]) for group in left if group["root_tgid"] == process.pid and group["id"]] == []
