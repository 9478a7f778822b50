"""A server that gets its models by request, in a thread of the pool, while it answers others."""

from __future__ import annotations

import os
import pickle
from typing import Any

import joblib  # type: ignore[import-untyped]
from fastapi import FastAPI
from pydantic import BaseModel

app = FastAPI()
models: dict[str, Any] = {"first": joblib.load(os.environ["MODEL_PATH"])}


class Source(BaseModel):
    name: str
    path: str


class Sample(BaseModel):
    features: list[float]
    name: str = "first"


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}


@app.post("/load")
def load(source: Source) -> dict[str, str]:
    if source.path.endswith(".pkl"):
        with open(source.path, "rb") as file:
            models[source.name] = pickle.load(file)
    else:
        models[source.name] = joblib.load(source.path)
    return {"loaded": source.name}


@app.post("/predict")
def predict(sample: Sample) -> dict[str, int]:
    return {"label": int(models[sample.name].predict([sample.features])[0])}
