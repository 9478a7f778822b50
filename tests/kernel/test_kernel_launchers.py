"""Servers whose first process loads nothing: their workers are started by multiprocessing."""

from __future__ import annotations

from pathlib import Path

import pytest
from modelward_agent.sensor.constants import Phase, Scope, Trigger

from .conftest import Event, Host, answering, of

pytestmark = pytest.mark.kernel

_SERVER = """
import multiprocessing, os, sys, time
artifact = sys.argv[2]

def work(loaded, go):
    os.close(os.open(artifact, os.O_RDONLY))
    time.sleep(0.35)
    os.write(os.open(artifact + ".warm", os.O_WRONLY | os.O_CREAT), b"x")
    loaded.set()
    go.wait()
    os.write(os.open(artifact + ".served", os.O_WRONLY | os.O_CREAT), b"x")

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    loaded, go = context.Event(), context.Event()
    worker = context.Process(target=work, args=(loaded, go))
    worker.start()
    network = os.fork()
    if network == 0:
        loaded.wait()
        time.sleep(0.3)
        answer()
        os._exit(0)
    os.waitpid(network, 0)
    go.set()
    worker.join()
"""

_EXEC = "import os, sys; os.execv(sys.executable, ['python3', '-S', *sys.argv[1:]])"


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_a_worker_serves_when_another_process_of_its_launcher_answers(host: Host, artifact: Path, method: str) -> None:
    script = artifact.with_name("app.py")
    begin, main, rest = _SERVER.partition('if __name__ == "__main__":\n')
    script.write_text(begin + main + "".join(f"    {line}\n" for line in answering().splitlines()) + rest)
    events = host.run(_EXEC, str(script), method, str(artifact))
    marks = {e.path.rpartition(b".")[2]: e for e in of(events, "file_open", access=2) if e.path.startswith(bytes(artifact))}
    assert marks[b"warm"].phase in (Phase.LOAD, Phase.WARMUP)
    assert (marks[b"served"].phase, marks[b"served"].scope) == (Phase.SERVE, Scope.NONE)
    assert of(events, "lifecycle", trigger=Trigger.ARTIFACT_OPEN, tgid=marks[b"served"].tgid)


def _loads_alone(host: Host, artifact: Path, program: str, *arguments: str) -> None:
    """The process that opens the artifact is the first of its group."""
    assert host.run(program, str(artifact), *arguments) == []
    events = [Event(record) for part in host.all_records() for record in part]
    [opened] = of(events, "file_open", path=bytes(artifact))
    assert opened.root_tgid == opened.tgid


_LOAD = "import os, sys; os.close(os.open(sys.argv[1], os.O_RDONLY))"
_AS_SPAWNED = "from multiprocessing.spawn import spawn_main; " + _LOAD


@pytest.mark.parametrize(("code", "shell"), [
    pytest.param(_LOAD, False, id="a Python program that runs another"),
    pytest.param(_AS_SPAWNED, True, id="a shell that runs a worker"),
])
def test_who_only_runs_a_program_that_loads_is_not_of_its_server(host: Host, artifact: Path, code: str, shell: bool) -> None:
    command = ["/bin/sh", "-c", '"$0" "$@"; true'] if shell else []
    program = "import subprocess, sys; subprocess.run([*eval(sys.argv[2]), sys.executable, '-S', '-c', sys.argv[3], sys.argv[1]])"
    _loads_alone(host, artifact, program, repr(command), code)


def test_a_worker_does_not_take_in_a_launcher_in_another_session(host: Host, artifact: Path) -> None:
    program = "import subprocess, sys; subprocess.run([sys.executable, '-Sc', *sys.argv[:0:-1]], start_new_session=True)"
    _loads_alone(host, artifact, program, _AS_SPAWNED)
