"""Starting late, restarting, stopping: what a host that serves models goes through while Modelward comes and
goes.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.demo import models
from deploy.demo.expect import PYTHON, Expected
from deploy.demo.place import ModelServer
from tests.stack import Whole

pytestmark = pytest.mark.kernel

BIN = Path(sys.executable).parent


def _server(whole: Whole, name: str) -> ModelServer:
    path = whole.place.models / f"{name}.joblib"
    models.write_classifier(path)
    server = whole.place.uvicorn("flawed_app", path).wait()
    for _ in range(5):
        server.client.report("Report")
    return server


@pytest.fixture(scope="module")
def early(whole: Whole) -> Iterator[tuple[ModelServer, ModelServer]]:
    """Two servers that were in service before the agent started again: one has closed its model's file, one
    has it mapped.
    """
    assert whole.stack.stop_agent() == 0
    closed = _server(whole, "early")
    path = whole.place.models / "mapped.gguf"
    models.write_llama(path, "mapped")
    mapped = whole.place.llama(path).wait()
    mapped.client.complete(5)
    whole.stack.start_agent()
    yield closed, mapped
    closed.stop()
    mapped.stop()


def test_server_that_was_there_before_the_agent_is_watched(whole: Whole, early: tuple[ModelServer, ModelServer]) -> None:
    """Which model it serves cannot be known any more: it read the file and closed it. That it serves is reconstructed until
    it answers again.
    """
    server = early[0]
    server.client.read_through(str(whole.place.credentials))
    outcome = whole.watch.wait(server.pid, [Expected("credential_read", ("serve",), (PYTHON,), "")])
    assert outcome.exact, whole.watch.of(server.pid)
    assert {detection.evidence for detection in outcome.met.values()} == {"reconstructed"}


def test_model_that_a_server_had_mapped_before_the_agent_came_is_known(
    whole: Whole, early: tuple[ModelServer, ModelServer]
) -> None:
    server = early[1]
    server.client.complete(5)
    whole.watch.settle()
    rows = whole.console.query(
        "SELECT DISTINCT model_id AS model, lifecycle_evidence AS evidence, lifecycle_phase AS phase FROM events "
        f"WHERE event_name = 'lifecycle' AND lifecycle_trigger = 'adopted' AND process_pid = {server.pid} "
        "AND model_instance != 0"
    )
    assert {(row["model"], row["evidence"]) for row in rows} == {("mapped", "reconstructed")}, rows


def test_model_is_known_by_name_and_digest(whole: Whole) -> None:
    server = _server(whole, "known")
    path = whole.place.models / "known.joblib"
    whole.watch.settle()
    digest = subprocess.run(["sha256sum", str(path)], capture_output=True, text=True, check=True).stdout.split()[0]
    rows = [row for row in whole.console.get("models") if row["path"] == str(path)]
    assert [(row["digest"], row["format"]) for row in rows] == [(digest, "joblib")]
    listed = subprocess.run(
        [str(BIN / "modelward"), "--url", whole.console.url, "--json", "models"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert digest in listed.stdout
    server.stop()


def test_artifact_that_is_gone_before_it_could_be_read_stops_nothing(whole: Whole) -> None:
    path = whole.place.models / "gone.gguf"
    path.write_bytes(b"GGUF")
    code = "import os, sys; os.open(sys.argv[1], os.O_RDONLY); os.unlink(sys.argv[1]); os.listdir('/')"
    subprocess.run([sys.executable, "-c", code, str(path)], check=True)
    whole.watch.settle()
    opened = whole.console.query(f"SELECT count() AS n FROM events WHERE event_name = 'file_open' AND file_path = '{path}'")
    assert int(opened[0]["n"]) == 1


def test_server_whose_artifact_is_missing_fails_alone(whole: Whole) -> None:
    server = whole.place.uvicorn("sklearn_app", whole.place.models / "nowhere.joblib")
    assert server.process.wait(60) != 0
    whole.detects(server)


def test_ledger_has_the_same_count_at_every_hop_once_the_agent_has_stopped(whole: Whole) -> None:
    server = _server(whole, "counted")
    server.stop()
    assert whole.stack.stop_agent() == 0
    deadline = time.monotonic() + 20
    while (gaps := _unequal(whole)) and time.monotonic() < deadline:
        time.sleep(0.5)
    whole.stack.start_agent()
    assert not gaps


def _unequal(whole: Whole) -> list[str]:
    """Kinds and hops at which the count differs from what came out of the kernel. The last word of an agent is older than
    its last sending, so ``sent`` is not among the hops.
    """
    rows = whole.console.query("SELECT epoch, hop, kind, count FROM ledger")
    counts = {(row["epoch"], row["kind"], row["hop"]): int(row["count"]) for row in rows}
    found = []
    for epoch, kind in {(epoch, kind) for epoch, kind, _ in counts}:
        drained = counts.get((epoch, kind, "drained"), 0)
        for hop in ("spooled", "received", "stored"):
            if counts.get((epoch, kind, hop), 0) != drained:
                found.append(f"{kind}: drained {drained}, {hop} {counts.get((epoch, kind, hop), 0)}")
    return found


def test_check_says_which_door_each_effect_has_and_proves_it() -> None:
    done = subprocess.run([str(BIN / "modelward-agent"), "check"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for effect in ("exec", "fork", "exit", "file_open", "connect"):
        assert effect in done.stdout


def test_both_daemons_end_cleanly_on_sigterm_and_leave_no_process(whole: Whole) -> None:
    agent, collector = whole.stack.agent, whole.stack.collector
    assert agent is not None
    assert collector is not None
    sessions = {agent.pid, collector.pid}
    assert whole.stack.stop_agent() == 0
    assert whole.stack.stop_collector() == 0
    left = [pid for pid in _processes() if _session(pid) in sessions]
    assert left == []


def _processes() -> list[int]:
    return [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return 0
