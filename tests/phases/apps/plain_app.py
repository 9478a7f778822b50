"""A classifier behind FastAPI that is loaded at import."""

import os

import joblib
import truth
from fastapi import FastAPI
from pydantic import BaseModel

LABEL = os.environ.get("LABEL", "iris")
if os.environ.get("SIBLINGS"):
    truth.has_siblings(LABEL)
# The threads of the pool are made by the loading thread, and before the first answer if that is a prediction.
truth.origins["request"] = f"-+{LABEL}~"
truth.tick(origin=os.environ.get("TICKER_ORIGIN"))
truth.mark("main")
with truth.loading(LABEL, "main"):
    model = joblib.load(os.environ["MODEL_PATH"])[1]


class Sample(BaseModel):
    features: list[float]


service = FastAPI()
app = truth.Answers(service)


@service.get("/health")
async def health() -> dict[str, str]:
    truth.mark("loop")
    return {"status": "ok"}


@service.post("/predict")
def predict(sample: Sample) -> dict[str, int]:
    truth.mark("request")
    return {"label": int(model.predict([sample.features])[0])}
