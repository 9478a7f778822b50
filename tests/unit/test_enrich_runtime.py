"""Which server a command line is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelward_agent.enrich.runtime import guess

PYTHON = "/usr/bin/python3.11"


@pytest.mark.parametrize(
    ("path", "line", "name"),
    [
        (PYTHON, "python -m vllm.entrypoints.openai.api_server --model x", "vllm"),
        (PYTHON, "/opt/venv/bin/python /opt/venv/bin/vllm serve x", "vllm"),
        (PYTHON, "python3 -m sglang.launch_server", "sglang"),
        (PYTHON, "python -u -m llama_cpp.server", "llama.cpp"),
        ("/usr/local/bin/llama-server", "llama-server -m x.gguf", "llama.cpp"),
        ("/usr/local/bin/text-generation-launcher", "text-generation-launcher", "tgi"),
        (PYTHON, "python /usr/bin/text-generation-server serve x", "tgi"),
        ("/opt/tritonserver/bin/tritonserver", "tritonserver --model-repository=/m", "triton"),
        ("/usr/local/bin/ollama", "ollama serve", "ollama"),
        ("/usr/lib/jvm/bin/java", "java -cp x org.pytorch.serve.ModelServer", "torchserve"),
        ("/usr/lib/jvm/bin/java", "java -jar x.jar", "java"),
        (PYTHON, "python /usr/bin/serve run app:deployment", "ray serve"),
        (PYTHON, "ray::ServeReplica:app:Model", "ray serve"),
        (PYTHON, "python -m bentoml serve", "bentoml"),
        (PYTHON, "python /usr/bin/bentoml serve service:svc", "bentoml"),
        (PYTHON, "python /usr/bin/mlserver start .", "mlserver"),
        (PYTHON, "python /usr/bin/gunicorn app:app", "gunicorn"),
        (PYTHON, "python -W ignore -X dev -m uvicorn app:app", "uvicorn"),
        (PYTHON, "python /srv/app.py", "python"),
        (PYTHON, "python -c pass", "python"),
        ("/usr/bin/dash", "sh -c vllm", ""),
        ("", "", ""),
    ],
)
def test_a_server_is_taken_for_another(path: str, line: str, name: str) -> None:
    assert guess(path, [word.encode() for word in line.split()])[0] == name


@given(st.text(max_size=20), st.lists(st.binary(max_size=20), max_size=8))
def test_hostile_arguments_raise(path: str, arguments: list[bytes]) -> None:
    name, rank = guess(path, arguments)
    assert bool(name) == (rank > 0)
