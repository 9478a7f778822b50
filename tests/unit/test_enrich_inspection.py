"""Looks at living processes: real servers where one is installed, and processes that do not want to be looked at."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
from modelward_agent.enrich import inspection
from modelward_agent.enrich.enricher import Enricher
from modelward_agent.enrich.inspection import Inspector
from modelward_agent.enrich.proc_files import ProcFiles
from modelward_agent.enrich.process_table import Program
from modelward_agent.enrich.walking import Walks
from modelward_agent.enrich.workloads import Kind, Workload
from modelward_agent.sensor.constants import Phase
from modelward_proto.kinds import Kind as RecordKind

from tests.unit.kernel_records import BOOT, batch, execd, record

PROC = ProcFiles(Path("/proc"))
BIN = Path(sys.executable).parent
APP = """
import sklearn.ensemble
async def app(scope, receive, send):
    pass
"""


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[bytes]]]:
    made: list[subprocess.Popen[bytes]] = []
    yield made
    for process in made:
        process.kill()
        process.wait()


def serve(started: list[subprocess.Popen[bytes]], folder: Path, *command: str) -> int:
    """Start a server and wait until it accepts connections at the port after ``--port`` or ``-b``. Returns its pid."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = [word.replace("PORT", str(port)) for word in command]
    started.append(subprocess.Popen(words, cwd=folder, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL))
    until = time.monotonic() + 60
    while time.monotonic() < until:
        assert started[-1].poll() is None, "the server ended"
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                return started[-1].pid
        time.sleep(0.05)
    raise TimeoutError("the server does not listen")


def looked_at(pid: int) -> Workload:
    workload, inspector = Workload(), Inspector()
    assert inspector.look(workload, PROC.key(pid))
    until = time.monotonic() + 120
    while time.monotonic() < until:
        for _, found in inspector.found():
            if found.runtime is not None:
                workload.runs(found.runtime)
                inspector.close()
                return workload
        time.sleep(0.01)
    raise TimeoutError("the look found nothing")


def test_uvicorn_is_shown_without_what_is_in_it(started: list[subprocess.Popen[bytes]], tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP)
    workload = looked_at(serve(started, tmp_path, str(BIN / "uvicorn"), "app:app", "--port", "PORT"))
    assert workload.runtime == "uvicorn + scikit-learn"
    assert workload.runtime_version == f"{version('uvicorn')} + {version('scikit-learn')}"


def test_gunicorn_is_shown_without_its_version(started: list[subprocess.Popen[bytes]], tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("def app(environ, start_response):\n    return []\n")
    workload = looked_at(serve(started, tmp_path, str(BIN / "gunicorn"), "app:app", "-b", "127.0.0.1:PORT"))
    assert (workload.runtime, workload.runtime_version) == ("gunicorn", version("gunicorn"))


def test_a_script_with_a_server_of_llama_cpp_is_shown_as_python(started: list[subprocess.Popen[bytes]]) -> None:
    started.append(subprocess.Popen([sys.executable, "-c", "import xllamacpp, sys; print(flush=True); sys.stdin.read()"],
                                    stdin=subprocess.PIPE, stdout=subprocess.PIPE))
    assert started[-1].stdout is not None
    started[-1].stdout.readline()
    workload = looked_at(started[-1].pid)
    assert (workload.runtime, workload.runtime_version) == ("llama.cpp", version("xllamacpp"))


def test_a_worker_of_multiprocessing_is_not_known_by_its_starter(started: list[subprocess.Popen[bytes]], tmp_path: Path) -> None:
    script = tmp_path / "server.py"
    script.write_text(
        "import multiprocessing, os, time\ndef work(q):\n    q.put(os.getpid())\n    time.sleep(60)\n"
        "def unused():\n    import litserve\n"
        "if __name__ == '__main__':\n    c = multiprocessing.get_context('spawn'); q = c.Queue()\n"
        "    c.Process(target=work, args=(q,), daemon=True).start()\n    print(q.get(), flush=True)\n    time.sleep(60)\n"
    )
    started.append(subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE))
    assert started[-1].stdout is not None
    assert looked_at(int(started[-1].stdout.readline())).runtime == "litserve"


def test_rows_of_a_server_that_serves_do_not_say_what_it_is(started: list[subprocess.Popen[bytes]], tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP)
    pid = serve(started, tmp_path, str(BIN / "uvicorn"), "app:app", "--port", "PORT")
    key = PROC.key(pid)
    program, script = os.path.realpath(sys.executable), BIN / "uvicorn"
    enricher = Enricher(boot_id=BOOT)
    enricher.enrich(batch(execd(os.fsencode(program), b"python", os.fsencode(script), b"app:app", key=key, root=key)))
    until = time.monotonic() + 120
    row: dict[str, object] = {}
    while time.monotonic() < until and "+" not in str(row.get("workload_runtime")):
        served = record(RecordKind.LIFECYCLE, key=key, root=key, at=300_000_000_000, phase=Phase.SERVE, to_phase=Phase.SERVE)
        [row] = enricher.enrich(batch(served)).to_pylist()
    assert row["workload_runtime"] == "uvicorn + scikit-learn"
    assert row["workload_runtime_version"] == f"{version('uvicorn')} + {version('scikit-learn')}"


def test_a_process_is_looked_at_for_every_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[tuple[int, int]] = []
    look = Inspector.look

    def counted(self: Inspector, workload: Workload, key: tuple[int, int], program: Program, *, ready: bool) -> bool:
        looks.append(key)
        return look(self, workload, key, program, ready=ready)

    monkeypatch.setattr(Inspector, "look", counted)
    own, enricher = PROC.key(os.getpid()), Enricher(boot_id=BOOT)
    for at in range(20):
        phase = Phase.START if at < 10 else Phase.SERVE
        enricher.enrich(batch(record(RecordKind.FILE_OPEN, b"/x", key=own, root=own, at=300_000_000_000 + at, phase=phase)))
    assert looks == [own, own]


class Unasked(Walks):
    """Knows already what every process runs."""

    def ask(self, workload: Workload, of: Kind, key: tuple[int, int], asked: bytes) -> bool:
        return True


def test_a_process_that_hangs_its_readers_holds_up_events_or_other_workloads(monkeypatch: pytest.MonkeyPatch) -> None:
    release, own = threading.Event(), PROC.key(os.getpid())
    look = Inspector._look
    monkeypatch.setattr(Inspector, "_look", lambda self, of, key: release.wait(60) if of.id == "bad" else look(self, of, key))
    inspector = Inspector(walks=Unasked(Path("/proc")))
    bad, good = Workload(id="bad"), Workload(id="good")
    assert [inspector.look(bad, own) for _ in range(50)] == [True] + [False] * 49
    assert inspector.look(good, own)
    assert [(key, found.workload.id) for key, found in inspector.found()] == [(own, "good")]
    release.set()


def test_a_server_that_starts_itself_again_and_again_takes_all_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Inspector, "_look", lambda *_: time.sleep(0.005))
    inspector, workload = Inspector(walks=Unasked(Path("/proc"))), Workload()
    taken = sum(inspector.look(workload, (number, 1)) for number in range(1000))
    assert taken <= inspection._LOOKS
    assert sum(inspector.look(Workload(id=str(number)), (number, 1)) for number in range(1000)) < 250


def test_groups_of_one_container_are_looked_at_as_often_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Inspector, "_look", lambda *_: None)
    inspector = Inspector(walks=Unasked(Path("/proc")))
    assert sum(inspector.look(Workload(id="container:a"), (number, 1)) for number in range(1000)) <= inspection._LOOKS
