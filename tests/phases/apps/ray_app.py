"""Ray Serve: a replica, exec'd for each deployment, loads in a thread that is not its main one and infers; a proxy answers."""

import os

import joblib
import truth
from ray import serve
from starlette.requests import Request

FIRST = "iris"


@serve.deployment
class Flower:
    def __init__(self, label: str) -> None:
        if label == FIRST:
            truth.mark("loader")
            truth.tick()
        else:
            truth.mark("loader", phase="start+load+warmup+serve", model=f"-+{FIRST}")
        with truth.loading(label):
            self.model = joblib.load(os.path.join(os.environ["MODELS"], f"{label}.joblib"))[1]

    async def __call__(self, request: Request) -> dict[str, int]:
        truth.mark("request")
        body = await request.json()
        return {"label": int(self.model.predict([body["features"]])[0])}
