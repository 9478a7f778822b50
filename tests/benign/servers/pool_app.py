"""A server whose models live in spawned worker processes, and that looks about its machine when it starts."""

from __future__ import annotations

import ctypes.util
import os
import platform
import subprocess
from collections.abc import AsyncIterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager
from multiprocessing import get_context
from typing import Any

import joblib  # type: ignore[import-untyped]
from fastapi import FastAPI
from pydantic import BaseModel

pool: ProcessPoolExecutor
model: Any = None


def begin(path: str) -> None:
    global model
    model = joblib.load(path)


def infer(features: list[float]) -> int:
    return int(model.predict([features])[0])


@asynccontextmanager
async def life(app: FastAPI) -> AsyncIterator[None]:
    global pool
    platform.processor()
    subprocess.run(["uname", "-p"], check=False, stdout=subprocess.DEVNULL)
    subprocess.run(["/sbin/ldconfig", "-p"], check=False, stdout=subprocess.DEVNULL)
    ctypes.util.find_library("gomp")
    context = get_context("spawn")
    with ProcessPoolExecutor(2, context, initializer=begin, initargs=(os.environ["MODEL_PATH"],)) as pool:
        list(pool.map(infer, [[5.1, 3.5, 1.4, 0.2]] * 4))
        yield


app = FastAPI(lifespan=life)


class Sample(BaseModel):
    features: list[float]


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}


@app.post("/predict")
def predict(sample: Sample) -> dict[str, int]:
    return {"label": pool.submit(infer, sample.features).result()}
