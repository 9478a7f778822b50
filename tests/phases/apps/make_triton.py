"""Write a repository for Triton's Python backend: ``make_triton.py LABEL ...``; the first is pickled, others are safetensors.

The backend is laid out as nvidia-pytriton does it before it starts a server: a copy, with the stub of this Python.
"""

import pickle
import shutil
import sys
from pathlib import Path

import numpy as np
import pytriton
from safetensors.numpy import save_file
from witness import Witness

CONFIG = """name: "{label}"
backend: "python"
input [ {{ name: "x", data_type: TYPE_FP32, dims: [ 8 ] }} ]
output [ {{ name: "y", data_type: TYPE_FP32, dims: [ 4 ] }} ]
instance_group [ {{ kind: KIND_CPU, count: 1 }} ]
"""

for seed, label in enumerate(sys.argv[1:]):
    version = Path("repository", label, "1")
    version.mkdir(parents=True)
    (version.parent / "config.pbtxt").write_text(CONFIG.format(label=label))
    shutil.copy(Path(__file__).parent / "triton_model.py", version / "model.py")
    weights = np.random.default_rng(seed).normal(size=(8, 4)).astype(np.float32)
    if seed:
        save_file({"w": weights}, version / "weights.safetensors")
    else:
        with (version / "weights.pkl").open("wb") as file:
            pickle.dump([Witness(label), weights, Witness(label)], file)

wheel = Path(pytriton.__file__).parent / "tritonserver"
shutil.copytree(wheel / "backends", "backends")
shutil.copy(wheel / "python_backend_stubs" / "{}.{}".format(*sys.version_info) / "triton_python_backend_stub", "backends/python")
