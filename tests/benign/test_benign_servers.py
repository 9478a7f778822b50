"""Real model servers in ordinary life: nothing of it is detected, and what is recorded makes sense."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from deploy.demo import models
from deploy.demo.place import ModelServer
from deploy.demo.processes import free_port
from tests.stack import Whole

pytestmark = pytest.mark.kernel


def _model(whole: Whole, name: str) -> Path:
    path = whole.place.models / name
    models.write_classifier(path)
    return path


def _phases(whole: Whole, server: ModelServer) -> list[str]:
    """Phases that the workload of a server entered, each at its first time."""
    whole.watch.settle()
    rows = whole.console.query(
        "SELECT lifecycle_phase AS phase, min(time) AS first FROM events WHERE event_name = 'lifecycle' "
        f"AND process_root_id LIKE '%-{server.pid}-%' GROUP BY phase ORDER BY first"
    )
    return [row["phase"] for row in rows]


def _until(whole: Whole, server: ModelServer, phase: str) -> None:
    """Stop a server once its life was recorded, and see that nothing was detected in all of it."""
    assert phase in _phases(whole, server)
    whole.detects(server)


def test_uvicorn_with_a_model_loaded_at_import(whole: Whole) -> None:
    server = whole.place.uvicorn("sklearn_app", _model(whole, "plain.joblib")).wait()
    server.client.classify(200)
    phases = _phases(whole, server)
    assert [p for p in phases if p in ("load", "warmup", "serve")] == ["load", "warmup", "serve"]
    whole.detects(server)


def test_llama_cpp_server(whole: Whole) -> None:
    path = whole.place.models / "little.gguf"
    models.write_llama(path, "little")
    server = whole.place.llama(path).wait()
    server.client.complete(200)
    _until(whole, server, "serve")


def test_models_loaded_on_demand_and_swapped_while_health_is_asked_for(whole: Whole) -> None:
    first, second = _model(whole, "one.joblib"), _model(whole, "two.joblib")
    server = whole.place.uvicorn("lazy_app", first).wait()
    ended = threading.Event()

    def probe() -> None:
        while not ended.wait(0.05):
            subprocess.run(["curl", "-s", "-o", "/dev/null", f"http://127.0.0.1:{server.port}/health"], check=False)

    probing = threading.Thread(target=probe)
    probing.start()
    try:
        server.client.classify(30)
        for path in (second, first, second):
            _model(whole, path.name)
            server.client.post("/load", {"path": str(path)})
            server.client.classify(30)
    finally:
        ended.set()
        probing.join()
    _until(whole, server, "serve")


def test_gunicorn_that_loads_before_it_forks_its_workers(whole: Whole) -> None:
    port = free_port()
    gunicorn = Path(sys.executable).parent / "gunicorn"
    workers = ["--preload", "--workers", "2", "--worker-class", "uvicorn.workers.UvicornWorker"]
    argv: list[str | Path] = [
        sys.executable,
        gunicorn,
        *workers,
        "--bind",
        f"127.0.0.1:{port}",
        "sklearn_app:app",
    ]
    server = whole.place.serve(argv, port, _model(whole, "forked.joblib")).wait()
    server.client.classify(200)
    _until(whole, server, "serve")


def test_gunicorn_whose_workers_load_and_are_replaced(whole: Whole) -> None:
    port = free_port()
    gunicorn = Path(sys.executable).parent / "gunicorn"
    workers = ["--workers", "2", "--max-requests", "20", "--worker-class", "uvicorn.workers.UvicornWorker"]
    argv: list[str | Path] = [
        sys.executable,
        gunicorn,
        *workers,
        "--bind",
        f"127.0.0.1:{port}",
        "sklearn_app:app",
    ]
    server = whole.place.serve(argv, port, _model(whole, "replaced.joblib")).wait()
    for number in range(40):
        subprocess.run(
            ["curl", "-sf", "--retry", "5", "--retry-all-errors", f"http://127.0.0.1:{port}/health"],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        if number % 20 == 0:
            time.sleep(0.5)
    whole.detects(server)


def test_compiler_at_the_first_request(whole: Whole) -> None:
    server = whole.place.uvicorn("compiling_app", _model(whole, "compiled.joblib"), USER="bench").wait()
    shutil.rmtree("/tmp/torchinductor_bench", ignore_errors=True)
    server.client.classify(30)
    shutil.rmtree("/tmp/torchinductor_bench")
    _until(whole, server, "serve")


def test_spawned_workers_and_a_look_about_the_machine(whole: Whole) -> None:
    server = whole.place.uvicorn("pool_app", _model(whole, "pooled.joblib")).wait()
    server.client.classify(60)
    _until(whole, server, "serve")


def test_probe_that_is_entered_from_outside(whole: Whole) -> None:
    """As a container runtime does it: a process in the server's namespaces whose parent is not of the
    workload.
    """
    server = whole.place.uvicorn("sklearn_app", _model(whole, "probed.joblib")).wait()
    for _ in range(5):
        server.client.classify(10)
        entered = ["nsenter", "--target", str(server.pid), "--mount", "--net", "--pid"]
        probe = f"curl -sf http://127.0.0.1:{server.port}/health >/dev/null"
        subprocess.run([*entered, "sh", "-c", probe], check=True)
    _until(whole, server, "serve")


def test_model_files_that_are_hashed_copied_and_packed_by_operators(whole: Whole) -> None:
    path = _model(whole, "copied.joblib")
    commands = ('sha256sum "$0"', 'cp "$0" "$0.copy"', 'tar -C / -cf - "${0#/}" | gzip -c >"$0.tar.gz"', 'file -b "$0" || true')
    for command in commands:
        subprocess.run(["sh", "-c", command, str(path)], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    whole.watch.settle()
    opened = whole.console.query(f"SELECT count() AS n FROM events WHERE event_name = 'file_open' AND file_path = '{path}'")
    assert int(opened[0]["n"]) >= 1
    assert [d for d in whole.watch.all() if "copied" in (d.model, d.origin_model) or "copied" in d.file + d.command] == []
