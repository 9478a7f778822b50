"""Names by which model servers and frameworks are known: of programs, modules, libraries and packages."""

from __future__ import annotations

PROGRAMS: dict[str, tuple[str, int]] = {
    "tritonserver": ("triton", 3),
    "triton_python_backend_stub": ("triton", 3),
    "ollama": ("ollama", 3),
    "llama-server": ("llama.cpp", 3),
    "llama_server": ("llama.cpp", 3),
    "llama-cli": ("llama.cpp", 3),
    "llamafile": ("llama.cpp", 3),
    "text-generation-launcher": ("tgi", 3),
    "text-generation-router": ("tgi", 3),
    "text-generation-server": ("tgi", 3),
    "text-embeddings-router": ("tei", 3),
    "tensorflow_model_server": ("tensorflow-serving", 3),
    "ovms": ("openvino-model-server", 3),
    "onnxruntime_server": ("onnxruntime-server", 3),
    "torchserve": ("torchserve", 3),
    "vllm": ("vllm", 3),
    "sglang": ("sglang", 3),
    "lmdeploy": ("lmdeploy", 3),
    "trtllm-serve": ("tensorrt-llm", 3),
    "bentoml": ("bentoml", 3),
    "mlserver": ("mlserver", 3),
    "litserve": ("litserve", 3),
    "xinference": ("xinference", 3),
    "raylet": ("ray serve", 3),
    "gcs_server": ("ray serve", 3),
    "gunicorn": ("gunicorn", 2),
    "uvicorn": ("uvicorn", 2),
    "hypercorn": ("hypercorn", 2),
    "granian": ("granian", 2),
    "daphne": ("daphne", 2),
    "waitress-serve": ("waitress", 2),
    "uwsgi": ("uwsgi", 2),
    "fastapi": ("uvicorn", 2),
    "flask": ("flask", 2),
    "java": ("java", 1),
    "node": ("node", 1),
}
"""Base names of programs and scripts: what runs, and its rank (see :mod:`modelward_agent.enrich.runtime`)."""

MODULES: dict[str, tuple[str, int]] = {
    "vllm": ("vllm", 3),
    "sglang": ("sglang", 3),
    "text_generation_server": ("tgi", 3),
    "llama_cpp": ("llama.cpp", 3),
    "xllamacpp": ("llama.cpp", 3),
    "lmdeploy": ("lmdeploy", 3),
    "tensorrt_llm": ("tensorrt-llm", 3),
    "mlc_llm": ("mlc-llm", 3),
    "xinference": ("xinference", 3),
    "bentoml": ("bentoml", 3),
    "_bentoml_impl": ("bentoml", 3),
    "mlserver": ("mlserver", 3),
    "litserve": ("litserve", 3),
    "kserve": ("kserve", 3),
    "sklearnserver": ("kserve", 3),
    "huggingfaceserver": ("kserve", 3),
    "pytriton": ("triton", 3),
    "ray": ("ray serve", 3),
    "default_worker": ("ray serve", 3),
    "ts": ("torchserve", 3),
    "model_service_worker": ("torchserve", 3),
    "gunicorn": ("gunicorn", 2),
    "uvicorn": ("uvicorn", 2),
    "hypercorn": ("hypercorn", 2),
    "granian": ("granian", 2),
    "daphne": ("daphne", 2),
    "waitress": ("waitress", 2),
    "fastapi": ("uvicorn", 2),
    "flask": ("flask", 2),
    "gradio": ("gradio", 2),
}
"""Modules that Python runs, or that a script imports."""

TITLES = (("ray::", "ray serve"), ("vllm::", "vllm"), ("sglang::", "sglang"))
"""How process titles begin that servers give themselves."""

MAPPED_SERVERS: dict[str, str] = {
    "vllm": "vllm",
    "sgl_kernel": "sglang",
    "libtritonserver": "triton",
    "lmdeploy": "lmdeploy",
    "tensorrt_llm": "tensorrt-llm",
    "mlc_llm": "mlc-llm",
}
"""Packages and libraries that no process has but that server's, whatever program it is."""

OWN_SERVERS = ("llama.cpp",)
"""Frameworks with a server in them: a plain script that maps one runs that server."""

FRAMEWORKS: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...] = (
    ("llama.cpp", ("xllamacpp", "llama_cpp", "libllama"), ("xllamacpp", "llama_cpp_python")),
    ("tensorrt", ("tensorrt", "tensorrt_libs", "tensorrt_bindings", "libnvinfer"), ("tensorrt",)),
    ("torch", ("torch", "libtorch_cpu", "libtorch"), ("torch",)),
    ("tensorflow", ("tensorflow", "libtensorflow_framework", "libtensorflow_cc", "libtensorflow"),
     ("tensorflow", "tensorflow_cpu")),
    ("tflite", ("tflite_runtime", "ai_edge_litert", "libtensorflowlite"), ("tflite_runtime", "ai_edge_litert")),
    ("jax", ("jaxlib",), ("jax", "jaxlib")),
    ("onnxruntime", ("onnxruntime", "libonnxruntime"), ("onnxruntime", "onnxruntime_gpu", "onnxruntime_openvino")),
    ("openvino", ("openvino", "libopenvino"), ("openvino",)),
    ("ctranslate2", ("ctranslate2", "libctranslate2"), ("ctranslate2",)),
    ("paddle", ("paddle",), ("paddlepaddle", "paddlepaddle_gpu")),
    ("xgboost", ("xgboost", "libxgboost"), ("xgboost", "xgboost_cpu")),
    ("lightgbm", ("lightgbm", "lib_lightgbm"), ("lightgbm",)),
    ("catboost", ("catboost", "_catboost"), ("catboost",)),
    ("scikit-learn", ("sklearn",), ("scikit_learn",)),
)
"""Label, packages or libraries that are mapped when it is used, distributions that carry its version. Most telling first."""

DISTRIBUTIONS: dict[str, tuple[str, ...]] = {
    "triton": ("nvidia_pytriton",),
    "llama.cpp": ("xllamacpp", "llama_cpp_python"),
    "tgi": ("text_generation_server",),
    "ray serve": ("ray",),
    "mlc-llm": ("mlc_llm", "mlc_llm_nightly"),
    "tensorrt-llm": ("tensorrt_llm",),
}
"""Of servers whose distribution is not called as they are."""

VERSION_FILES: dict[str, bytes] = {"triton": b"/opt/tritonserver/TRITON_VERSION"}
"""Where a server's own image says its version."""
