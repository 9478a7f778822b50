"""A server that compiles a kernel for its model at the first request, as JIT compilers do: compiler,
assembler, linker, dlopen of what they made.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import subprocess
import sys
import threading
from pathlib import Path

import joblib  # type: ignore[import-untyped]
from fastapi import FastAPI
from pydantic import BaseModel

SOURCE = """
double weighted(const double *x, int n) { double s = 0; for (int i = 0; i < n; i++) s += x[i]; return s; }
"""

app = FastAPI()
model = joblib.load(os.environ["MODEL_PATH"])
compiling = threading.Lock()


class Sample(BaseModel):
    features: list[float]


def kernel() -> ctypes.CDLL:
    """The compiled kernel, from the cache of this user."""
    folder = Path(f"/tmp/torchinductor_{os.environ.get('USER', 'server')}") / hashlib.sha256(SOURCE.encode()).hexdigest()[:16]
    library = folder / "kernel.so"
    with compiling:
        if not library.exists():
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "kernel.c").write_text(SOURCE)
            subprocess.run([sys.executable, "-c", "import platform; platform.machine()"], check=True)
            made = folder / "kernel.so.part"
            subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-o", str(made), str(folder / "kernel.c")], check=True)
            made.rename(library)
    return ctypes.CDLL(str(library))


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}


@app.post("/predict")
def predict(sample: Sample) -> dict[str, int]:
    values = (ctypes.c_double * len(sample.features))(*sample.features)
    function = kernel().weighted
    function.restype = ctypes.c_double
    function(values, len(sample.features))
    return {"label": int(model.predict([sample.features])[0])}
