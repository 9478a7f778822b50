"""A torch classifier behind FastAPI that trusts its checkpoint: all of the pickle is loaded, not weights
alone.
"""

from __future__ import annotations

import os

import torch  # type: ignore[import-not-found,import-untyped,unused-ignore]
from fastapi import FastAPI
from pydantic import BaseModel

app = FastAPI()
model = torch.load(os.environ["MODEL_PATH"], weights_only=False)


class Sample(BaseModel):
    features: list[float]


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}


@app.post("/predict")
def predict(sample: Sample) -> dict[str, int]:
    with torch.inference_mode():
        return {"label": int(model(torch.tensor(sample.features)).argmax())}
