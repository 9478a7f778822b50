"""A server that starts empty and loads its models when they are asked for, in a pool thread, /health being
answered all along.
"""

from __future__ import annotations

import os
import threading
from typing import Any

import joblib  # type: ignore[import-untyped]
from fastapi import FastAPI
from pydantic import BaseModel

app = FastAPI()
models: dict[str, Any] = {}
loading = threading.Lock()


class Sample(BaseModel):
    features: list[float]
    path: str = os.environ["MODEL_PATH"]


class Source(BaseModel):
    path: str


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}


@app.post("/load")
def load(source: Source) -> dict[str, int]:
    models[source.path] = joblib.load(source.path)
    return {"loaded": len(models)}


@app.post("/predict")
def predict(sample: Sample) -> dict[str, int]:
    with loading:
        if sample.path not in models:
            models[sample.path] = joblib.load(sample.path)
    return {"label": int(models[sample.path].predict([sample.features])[0])}
