"""Phases of the processes of one server, ends of loads by answers, and loads that fail."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest
from modelward_agent.sensor.constants import Flag, Outcome, Phase, Scope, Trigger

from .conftest import Event, Host, answering, of

pytestmark = pytest.mark.kernel

_SERVER = """
import signal, subprocess, sys, threading, time
artifact = sys.argv[1]

def load(path=artifact):
    os.close(os.open(path, os.O_RDONLY))

def quiet():
    time.sleep(0.35)

def run(name):
    subprocess.run(["/bin/true", name])

def fork(work):
    child = os.fork()
    if child == 0:
        work()
        os._exit(0)
    return child

def mark(name):
    # unlike a program that is started, it is of this very process
    os.close(os.open(artifact + "." + name, os.O_WRONLY | os.O_CREAT))
"""


def _run(host: Host, body: str, artifact: Path, *, listening: bool = True) -> list[Event]:
    prelude = answering() if listening else answering().replace("listener.listen()", "")
    return host.run(prelude + _SERVER + body, str(artifact))


def _run_server(host: Host, body: str, artifact: Path) -> list[Event]:
    """The same, by a server that is known as such before it loads anything: what it forks is of its group."""
    script = artifact.with_name("watched-server")
    script.write_text(answering() + _SERVER + body)
    return host.run("import os, sys; os.execv(sys.executable, ['python3', '-S', *sys.argv[1:]])", str(script), str(artifact))


def _mark(events: list[Event], name: str) -> Event:
    [event] = [e for e in of(events, "file_open") if e.path.endswith(b"." + name.encode())]
    return event


def test_one_worker_serves_while_another_loads(host: Host, artifact: Path) -> None:
    body = """
first_serves, second_loads, done = os.pipe(), os.pipe(), os.pipe()
def first():
    load(); quiet(); answer()
    os.write(first_serves[1], b"x")
    os.read(second_loads[0], 1)
    mark("serving")
    os.write(done[1], b"x")
def second():
    os.read(first_serves[0], 1)
    t = threading.Thread(target=lambda: (load(), os.write(second_loads[1], b"x"), os.read(done[0], 1)))
    t.start()
    t.join()
    quiet()
    mark("loaded")
[os.waitpid(child, 0) for child in (fork(first), fork(second))]
"""
    events = _run_server(host, body, artifact)
    assert (_mark(events, "serving").phase, _mark(events, "serving").scope) == (Phase.SERVE, Scope.NONE)
    assert _mark(events, "loaded").phase == Phase.WARMUP


def test_a_process_that_never_listens_serves_when_its_group_answers(host: Host, artifact: Path) -> None:
    body = """
loaded, answered_ = os.pipe(), os.pipe()
def network():
    global listener
    listener = socket.create_server(("127.0.0.1", 0))
    os.read(loaded[0], 1)
    answer()
    os.write(answered_[1], b"x")
listener.close()
child = fork(network)
t = threading.Thread(target=load); t.start(); t.join(); quiet()
mark("warm")
os.write(loaded[1], b"x")
os.read(answered_[0], 1)
mark("serving")
os.waitpid(child, 0)
"""
    events = _run(host, body, artifact, listening=False)
    assert _mark(events, "warm").phase == Phase.WARMUP
    assert _mark(events, "serving").phase == Phase.SERVE
    loader = _mark(events, "warm").tgid
    assert of(events, "lifecycle", trigger=Trigger.ANSWER, to_phase=Phase.SERVE, tgid=loader)


def test_a_child_that_a_load_forked_serves_when_its_group_answers(host: Host, artifact: Path) -> None:
    body = """
early, late = os.pipe(), os.pipe()
def child():
    os.read(early[0], 1)
    mark("early")
    os.read(late[0], 1)
    mark("late")
def loader():
    global forked
    fd = os.open(artifact, os.O_RDONLY)
    forked = fork(child)
    os.close(fd)
t = threading.Thread(target=loader); t.start(); t.join(); quiet()
os.write(early[1], b"x"); quiet()
answer()
os.write(late[1], b"x")
os.waitpid(forked, 0)
"""
    events = _run_server(host, body, artifact)
    assert _mark(events, "early").phase in (Phase.LOAD, Phase.WARMUP)
    assert (_mark(events, "late").phase, _mark(events, "late").scope) == (Phase.SERVE, Scope.NONE)


@pytest.mark.parametrize("before", [
    pytest.param("", id="from the start"),
    # as Ray's replicas do, which are told by a process outside of the group to begin
    pytest.param("answer()", id="since its load"),
])
def test_a_process_that_answers_only_its_group_serves_when_that_answers(host: Host, artifact: Path, before: str) -> None:
    body = f"before = {before!r}" + """
port, go = os.pipe(), os.pipe()
def runner():
    inner = socket.create_server(("127.0.0.1", 0))
    exec(before)
    load(); quiet()
    os.write(port[1], str(inner.getsockname()[1]).encode())
    inner.accept()[0].send(b"x")
    os.read(go[0], 1)
    mark("runner")
child = fork(runner)
inner = socket.create_connection(("127.0.0.1", int(os.read(port[0], 10))))
inner.recv(10)
mark("proxy")
answer()
os.write(go[1], b"x")
os.waitpid(child, 0)
"""
    events = _run_server(host, body, artifact)
    assert _mark(events, "proxy").phase != Phase.SERVE
    assert (_mark(events, "runner").phase, _mark(events, "runner").scope) == (Phase.SERVE, Scope.NONE)


def test_answers_of_one_worker_end_no_load_that_another_one_has_yet_to_end_itself(host: Host, artifact: Path) -> None:
    body = """
loaded, answered_ = os.pipe(), os.pipe()
os.set_blocking(answered_[0], False)
def loader():
    inner = socket.create_server(("127.0.0.1", 0))
    load()
    os.write(loaded[1], b"x")
    until = time.monotonic() + 10
    while time.monotonic() < until:
        # It computes: that its load goes on is in doubt, and for longer than a doubt may last.
        try:
            os.read(answered_[0], 1)
            break
        except BlockingIOError:
            pass
    mark("tail")
child = fork(loader)
os.read(loaded[0], 1)
quiet()
for _ in range(10):
    answer()
    time.sleep(0.03)
os.write(answered_[1], b"x")
os.waitpid(child, 0)
"""
    assert _mark(_run_server(host, body, artifact), "tail").scope == Scope.TAIL


def test_a_server_started_by_one_that_serves_starts_itself(host: Host, artifact: Path, tmp_path: Path) -> None:
    script = tmp_path / "uvicorn"
    script.write_text("import os, sys\nos.close(os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT))\n")
    body = f"""
load(); quiet(); answer()
subprocess.run([sys.executable, "-S", {str(script)!r}, artifact + ".inner"])
mark("outer")
"""
    events = _run(host, body, artifact)
    assert _mark(events, "inner").phase == Phase.START
    assert _mark(events, "outer").phase == Phase.SERVE
    assert [e.from_phase for e in of(events, "lifecycle", trigger=Trigger.EXEC)] == [Phase.SERVE]


_SPAWN = "from multiprocessing.spawn import spawn_main; spawn_main(tracker_fd=5)"


@pytest.mark.parametrize(("arguments", "phase"), [
    pytest.param(["-m", "_bentoml_impl.worker.service"], Phase.START, id="module"),
    pytest.param(["-B", "-c", _SPAWN], Phase.START, id="multiprocessing"),
    pytest.param(["-c", "import os"], Phase.SERVE, id="other code"),
])
def test_a_worker_started_by_one_that_serves_starts(
    host: Host, artifact: Path, arguments: list[str], phase: Phase
) -> None:
    body = f"load(); quiet(); answer(); subprocess.run([sys.executable, '-S', *{arguments!r}], stderr=subprocess.DEVNULL)"
    worker = of(_run(host, body, artifact), "exec")[-1]
    assert worker.phase == phase
    assert not worker.flags & Flag.SERVER


def test_a_process_that_has_answered_serves_beside_its_next_load(host: Host, artifact: Path, tmp_path: Path) -> None:
    second = tmp_path / "second.onnx"
    second.write_bytes(b"x")
    body = f"""
load(); quiet(); answer()
loaded, marked = threading.Event(), threading.Event()
t = threading.Thread(target=lambda: (load({str(second)!r}), loaded.set(), marked.wait()))
t.start()
loaded.wait()
mark("beside")
marked.set()
t.join()
"""
    beside = _mark(_run(host, body, artifact), "beside")
    assert (beside.phase, beside.scope) == (Phase.SERVE, Scope.NONE)


def test_an_artifact_held_open_keeps_its_load_going_on(host: Host, artifact: Path) -> None:
    body = """
held, go, over = threading.Event(), threading.Event(), threading.Event()
def loader():
    fd = os.open(artifact, os.O_RDONLY)
    held.set()
    go.wait()
    mark("held")
    os.close(fd)
    over.set()
    time.sleep(0.5)
    mark("closed")
t = threading.Thread(target=loader); t.start()
held.wait(); quiet(); answer(); time.sleep(0.2); go.set(); over.wait(); quiet()
mark("before")
answer()
t.join()
mark("after")
"""
    events = _run(host, body, artifact)
    assert _mark(events, "held").phase == Phase.LOAD
    assert _mark(events, "before").phase != Phase.SERVE
    assert _mark(events, "after").phase == Phase.SERVE


def test_a_model_that_stays_mapped_has_been_loaded_when_another_thread_answers(host: Host, artifact: Path) -> None:
    body = """
import mmap
loaded, marked = threading.Event(), threading.Event()
def pool():
    with open(artifact, "rb") as file:
        kept.append(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ))
    loaded.set()
    marked.wait()
    mark("idle")
kept = []
t = threading.Thread(target=pool); t.start()
loaded.wait(); quiet(); answer(); time.sleep(0.2); answer()
marked.set()
t.join()
"""
    assert _mark(_run(host, body, artifact), "idle").phase == Phase.SERVE


def test_a_mapped_model_whose_pages_are_still_touched_is_still_loaded(host: Host, artifact: Path) -> None:
    with artifact.open("r+b") as file:
        file.truncate(2 << 30)  # a hole: its pages come one by one
    body = """
import mmap
begun, over = threading.Event(), threading.Event()
def loader():
    with open(artifact, "rb") as file:
        pages = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    pages.madvise(mmap.MADV_RANDOM)
    begun.set()
    at = 0
    while not over.is_set():
        for _ in range(32):
            pages[at]
            at = (at + (64 << 10)) % len(pages)
        time.sleep(0.002)
    mark("touching")
t = threading.Thread(target=loader); t.start()
begun.wait(); quiet(); answer(); time.sleep(0.25); answer(); time.sleep(0.1)
over.set()
t.join()
"""
    assert _mark(_run(host, body, artifact), "touching").phase == Phase.LOAD


def test_a_pool_thread_has_loaded_when_another_thread_answers(host: Host, artifact: Path) -> None:
    body = """
loaded, marked = threading.Event(), threading.Event()
def pool():
    load()
    loaded.set()
    marked.wait()
    mark("idle")
t = threading.Thread(target=pool); t.start()
loaded.wait(); time.sleep(0.03)
answer()
marked.set()
t.join()
"""
    idle = _mark(_run(host, body, artifact), "idle")
    assert (idle.phase, idle.scope) == (Phase.SERVE, Scope.NONE)


def test_a_load_cut_off_by_a_signal_failed_and_left_no_model(host: Host, artifact: Path) -> None:
    body = """
load(); quiet(); answer()
second = artifact + ".onnx"
open(second, "wb").write(b"x")
signal.signal(signal.SIGTERM, lambda *_: None)
t = threading.Thread(target=lambda: (load(second), os.kill(os.getpid(), signal.SIGTERM), time.sleep(0.1)))
t.start(); t.join()
mark("after")
"""
    events = _run(host, body, artifact)
    first, second = of(events, "lifecycle", trigger=Trigger.ARTIFACT_OPEN)
    [cut] = of(events, "lifecycle", trigger=Trigger.SIGNAL, outcome=Outcome.FAILURE)
    assert (cut.instance, cut.to_phase) == (second.instance, Phase.STOP)
    after = _mark(events, "after")
    assert (after.phase, after.instance) == (Phase.STOP, first.instance)


def test_a_load_cut_off_by_the_end_of_its_process_failed(host: Host, artifact: Path) -> None:
    program = answering() + _SERVER + "load(); print(flush=True); time.sleep(30)"
    process = host.start(program, str(artifact), stdout=subprocess.PIPE)
    assert process.stdout
    process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    host.finish(process)
    ended = of(host.events(process.pid), "lifecycle", trigger=Trigger.EXIT, path=bytes(artifact))
    assert [e.to_phase for e in ended] == [Phase.STOP]


def test_models_of_a_process_go_with_it(host: Host, artifact: Path) -> None:
    body = """
second = artifact + ".onnx"
open(second, "wb").write(b"x")
os.waitpid(fork(lambda: (load(), quiet())), 0)
child = fork(lambda: (load(second), time.sleep(1.2)))
time.sleep(0.6)
mark("parent")
os.waitpid(child, 0)
"""
    events = _run_server(host, body, artifact)
    opened = of(events, "lifecycle", trigger=Trigger.ARTIFACT_OPEN)
    assert _mark(events, "parent").instance == opened[-1].instance
