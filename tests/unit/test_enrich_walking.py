"""Looks at what processes run, which may hang: when there is one, whose turn it is, and what becomes of one that hangs."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from modelward_agent.enrich import walking
from modelward_agent.enrich.proc_files import ProcFiles
from modelward_agent.enrich.process_table import Key, Program
from modelward_agent.enrich.runtime import Runtime
from modelward_agent.enrich.walking import Walked, Walks, kind, told_runtime
from modelward_agent.enrich.workloads import Kind, Workload
from modelward_agent.identity.worker_process import WorkerFailed, WorkerProcess

from tests.unit.fuse_server import mounted

PROC = ProcFiles(Path("/proc"))
UVICORN = {"name": "uvicorn", "rank": 2, "version": "1.2", "frameworks": [["torch", "2.0"]]}
ROOT: Key = (1, 1)


class Worker:
    """A fake: says what is set for each process, or nothing."""

    says: dict[int, Any]
    asked: list[tuple[str, int]]

    def __init__(self, job: dict[str, Any], silence_s: float, deadline_s: float, *, of: str, module: str) -> None:
        self._pid = job["pid"]
        self.asked.append((of, self._pid))

    def answers(self, until: str) -> Iterator[dict[str, Any]]:
        said = self.says.get(self._pid, UVICORN)
        if said == "hangs":
            time.sleep(0.03)
            raise WorkerFailed("could not be read: nothing came for 0.03 s")
        yield {"runtime": said}

    def kill(self) -> None: ...

    def close(self) -> None: ...


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> type[Worker]:
    fresh = type("Fresh", (Worker,), {"says": {}, "asked": []})
    monkeypatch.setattr(walking, "WorkerProcess", fresh)
    return fresh


@pytest.fixture
def walking_of() -> Iterator[Callable[..., Walks]]:
    made: list[Walks] = []

    def make(**given: float) -> Walks:
        made.append(Walks(Path("/proc"), **given))
        return made[-1]

    yield make
    for walks in made:
        walks.close()


def of(program: str = "/usr/bin/python3", line: str = "python app.py", *, key: Key = ROOT, ready: bool = False) -> Kind:
    return kind(Workload(root=ROOT), key, Program(0, program, line), "mnt:[1]", ready=ready)


def wait(walks: Walks, count: int, until: Callable[[], object] = lambda: False) -> list[tuple[Key, Walked]]:
    found: list[tuple[Key, Walked]] = []
    # Workers have the lowest priority: beside busy processes a look takes long.
    deadline = time.monotonic() + 120
    while len(found) < count and time.monotonic() < deadline and not until():
        found += walks.found()
        time.sleep(0.005)
    return found


def test_a_look_tells_what_a_process_runs(walking_of: Callable[..., Walks], worker: type[Worker]) -> None:
    walks, workload = walking_of(), Workload(id="a")
    assert walks.ask(workload, of(), ROOT, b"")
    [(key, walked)] = wait(walks, 1)
    assert (key, walked.workload, walked.runtime) == (ROOT, workload, Runtime("uvicorn", 2, "1.2", (("torch", "2.0"),)))


def test_processes_that_run_the_same_are_looked_at_once_when_they_start_and_once_when_they_have_loaded(
    walking_of: Callable[..., Walks], worker: type[Worker]
) -> None:
    walks, workload = walking_of(), Workload(id="a", root=ROOT)
    for number in range(2, 30):
        line = f"/usr/bin/python3 -c 'spawn_main(tracker_fd={number}, pipe_handle={number * 7})'"
        for ready in (False, True):
            assert walks.ask(workload, of(line=line, key=(number, 1), ready=ready), (number, 1), b"")
    wait(walks, 2)
    assert len(worker.asked) == 2


def test_another_program_command_line_or_mount_namespace_is_another_kind() -> None:
    kinds = {of(), of("/usr/bin/python3.12"), of(line="python b.py"), of(ready=True), of(key=(2, 1)),
             kind(Workload(root=ROOT), ROOT, Program(0, "/usr/bin/python3", "python app.py"), "mnt:[2]", ready=False)}
    assert len(kinds) == 6


def test_a_process_that_was_gone_leaves_its_kind_to_the_next(walking_of: Callable[..., Walks], worker: type[Worker]) -> None:
    worker.says[2] = None
    walks, workload = walking_of(), Workload(id="a")
    assert walks.ask(workload, of(), (2, 1), b"")
    assert wait(walks, 1, until=lambda: not workload.kinds) == []
    worker.says.clear()
    assert walks.ask(workload, of(), (3, 1), b"")
    assert [key for key, _ in wait(walks, 1)] == [(3, 1)]


def test_of_a_workload_only_some_kinds_are_looked_at_then_one_a_minute(
    walking_of: Callable[..., Walks], worker: type[Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(walking, "_WAITING_EACH", 1000)
    walks, workload, other = walking_of(), Workload(id="a"), Workload(id="b")
    kinds = [of(line=f"python {'x' * number}.py") for number in range(50)]
    assert sum(walks.ask(workload, each, ROOT, b"") for each in kinds) == walking._WALKS
    assert walks.ask(other, of(), ROOT, b"")
    walks._allowance._taken["a"] = walking._WALKS, 0.0  # a minute later
    assert sum(walks.ask(workload, each, ROOT, b"") for each in kinds[10:]) == 1


def test_groups_of_one_container_share_what_is_looked_for(
    walking_of: Callable[..., Walks], worker: type[Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(walking, "_WAITING_EACH", 1000)
    walks, groups = walking_of(), [Workload(id="container:a") for _ in range(50)]
    asked = [walks.ask(group, of(line=f"python {'x' * number}.py"), ROOT, b"") for number, group in enumerate(groups)]
    assert sum(asked) == walking._WALKS


def test_what_was_found_in_one_group_of_a_container_holds_for_the_next_one(
    walking_of: Callable[..., Walks], worker: type[Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    walks, first, second, other = walking_of(), *(Workload(id=name) for name in ("container:a", "container:a", "container:b"))
    assert walks.ask(first, of(), ROOT, b"")
    assert not walks.ask(second, of(), (2, 1), b""), "it is being looked for"
    wait(walks, 1)
    assert walks.ask(second, of(), (2, 1), b"")
    [(key, walked)] = wait(walks, 1)
    assert (key, walked.workload, walked.runtime and walked.runtime.name) == ((2, 1), second, "uvicorn")
    assert walks.ask(other, of(), (3, 1), b"")
    wait(walks, 1)
    assert worker.asked == [("container:a", 1), ("container:b", 3)]
    monkeypatch.setattr(walking, "_FOUND_S", 0.0)
    assert walks.ask(Workload(id="container:a"), of(), (4, 1), b""), "it was long ago"
    wait(walks, 1)
    assert worker.asked[2:] == [("container:a", 4)]


def test_many_workloads_together_have_a_share_of_the_time(walking_of: Callable[..., Walks], worker: type[Worker]) -> None:
    walks = walking_of()
    taken = sum(walks.ask(Workload(id=str(number)), of(), ROOT, b"") for number in range(500))
    assert walking._BURST <= taken <= walking._BURST + 1


def test_looks_that_hang_pause_those_of_their_own_workload_for_longer_each_time_and_no_others(
    walking_of: Callable[..., Walks], worker: type[Worker]
) -> None:
    worker.says[2] = "hangs"
    walks, bad, good = walking_of(), Workload(id="bad"), Workload(id="good")
    pauses = []
    for _ in range(8):
        assert walks.ask(bad, of(), (2, 1), b"")
        wait(walks, 1, until=lambda: not bad.kinds)
        assert not walks.ask(bad, of(), (2, 1), b"")
        assert not walks.ask(Workload(id="bad"), of(), (3, 1), b""), "another group of the same container"
        pause_s = walks._paused["bad"][1]
        walks._paused["bad"] = 0.0, pause_s  # later
        walks._allowance._taken.clear()
        pauses.append(pause_s)
    assert pauses == [60, 120, 240, 480, 960, 1920, 3600, 3600]
    assert walks.ask(good, of(), ROOT, b"")
    assert [walked.workload for _, walked in wait(walks, 1)] == [good]


def test_a_workload_with_many_looks_that_hang_costs_another_one_hang(
    walking_of: Callable[..., Walks], worker: type[Worker]
) -> None:
    worker.says |= dict.fromkeys(range(2, 10), "hangs")
    walks, bad, good = walking_of(), Workload(id="bad"), Workload(id="good")
    for number in range(2, 6):
        assert walks.ask(bad, of(line="x" * number), (number, 1), b"")
    assert walks.ask(good, of(), ROOT, b"")
    assert [walked.workload for _, walked in wait(walks, 1)] == [good]
    assert worker.asked[:2] in ([("bad", 2), ("good", 1)], [("good", 1), ("bad", 2)])


@pytest.mark.parametrize("change", [
    {"name": "evil\x1b[2J"}, {"name": "x" * 65}, {"rank": 9}, {"version": "1\n2"}, {"frameworks": [["nosuch", "1"]]},
    {"frameworks": [["torch", "\u202e"]]}, {"frameworks": 7}, {"rank": None},
])
def test_what_a_worker_may_be_made_to_say_is_no_runtime(change: dict[str, Any]) -> None:
    assert told_runtime(UVICORN).name == "uvicorn"
    with pytest.raises((ValueError, TypeError)):
        told_runtime(UVICORN | change)


def test_closing_ends_a_look_at_once(walking_of: Callable[..., Walks], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walking, "_MODULE", "http.server")  # says nothing, and does not end
    walks, workload = walking_of(), Workload(id="a")
    assert walks.ask(workload, of(), ROOT, b"")
    while (worker := walks._worker) is None:
        time.sleep(0.005)
    began = time.monotonic()
    walks.close()
    assert time.monotonic() - began < walking._ENDING_S
    assert not Path(f"/proc/{worker.pid}").exists()
    assert walks._paused == {}


def status(pid: int) -> dict[str, str]:
    return dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
@pytest.mark.parametrize("begun", [False, True], ids=["not read yet", "being read"])
def test_a_script_on_a_file_system_that_never_answers_stops_no_other_look(
    walking_of: Callable[..., Walks], tmp_path: Path, begun: bool
) -> None:
    """The real thing. What hangs over reading is a process that has no privileges any more, and it is killed. Where the workload
    waits for its script already, Linux waits for the same page when the file is opened, which nothing can end."""
    folder = tmp_path / "mount"
    folder.mkdir()
    (tmp_path / "sitecustomize.py").write_text("import time; time.sleep(600)")
    env = os.environ if begun else os.environ | {"PYTHONPATH": str(tmp_path)}
    walks = walking_of(silence_s=10)
    started: list[subprocess.Popen[bytes]] = []
    try:
        with mounted(folder, b"app.py", 1000, lambda offset, length: None) as script:
            try:
                started.append(subprocess.Popen([sys.executable, str(script)], stderr=subprocess.DEVNULL, env=env))
                deadline = time.monotonic() + 120
                while begun and "request_wait" not in Path(f"/proc/{started[0].pid}/wchan").read_text():
                    assert time.monotonic() < deadline
                    time.sleep(0.005)
                started.append(subprocess.Popen([sys.executable, "-c", "input()", "x"], stdin=subprocess.PIPE))
                keys = [PROC.key(process.pid) for process in started]
                bad, good = Workload(id="bad"), Workload(id="good")
                assert walks.ask(bad, of(), keys[0], b"")
                assert walks.ask(good, of(), keys[1], b"")
                seen: dict[str, str] = {}
                while not begun and seen.get("Uid", "").split() != ["65534"] * 4 and time.monotonic() < deadline:
                    worker: WorkerProcess | None = walks._worker
                    with_status = Path(f"/proc/{worker.pid}/status") if worker else None
                    seen = status(worker.pid) if worker and with_status and with_status.exists() else {}
                    time.sleep(0.005)
                assert begun or {seen[f"Cap{name}"].strip("0\n") for name in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {""}
                [(key, walked)] = wait(walks, 1)
                assert (key, walked.workload, walked.runtime and walked.runtime.name) == (keys[1], good, "python")
                assert "bad" in walks._paused
            finally:
                for process in started:
                    process.kill()
                walks.close()
    except OSError as e:
        pytest.skip(f"FUSE cannot be mounted here: {e.strerror}")
    finally:
        for process in started:
            process.wait()


def test_a_process_of_another_start_time_is_not_looked_at(walking_of: Callable[..., Walks]) -> None:
    pid, start_ns = PROC.key(os.getpid())
    walks, workload = walking_of(), Workload(id="a")
    assert walks.ask(workload, of(), (pid, start_ns + 10_000_000_000), b"")
    assert wait(walks, 1, until=lambda: not workload.kinds) == []
    walks.close()
