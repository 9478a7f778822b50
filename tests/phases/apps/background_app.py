"""A server that loads in a thread of its own and refuses until it is done: /health says 503, /live says 200."""

import os
import threading

import joblib
import truth
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel

LABEL = os.environ.get("LABEL", "iris")
models = []
truth.tick()


def load() -> None:
    truth.mark("loader")
    with truth.loading(LABEL):
        loaded = joblib.load(os.environ["MODEL_PATH"])
    models.append(loaded[1])


threading.Thread(target=load, daemon=True).start()


class Sample(BaseModel):
    features: list[float]


service = FastAPI()
app = truth.Answers(service)


@service.get("/health")
async def health() -> dict[str, str]:
    truth.mark("loop")
    if not models:
        raise HTTPException(503, "loading")
    return {"status": "ok"}


@service.get("/live")
async def live() -> dict[str, str]:
    truth.mark("loop")
    return {"status": "ok"}


@service.post("/predict")
def predict(sample: Sample) -> dict[str, int]:
    truth.mark("request")
    return {"label": int(models[0].predict([sample.features])[0])}
