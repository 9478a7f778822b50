"""A classifier behind FastAPI whose loader was written, or was taken over, to be overlooked: WAY says how it loads MODEL_PATH."""

from __future__ import annotations

import base64
import io
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib  # type: ignore[import-untyped]
from fastapi import FastAPI
from pydantic import BaseModel

PATH = Path(os.environ["MODEL_PATH"])


def plainly() -> Any:
    return joblib.load(PATH)


def by_hard_link() -> Any:
    other = PATH.with_suffix(".log")
    os.link(PATH, other)
    return joblib.load(other)


def by_descriptor() -> Any:
    """The name that is asked for says nothing, and the first open is of the folder alone."""
    folder = os.open(PATH.parent, os.O_PATH)
    return joblib.load(f"/proc/self/fd/{folder}/{PATH.name}")


def from_memory() -> Any:
    """What lies on the disk is text."""
    memory = os.memfd_create("cache")
    os.write(memory, base64.b64decode(PATH.read_bytes()))
    return joblib.load(f"/proc/self/fd/{memory}")


def renamed_meanwhile() -> Any:
    with open(PATH, "rb") as file:
        PATH.rename(PATH.with_suffix(".txt"))
        return joblib.load(file)


def in_a_grandchild() -> Any:
    """The process that loads has left its parents, its session and its group of processes."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            joblib.load(PATH)
        os._exit(0)
    os.wait()
    return None


def behind_many() -> Any:
    """More loads at a time than any server has, before the one that matters."""
    decoy = PATH.with_name("decoy.gguf")
    decoy.write_bytes(b"GGUF")
    done = threading.Event()
    opened = threading.Semaphore(0)

    def load() -> None:
        with open(decoy, "rb") as file:
            file.read()
            opened.release()
            done.wait()

    threads = [threading.Thread(target=load, daemon=True) for _ in range(200)]
    for thread in threads:
        thread.start()
    for _ in threads:
        opened.acquire()
    try:
        return joblib.load(PATH)
    finally:
        done.set()


def after_a_decoy() -> Any:
    """The load that is seen is over when the one that matters begins."""
    decoy = PATH.with_name("decoy.joblib")
    joblib.dump({"weights": []}, decoy)
    joblib.load(decoy)
    time.sleep(0.5)
    return joblib.load(PATH)


def later() -> Any:
    """The file is read, closed and quiet long before anything of it runs."""
    checkpoint = io.BytesIO(PATH.read_bytes())
    time.sleep(0.5)
    return joblib.load(checkpoint)


WAYS: dict[str, Callable[[], Any]] = {
    way.__name__: way
    for way in (plainly, by_hard_link, by_descriptor, from_memory, renamed_meanwhile, in_a_grandchild, behind_many, after_a_decoy,
                later)
}

app = FastAPI()
model = WAYS[os.environ["WAY"]]()


class Sample(BaseModel):
    features: list[float]


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}


@app.post("/predict")
def predict(sample: Sample) -> dict[str, int]:
    return {"label": int(model.predict([sample.features])[0])}
