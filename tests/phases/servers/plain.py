"""uvicorn, gunicorn and the llama.cpp server, as plainly as they are used."""

from __future__ import annotations

from tests.phases.run import Run
from tests.phases.server import Model, Server

IRIS = {"iris": Model("iris.joblib")}
UVICORN = ("{python}", "-m", "uvicorn", "--host", "127.0.0.1", "--port", "{port}", "--log-level", "warning")


def classify(run: Run) -> None:
    """Wait until it is ready, and ask it."""
    run.ready()
    run.classify(60)


SERVERS = [
    Server("uvicorn import", (*UVICORN, "plain_app:app"), IRIS, classify, make=("make_joblib.py", "iris.joblib"),
           variables={"MODEL_PATH": "{models}/iris.joblib"}, short=True),
]
