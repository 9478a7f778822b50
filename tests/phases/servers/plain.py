"""uvicorn, gunicorn and the llama.cpp server, as plainly as they are used."""

from __future__ import annotations

import threading

from tests.phases.run import Run
from tests.phases.server import Model, Server

IRIS = {"iris": Model("iris.joblib")}
BOTH = {**IRIS, "roses": Model("roses.joblib")}
UVICORN = ("{python}", "-m", "uvicorn", "--host", "127.0.0.1", "--port", "{port}", "--log-level", "warning")
GUNICORN = ("{python}", "{bin}/gunicorn", "--workers", "2", "--worker-class", "uvicorn.workers.UvicornWorker",
            "--bind", "127.0.0.1:{port}", "--config", "gunicorn_hooks.py")
MODEL_PATH = {"MODEL_PATH": "{models}/iris.joblib"}


def classify(run: Run) -> None:
    """Wait until it is ready, and ask it."""
    run.ready()
    run.classify(60)


def lazy(run: Run) -> None:
    """The first request loads; the loop has answered health checks before and goes on answering them."""
    run.ready()
    run.calm(0.5)
    run.classify(60)


def swap(run: Run) -> None:
    """The same file anew, then another in its place, while requests go on; then a second beside it."""
    lazy(run)
    ended = threading.Event()

    def ask() -> None:
        while not ended.is_set():
            run.classify(1, model="iris")
            run.calm(0.05)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        run.make("make_joblib.py", "iris.joblib=slow")
        run.post("/load", {"model": "iris", "replaces": "iris"})
        run.calm(0.3)
        run.make("make_joblib.py", "roses.joblib")
        run.post("/load", {"model": "roses"})
        run.classify(20, model="roses")
    finally:
        ended.set()
        asking.join()
    run.classify(20, model="iris")


def background(run: Run) -> None:
    """Refused until it is loaded, though the server lives."""
    run.ready("/live")
    run.classify_when_ready(60)


def complete(run: Run) -> None:
    """Completions of a llama."""
    run.ready()
    for number in range(40):
        run.post("/v1/completions", {"prompt": f"a b c {number}", "max_tokens": 4})


_ONE = ("make_joblib.py", "iris.joblib")
_SLOW = ("make_joblib.py", "iris.joblib=slow")
LAZILY = {"MODELS": "{models}"}
SIBLINGS = {**MODEL_PATH, "SIBLINGS": "1"}
LLAMA = ("{python}", "llama_app.py", "{models}/little.gguf", "{port}")
LITTLE = {"little": Model("little.gguf")}

SERVERS = [
    Server("uvicorn import", (*UVICORN, "plain_app:app"), IRIS, classify, make=_ONE, variables=MODEL_PATH, short=True),
    Server("uvicorn lazy", (*UVICORN, "lazy_app:app"), IRIS, lazy, make=_ONE, variables=LAZILY, short=True),
    Server("uvicorn background", (*UVICORN, "background_app:app"), IRIS, background, make=_SLOW, variables=MODEL_PATH,
           short=True),
    Server("uvicorn background, health 200", (*UVICORN, "background_app:app"), IRIS, background, make=_SLOW,
           variables=MODEL_PATH, health="/live"),
    Server("uvicorn swap", (*UVICORN, "lazy_app:app"), BOTH, swap, make=_ONE, variables=LAZILY, short=True),
    Server("uvicorn workers", (*UVICORN, "--workers", "2", "plain_app:app"), IRIS, classify, make=_ONE, variables=SIBLINGS,
           short=True),
    Server("gunicorn", (*GUNICORN, "plain_app:app"), IRIS, classify, make=_ONE, variables=SIBLINGS, short=True),
    Server("gunicorn preload", (*GUNICORN, "--preload", "plain_app:app"), IRIS, classify, make=_ONE,
           variables={**SIBLINGS, "PRELOAD": "1"}, short=True),
    Server("llama.cpp", LLAMA, LITTLE, complete, make=("make_llama.py",), listed=False, short=True),
]
