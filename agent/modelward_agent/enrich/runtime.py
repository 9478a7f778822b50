"""Which server a workload is, guessed from the program and arguments of its root or server process.

A guess, for people and rules to read; nothing is allowed because of it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

SPECIFIC = 3
"""Rank of a guess that names an inference server; a web server is 2, an interpreter 1, nothing 0."""

_PROGRAMS: dict[str, tuple[str, int]] = {
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
    "torchserve": ("torchserve", 3),
    "vllm": ("vllm", 3),
    "sglang": ("sglang", 3),
    "lmdeploy": ("lmdeploy", 3),
    "bentoml": ("bentoml", 3),
    "mlserver": ("mlserver", 3),
    "litserve": ("litserve", 3),
    "raylet": ("ray serve", 3),
    "gcs_server": ("ray serve", 3),
    "gunicorn": ("gunicorn", 2),
    "uvicorn": ("uvicorn", 2),
    "hypercorn": ("hypercorn", 2),
    "granian": ("granian", 2),
    "fastapi": ("uvicorn", 2),
    "java": ("java", 1),
    "node": ("node", 1),
}
_MODULES: dict[str, tuple[str, int]] = {
    "vllm": ("vllm", 3),
    "sglang": ("sglang", 3),
    "text_generation_server": ("tgi", 3),
    "llama_cpp": ("llama.cpp", 3),
    "xllamacpp": ("llama.cpp", 3),
    "lmdeploy": ("lmdeploy", 3),
    "tensorrt_llm": ("tensorrt-llm", 3),
    "bentoml": ("bentoml", 3),
    "_bentoml_impl": ("bentoml", 3),
    "mlserver": ("mlserver", 3),
    "litserve": ("litserve", 3),
    "pytriton": ("triton", 3),
    "ray": ("ray serve", 3),
    "ts": ("torchserve", 3),
    "model_service_worker": ("torchserve", 3),
    "gunicorn": ("gunicorn", 2),
    "uvicorn": ("uvicorn", 2),
    "hypercorn": ("hypercorn", 2),
    "fastapi": ("uvicorn", 2),
}
_INTERPRETER = re.compile(r"python(?:\d+(?:\.\d+)?)?t?\Z|pypy\d*(?:\.\d+)?\Z")
_TITLES = (("ray::serve", "ray serve"), ("ray::", "ray serve"), ("vllm::", "vllm"), ("sglang::", "sglang"))


def guess(path: str, arguments: Sequence[bytes]) -> tuple[str, int]:
    """Name and rank (0 unknown, 1 interpreter, 2 web server, 3 inference server) of what a process runs."""
    words = [argument.decode("utf-8", "replace") for argument in arguments[:64]]
    title = words[0].lower() if words else ""
    for start, name in _TITLES:
        if title.startswith(start):
            return name, 3
    program = path.rsplit("/", 1)[-1]
    best = _PROGRAMS.get(program, ("", 0))
    if words and best[1] < 2:
        best = max(best, _PROGRAMS.get(words[0].rsplit("/", 1)[-1], ("", 0)), key=lambda g: g[1])
    if _INTERPRETER.match(program):
        best = max(("python", 1), _of_python(words[1:]), best, key=lambda g: g[1])
    elif program == "java" and any("org.pytorch.serve" in word for word in words):
        best = ("torchserve", 3)
    return best


def _of_python(words: Sequence[str]) -> tuple[str, int]:
    """What ``python ARGS`` runs: the module after ``-m``, or the script."""
    position = 0
    while position < len(words):
        word = words[position]
        if word == "-m" and position + 1 < len(words):
            return _MODULES.get(words[position + 1].split(".")[0], ("python", 1))
        if word == "-c":
            return "python", 1
        if word in ("-W", "-X"):
            position += 1
        elif not word.startswith("-"):
            script = word.rsplit("/", 1)[-1]
            if script == "serve" and len(words) > position + 1 and words[position + 1] == "run":
                return "ray serve", 3
            by_name = _PROGRAMS.get(script) or _MODULES.get(script.removesuffix(".py"))
            return by_name or ("python", 1)
        position += 1
    return "python", 1
