"""A framework inside FastAPI: a thread of its own loads the first model while /health answers 503; others come when asked for.

FRAMEWORK: a module of ``frameworks``, whose ``load(path)`` gives the function that infers. MODELS: labels and paths, as JSON.
"""

import importlib
import json
import os
import threading

import truth
from fastapi import FastAPI, HTTPException

truth.mark("main")
framework = importlib.import_module("frameworks." + os.environ["FRAMEWORK"])
paths = json.loads(os.environ["MODELS"])
models = {}
truth.tick()


def load(label: str, role: str) -> None:
    with truth.loading(label, role):
        infer = framework.load(paths[label])
    models[label] = infer


def load_first() -> None:
    truth.mark("loader")
    load(next(iter(paths)), "loader")


threading.Thread(target=load_first, daemon=True).start()
service = FastAPI()
app = truth.Answers(service)


@service.get("/health")
async def health() -> dict[str, str]:
    truth.mark("loop")
    if not models:
        raise HTTPException(503, "loading")
    return {"status": "ok"}


@service.post("/load/{label}")
def load_another(label: str) -> dict[str, str]:
    truth.mark("request")
    load(label, "request")
    return {"loaded": label}


@service.post("/predict/{label}")
def predict(label: str) -> dict[str, str]:
    truth.mark("request")
    answer = models[label]()
    truth.mark("request")
    return {"answer": str(answer)}
