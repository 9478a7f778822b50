"""BentoML: a worker with the listening socket of its parent; it loads one model at its start, and others when asked for."""

import os

import bentoml
import joblib
import truth


@bentoml.service(workers=1)
class Flowers:
    def __init__(self) -> None:
        truth.mark("main")
        truth.tick()
        self.models = {}
        self._load("iris", "main")

    def _load(self, label: str, role: str) -> None:
        with truth.loading(label, role):
            loaded = joblib.load(os.path.join(os.environ["MODELS"], f"{label}.joblib"))
        self.models[label] = loaded[1]

    @bentoml.api
    def load(self, label: str) -> str:
        truth.mark("request")
        self._load(label, "request")
        return label

    @bentoml.api
    def predict(self, label: str, features: list[float]) -> int:
        truth.mark("request")
        return int(self.models[label].predict([features])[0])
