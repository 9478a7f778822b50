"""A server that starts empty, answers health checks all along, and loads models when it is told to or one is asked for first."""

import contextlib
import os
import threading

import joblib
import truth
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel

MODELS = os.environ["MODELS"]
models = {}
one_at_a_time = threading.Lock()
truth.tick()
truth.mark("main")


class Sample(BaseModel):
    features: list[float]
    model: str = "iris"


class Source(BaseModel):
    model: str
    replaces: str = ""
    unlink: bool = False
    threads: int = 1
    mapped: bool = False


service = FastAPI()
app = truth.Answers(service)


def load(source: Source) -> None:
    path = os.path.join(MODELS, source.model + ".joblib")
    with truth.loading(source.model, "request", replaces=bool(source.replaces)):
        with open(path, "rb") as opened:
            if source.unlink:
                os.unlink(path)
            loaded = joblib.load(path, mmap_mode="r") if source.mapped else joblib.load(opened)
    models.pop(source.replaces, None)
    models[source.model] = loaded[1]


@service.get("/health")
async def health() -> dict[str, str]:
    truth.mark("loop")
    return {"status": "ok"}


@service.post("/load")
def load_it(source: Source) -> dict[str, int]:
    threads = [threading.Thread(target=load, args=(source,)) for _ in range(source.threads - 1)]
    for thread in threads:
        thread.start()
    try:
        load(source)
    except Exception as e:
        raise HTTPException(500, f"{type(e).__name__}: {e}") from e
    finally:
        for thread in threads:
            thread.join()
    return {"loaded": len(models)}


@service.post("/predict")
def predict(sample: Sample) -> dict[str, int]:
    with one_at_a_time if sample.model not in models else contextlib.nullcontext():
        if sample.model not in models:
            load(Source(model=sample.model))
    truth.mark("request")
    return {"label": int(models[sample.model].predict([sample.features])[0])}
