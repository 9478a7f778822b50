"""A model of Triton's Python backend: a process of its own, in which one thread loads and infers."""

import pickle
from pathlib import Path

import triton_python_backend_utils as triton
import truth
from safetensors.numpy import load_file

FIRST = "lilies"


class TritonPythonModel:
    def initialize(self, arguments):
        label = arguments["model_name"]
        # Triton's call to load this model goes on: its process starts in that load, or beside it, as Triton's threads have it.
        truth.origins["*"] = f"-+{label}+{label}~"
        if label == FIRST:
            truth.mark("main", phase="start+load+warmup", model=f"-+{FIRST}")
        else:
            # Its process is new in a server that serves another model.
            truth.mark("main", phase="start+serve", model=f"-+{FIRST}")
        folder = Path(arguments["model_repository"]) / arguments["model_version"]
        with truth.loading(label, "main"):
            if label == FIRST:
                with (folder / "weights.pkl").open("rb") as file:
                    self.weights = pickle.load(file)[1]
            else:
                self.weights = load_file(folder / "weights.safetensors")["w"]
        if label == FIRST:
            truth.tick()

    def execute(self, requests):
        answers = []
        for request in requests:
            truth.mark("request")
            x = triton.get_input_tensor_by_name(request, "x").as_numpy()
            answers.append(triton.InferenceResponse([triton.Tensor("y", x @ self.weights)]))
        return answers
