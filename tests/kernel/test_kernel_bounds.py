"""A workload that has more of everything than there is room for: others lose nothing by it, and the ledger says what it cost."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from modelward_agent.sensor.constants import Phase, Scope, Trigger

from .conftest import Host, answering, of

pytestmark = pytest.mark.kernel

_ARTIFACTS = 10_000
_THREADS = 200
_CHILDREN = 3_000
_REMEMBERED = 2_048
"""``MW_GROUP_ARTIFACTS`` of ``agent/bpf/artifacts.h``."""

_VICTIM = """
import sys, time
artifact = sys.argv[1]
def load(path):
    os.close(os.open(path, os.O_RDONLY))
def mark(name):
    os.close(os.open(artifact + "." + name, os.O_WRONLY | os.O_CREAT))
load(artifact); time.sleep(0.35); answer(); mark("before")
print(flush=True)
sys.stdin.readline()
second = artifact + ".onnx"
open(second, "wb").write(b"x")
mark("beside")
load(second)
mark("second")
time.sleep(0.35); answer(); mark("after")
"""


def _beside(host: Host, artifact: Path, flood: subprocess.Popen[bytes], victim: subprocess.Popen[bytes]) -> None:
    """The other workload goes on when the flooding one has done its worst, and lives still."""
    assert flood.stdout
    assert flood.stdin
    assert victim.stdin
    while not flood.stdout.peek(1):  # type: ignore[attr-defined]
        host.pump()
    victim.stdin.close()
    assert host.finish(victim) == 0
    flood.stdin.close()
    assert host.finish(flood, timeout=120) == 0
    marks = {e.path.rpartition(b".")[2]: e for e in of(host.events(victim.pid), "file_open", access=2)}
    assert [marks[name].phase for name in (b"before", b"beside", b"second", b"after")] == [
        Phase.SERVE, Phase.SERVE, Phase.LOAD, Phase.SERVE]
    assert marks[b"second"].scope == Scope.OPEN
    assert len(of(host.events(victim.pid), "lifecycle", trigger=Trigger.ARTIFACT_OPEN)) == 2


def _start(host: Host, artifact: Path, program: str, *arguments: str) -> tuple[subprocess.Popen[bytes], subprocess.Popen[bytes]]:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    victim = host.start(answering() + _VICTIM, str(artifact), **pipes)
    assert victim.stdout
    victim.stdout.readline()
    return host.start(program, *arguments, **pipes), victim


def _cost(host: Host, before: dict[tuple[str, str], int]) -> dict[str, int]:
    after = host.sensor.counters()
    return {kind: n - before.get((hop, kind), 0) for (hop, kind), n in after.items() if hop == "missed"}


def test_thousands_of_artifacts_of_one_process_cost_others_nothing(host: Host, artifact: Path, tmp_path: Path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    flood = f"""
import os, sys, threading
folder = sys.argv[1]
go, begun, end = threading.Event(), threading.Barrier({_THREADS} + 1), threading.Event()
def load(n):
    go.wait()
    os.open(f"{{folder}}/{{n}}.gguf", os.O_RDONLY)
    begun.wait()
    end.wait()
for n in range({_THREADS}):
    threading.Thread(target=load, args=(n,)).start()
for n in range({_ARTIFACTS}):
    path = f"{{folder}}/{{n}}.gguf"
    open(path, "wb").write(b"GGUF")
    if n >= {_THREADS}:
        os.close(os.open(path, os.O_RDONLY))
go.set()
begun.wait()
print(flush=True)
sys.stdin.readline()
end.set()
"""
    before = host.sensor.counters()
    flooding, victim = _start(host, artifact, flood, str(folder))
    _beside(host, artifact, flooding, victim)
    paths = {e.path for e in of(host.events(flooding.pid), "file_open", access=1) if e.path.endswith(b".gguf")}
    assert len(paths) == _ARTIFACTS
    instances = {e.instance for e in of(host.events(flooding.pid), "lifecycle", trigger=Trigger.ARTIFACT_OPEN)}
    # Each load that had no room, and each file that is not remembered by its inode.
    cost = _cost(host, before)
    assert cost.pop("lifecycle") == _THREADS + 1 - len(instances) + _ARTIFACTS - _REMEMBERED
    assert len(instances) < _THREADS
    assert not any(cost.values())


def test_thousands_of_children_of_a_load_cost_others_nothing(host: Host, artifact: Path) -> None:
    bomb = f"""
import os, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
alive = []
for n in range({_CHILDREN}):
    if (child := os.fork()) == 0:
        if n % 10 == 0:
            os.close(os.open(sys.argv[1] + ".child", os.O_WRONLY | os.O_CREAT))
        os._exit(0)
    alive.append(child)
    if len(alive) > 50:
        os.waitpid(alive.pop(0), 0)
print(flush=True)
sys.stdin.readline()
[os.waitpid(child, 0) for child in alive]
"""
    bombed = artifact.with_name("bomb.onnx")
    bombed.write_bytes(b"x")
    before = host.sensor.counters()
    flooding, victim = _start(host, artifact, bomb, str(bombed))
    _beside(host, artifact, flooding, victim)
    events = host.events(flooding.pid)
    missed = _cost(host, before)
    assert len(of(events, "fork")) + missed.get("fork", 0) == _CHILDREN
    assert len(of(events, "exit")) + missed.get("exit", 0) == _CHILDREN + 1
    assert {e.origin_scope for e in of(events, "file_open", access=2)} == {Scope.OPEN}
