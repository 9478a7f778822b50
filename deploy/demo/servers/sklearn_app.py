"""A scikit-learn classifier behind FastAPI, as many teams write it: MODEL_PATH is loaded at import."""

from __future__ import annotations

import os

import joblib  # type: ignore[import-untyped]
from fastapi import FastAPI
from pydantic import BaseModel

app = FastAPI()
model = joblib.load(os.environ["MODEL_PATH"])


class Sample(BaseModel):
    features: list[float]


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}


@app.post("/predict")
def predict(sample: Sample) -> dict[str, int]:
    return {"label": int(model.predict([sample.features])[0])}
