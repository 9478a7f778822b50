"""Inference servers of their own kind, whose loader, network process and inference process differ."""

from __future__ import annotations

from tests.phases.run import Run
from tests.phases.server import Model, Server
from tests.phases.servers.frameworks import TORCH
from tests.phases.servers.plain import BOTH, IRIS

SKLEARN = ("scikit-learn>=1.9,<2", "joblib>=1.5,<2")
TRITON = ("nvidia-pytriton==0.7.*", "safetensors>=0.8,<1")
# The newest uvloop makes no event loop in MLServer's worker.
MLSERVER = ("mlserver==1.7.*", "uvloop<0.22", *SKLEARN)
LITSERVE = ("litserve==0.2.*", *SKLEARN)
BENTOML = ("bentoml==1.4.*", *SKLEARN)
RAY = ("ray[serve]==2.60.*", *SKLEARN)


def triton(run: Run) -> None:
    """It says that it is ready before it has a model; models come and go by its API."""
    body = {"inputs": [{"name": "x", "shape": [8], "datatype": "FP32", "data": [1.0] * 8}]}

    def infer(label: str, times: int) -> None:
        for _ in range(times):
            run.post(f"/v2/models/{label}/infer", body)

    run.ready()
    run.calm(0.3)
    run.post("/v2/repository/models/lilies/load", {})
    infer("lilies", 30)
    run.post("/v2/repository/models/roses/load", {})
    infer("roses", 15)
    infer("lilies", 5)
    run.post("/v2/repository/models/lilies/unload", {})
    infer("roses", 5)


def mlserver(run: Run) -> None:
    """The parent is ready before its worker has loaded; models come and go by its API."""
    body = {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [5.1, 3.5, 1.4, 0.2]}]}

    def infer(label: str, times: int) -> None:
        for _ in range(times):
            run.post(f"/v2/models/{label}/infer", body)

    run.ready()
    run.calm(0.3)
    run.post("/v2/repository/models/iris/load", {})
    infer("iris", 30)
    run.post("/v2/repository/models/roses/load", {})
    infer("roses", 15)
    infer("iris", 5)
    run.post("/v2/repository/models/iris/unload", {})
    infer("roses", 5)


def bentoml(run: Run) -> None:
    """A second model is loaded by a request."""
    run.ready()
    run.classify(25, label="iris")
    run.post("/load", {"label": "roses"})
    run.classify(15, label="roses")
    run.classify(5, label="iris")


def litserve(run: Run) -> None:
    """One model, as its API has it."""
    run.ready()
    run.classify(50)


def ray(run: Run) -> None:
    """A second deployment, with a replica of its own, comes while the first serves."""
    features = {"features": [5.1, 3.5, 1.4, 0.2]}

    def answers(path: str) -> bool:
        return run.refused(path, features) < 400

    run.ready()
    run.wait_for(lambda: answers("/iris"), "serving the first model", 60)
    for _ in range(25):
        run.post("/iris", features)
    (run.state / "wanted").touch()
    run.wait_for(lambda: answers("/roses"), "serving the second model", 60)
    for _ in range(15):
        run.post("/roses", features)
        run.post("/iris", features)


def vllm(run: Run) -> None:
    """An adapter comes while the model serves."""
    run.ready()
    for _ in range(30):
        run.post("/v1/completions", {})
    run.post("/v1/load_lora_adapter", {"lora_path": f"{run.models}/petals"})
    for _ in range(15):
        run.post("/v1/completions", {})


def ollama(run: Run) -> None:
    """A runner for each model, the first ended while the second serves."""

    def generate(name: str, times: int) -> None:
        for number in range(times):
            run.post("/api/generate", {"model": name, "prompt": f"a b c {number}"})

    run.ready()
    run.calm(0.3)
    generate("lilies", 20)
    generate("roses", 15)
    generate("lilies", 5)
    run.post("/api/unload/lilies", {})
    generate("roses", 10)


REPOSITORY = {"lilies": Model("repository/lilies/1/weights.pkl", id="lilies"),
              "roses": Model("repository/roses/1/weights.safetensors", id="roses")}
SHARDED = {"lilies": Model("lilies/model-00001-of-00002.safetensors", "lilies", "", ("lilies/*.safetensors",)),
           "petals": Model("petals/adapter_model.safetensors", id="petals")}
FOLDERS = {label: Model(f"{label}/{label}.joblib") for label in BOTH}
BLOBS = {label: Model("store/blobs", id=label, digest="") for label in ("lilies", "roses")}
JOBLIB = ("make_joblib.py", "iris.joblib", "roses.joblib")

PYTHON = "{python}"
AT = ("--host", "127.0.0.1", "--port", "{port}")

SERVERS = [
    Server("Triton", (PYTHON, "triton_start.py", "{models}", "{port}"), REPOSITORY, triton, requires=TRITON,
           make=("make_triton.py", "lilies", "roses"), health="/v2/health/ready", listed=False),
    Server("MLServer", (PYTHON, "{bin}/mlserver", "start", "{models}"), FOLDERS, mlserver, requires=MLSERVER,
           make=("make_mlserver.py", "{port}", "iris", "roses"), health="/v2/health/ready"),
    Server("BentoML", (PYTHON, "{bin}/bentoml", "serve", "bentoml_app:Flowers", *AT), BOTH, bentoml, requires=BENTOML,
           make=JOBLIB, variables={"MODELS": "{models}", "BENTOML_DO_NOT_TRACK": "True"}, health="/readyz"),
    Server("LitServe", (PYTHON, "litserve_app.py", "{models}/iris.joblib", "{port}"), IRIS, litserve, requires=LITSERVE,
           make=("make_joblib.py", "iris.joblib"), listed=False),
    Server("Ray Serve", (PYTHON, "ray_start.py", "{port}", "{state}/wanted"), BOTH, ray, requires=RAY, make=JOBLIB,
           variables={"MODELS": "{models}", "RAY_USAGE_STATS_ENABLED": "0"}, health="/-/healthz", listed=False, patience_s=150.0),
    Server("vLLM's processes",
           (PYTHON, "-m", "vllm.entrypoints.openai.api_server", "--model", "{models}/lilies", "--port", "{port}"), SHARDED, vllm,
           requires=TORCH, make=("make_vllm.py", "lilies", "petals"), variables={"PYTHONPATH": "shapes:."}),
    Server("Ollama's processes", ("{models}/store/bin/ollama", "shapes/ollama.py", "serve", "{models}/store", "{port}"), BLOBS,
           ollama, make=("make_ollama.py", "store", "lilies", "roses")),
]
