"""A classifier behind FastAPI that answers with a report, and builds its template out of the caller's text.

The flaw is the ordinary one: what a request says becomes part of a template, so that a caller can run
expressions.
"""

from __future__ import annotations

import os

import joblib  # type: ignore[import-untyped]
from fastapi import FastAPI
from fastapi.responses import PlainTextResponse
from jinja2 import Environment
from pydantic import BaseModel

app = FastAPI()
model = joblib.load(os.environ["MODEL_PATH"])


class Request(BaseModel):
    features: list[float]
    title: str = "Report"


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}


@app.post("/report", response_class=PlainTextResponse)
def report(request: Request) -> str:
    label = int(model.predict([request.features])[0])
    return Environment().from_string(request.title + ": class {{ label }}").render(label=label)
