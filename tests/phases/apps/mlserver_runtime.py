"""A runtime of MLServer: its spawned worker loads and infers in one thread, and never has a TCP socket."""

from pathlib import Path

import joblib
import truth
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceResponse

ticking = []


class Flowers(MLModel):
    async def load(self) -> bool:
        if not ticking:
            ticking.append(self.name)
            truth.mark("main")
            truth.tick()
        with truth.loading(self.name, "main"):
            self.model = joblib.load(Path(self.settings.parameters.uri))[1]
        return True

    async def predict(self, payload):
        truth.mark("request")
        labels = self.model.predict(NumpyCodec.decode_input(payload.inputs[0]))
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("y", labels)])

    async def unload(self) -> bool:
        truth.unloaded(self.name)
        return True
