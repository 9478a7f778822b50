"""When a worker is taken for one that hangs, by workers that are asleep, compute or talk."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from modelward_agent.identity import worker_process
from modelward_agent.identity.worker_process import WorkerFailed, WorkerProcess

SAYS = "print('{\"said\": 1}', flush=True)\n"
COMPUTES = "import time\nend = time.monotonic() + {}\nwhile time.monotonic() < end:\n    pass\n"


@pytest.fixture
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., WorkerProcess]]:
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    made: list[WorkerProcess] = []

    def start(code: str, silence_s: float, deadline_s: float = 120.0) -> WorkerProcess:
        (tmp_path / f"worker{len(made)}.py").write_text(code)
        made.append(WorkerProcess({}, silence_s, deadline_s, module=f"worker{len(made)}"))
        return made[-1]

    yield start
    for each in made:
        each.close()


def test_one_that_computes_for_longer_than_it_may_be_silent_is_waited_for(worker: Callable[..., WorkerProcess]) -> None:
    assert [*worker(COMPUTES.format(2.5) + SAYS, 1.0).answers("")] == [{"said": 1}]


def test_one_of_the_lowest_priority_that_waits_for_a_cpu_is_waited_for(
    worker: Callable[..., WorkerProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_process, "_PATIENCE", 60)
    cpu = min(os.sched_getaffinity(0))
    busy = [subprocess.Popen([sys.executable, "-c", "while 1: pass"], preexec_fn=lambda: os.sched_setaffinity(0, {cpu}))
            for _ in range(2)]
    try:
        # A little work, beside others that take all but a hundredth of the time.
        work = f"import os, time\nos.sched_setaffinity(0, [{cpu}])\nos.nice(19)\nend = time.process_time() + 0.03\n"
        told = worker(work + "while time.process_time() < end:\n    pass\n" + SAYS, 1.0).answers("")
        assert next(told) == {"said": 1}
    finally:
        for each in busy:
            each.kill()
            each.wait()


def test_one_that_sleeps_is_given_up_in_time(worker: Callable[..., WorkerProcess]) -> None:
    began = time.monotonic()
    with pytest.raises(WorkerFailed, match="nothing came for 1 s"):
        next(worker("import time\ntime.sleep(60)\n", 1.0).answers(""))
    assert time.monotonic() - began < 1.0 * worker_process._PATIENCE


def test_one_that_computes_for_ever_is_given_up_after_some_times_its_silence(worker: Callable[..., WorkerProcess]) -> None:
    with pytest.raises(WorkerFailed, match="had no result after 3 s"):
        next(worker(COMPUTES.format(60), 0.5).answers(""))


def test_one_that_has_said_all_and_does_not_end_is_given_up(worker: Callable[..., WorkerProcess]) -> None:
    told = worker(SAYS + "import os, time\nos.close(1)\ntime.sleep(60)\n", 1.0).answers("")
    assert next(told) == {"said": 1}
    with pytest.raises(WorkerFailed, match="nothing came"):
        next(told)


def test_one_that_says_each_thing_late_has_the_whole_time_for_each(worker: Callable[..., WorkerProcess]) -> None:
    code = "import time\nfor _ in range(3):\n    time.sleep(0.7)\n    " + SAYS
    assert len([*worker(code, 1.0).answers("")]) == 3


def test_one_that_always_says_something_is_given_up_at_its_deadline(worker: Callable[..., WorkerProcess]) -> None:
    told = worker("import time\nwhile True:\n    time.sleep(0.1)\n    " + SAYS, 5.0, 2.0).answers("")
    began = time.monotonic()
    with pytest.raises(WorkerFailed, match="could not be read within 2 s"):
        list(told)
    assert time.monotonic() - began < 5.0


def test_one_that_is_silent_is_given_up_at_its_deadline(worker: Callable[..., WorkerProcess]) -> None:
    with pytest.raises(WorkerFailed, match="could not be read within 1 s"):
        next(worker("import time\ntime.sleep(60)\n", 30.0, 1.0).answers(""))
