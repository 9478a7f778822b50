"""Frameworks inside FastAPI: each loads one model at its start and a second one while the first is served."""

from __future__ import annotations

import json
from collections.abc import Mapping

from tests.phases.run import Run
from tests.phases.server import Model, Server
from tests.phases.servers.plain import UVICORN

SKLEARN = ("scikit-learn>=1.9,<2", "joblib>=1.5,<2", "skops>=0.16,<1", "lightgbm>=4.7,<5", "fastapi", "uvicorn")
TORCH = ("torch==2.13.0", "safetensors>=0.8,<1", "transformers>=5.24,<6", "numpy>=2,<3", "fastapi", "uvicorn")
ONNX = ("onnxruntime>=1.32,<2", "onnx>=1.23,<2", "fastapi", "uvicorn")
TENSORFLOW = ("tensorflow-cpu==2.21.*", "keras>=3.15,<4", "fastapi", "uvicorn")


def two_models(run: Run) -> None:
    """The second one comes while the first is served."""
    first, second = run.server.models
    run.ready()
    for _ in range(20):
        run.post(f"/predict/{first}", {})
    run.post(f"/load/{second}", {})
    for _ in range(15):
        run.post(f"/predict/{second}", {})
        run.post(f"/predict/{first}", {})


def _server(name: str, framework: str, requires: tuple[str, ...], make: tuple[str, ...], models: Mapping[str, Model],
            variables: Mapping[str, str] | None = None, patience_s: float = 120.0) -> Server:
    """``models``: their paths are what the framework is given, unless ``variables`` has others."""
    paths = {label: f"{{models}}/{model.path}" for label, model in models.items()}
    return Server(name, (*UVICORN, "framework_app:app"), models, two_models, requires=requires, make=make,
                  variables={"FRAMEWORK": framework, "MODELS": json.dumps(paths), **(variables or {})}, patience_s=patience_s)


_LABELS = ("lilies", "roses")


def _of_files(ending: str) -> dict[str, Model]:
    return {label: Model(f"{label}.{ending}") for label in _LABELS}


_SNAPSHOT = "hub/models--acme--{}/snapshots/0123456789abcdef0123456789abcdef01234567"
_CACHED = {
    "lilies": Model(_SNAPSHOT.format("lilies") + "/model.safetensors", id="acme/lilies"),
    # Of its small files, blobs too, only some are read with the weights.
    "roses": Model(_SNAPSHOT.format("roses") + "/model-00001-of-00004.safetensors", id="acme/roses", digest=""),
}
_EXTERNAL = {label: Model(f"{label}.onnx", digest="", artifacts=(f"{label}.onnx.data",)) for label in _LABELS}
_SAVED = {label: Model(f"{label}/1/saved_model.pb", id=label, digest="", artifacts=(f"{label}/1/variables/*",))
          for label in _LABELS}
_QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3"}

SERVERS = [
    _server("scikit-learn joblib", "sklearn_joblib", SKLEARN, ("make_joblib.py", "lilies.joblib", "roses.joblib"),
            _of_files("joblib")),
    _server("scikit-learn skops", "sklearn_skops", SKLEARN, ("make_sklearn.py", "skops", *_LABELS), _of_files("skops")),
    _server("LightGBM", "lightgbm_booster", SKLEARN, ("make_sklearn.py", "lgb", *_LABELS), _of_files("lgb")),
    _server("torch .pt", "torch_pickle", TORCH, ("make_torch.py", "pickle", *_LABELS), _of_files("pt")),
    _server("TorchScript", "torch_script", TORCH, ("make_torch.py", "script", *_LABELS), _of_files("pt")),
    _server("torch.export", "torch_export", TORCH, ("make_torch.py", "export", *_LABELS), _of_files("pt2")),
    _server("safetensors read", "safetensors_read", TORCH, ("make_torch.py", "safetensors", *_LABELS), _of_files("safetensors")),
    _server("safetensors mapped", "safetensors_mapped", TORCH, ("make_torch.py", "safetensors", *_LABELS),
            _of_files("safetensors")),
    _server("torch.compile", "torch_compile", TORCH, ("make_torch.py", "safetensors", *_LABELS), _of_files("safetensors"),
            {"TORCHINDUCTOR_CACHE_DIR": "{state}/inductor"}),
    _server("transformers", "transformers_cache", TORCH, ("make_transformers.py", "hub", "lilies=1MB", "roses=30KB"), _CACHED,
            {"MODELS": json.dumps({label: f"acme/{label}" for label in _LABELS}),
             "HF_HUB_CACHE": "{models}/hub", "HF_HUB_OFFLINE": "1"}),
    _server("onnxruntime", "onnx_external", ONNX, ("make_onnx.py", *_LABELS), _EXTERNAL),
    _server("Keras .keras", "keras_file", TENSORFLOW, ("make_keras.py", "keras", *_LABELS), _of_files("keras"), _QUIET),
    _server("Keras .h5", "keras_file", TENSORFLOW, ("make_keras.py", "h5", *_LABELS), _of_files("h5"), _QUIET),
    _server("TensorFlow SavedModel", "saved_model", TENSORFLOW, ("make_keras.py", "saved", *_LABELS), _SAVED,
            {"MODELS": json.dumps({label: f"{{models}}/{label}/1" for label in _LABELS}), **_QUIET}),
]
