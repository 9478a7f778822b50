"""Become the Triton server of nvidia-pytriton: ``triton_start.py MODELS PORT``."""

import os
import sys
from pathlib import Path

import pytriton

models, port = sys.argv[1:]
wheel = Path(pytriton.__file__).parent
os.environ["LD_LIBRARY_PATH"] = str(wheel.parent / "nvidia_pytriton.libs")
server = str(wheel / "tritonserver" / "bin" / "tritonserver")
os.execv(server, [server, f"--model-repository={models}/repository", f"--backend-directory={models}/backends",
                  "--model-control-mode=explicit", "--http-address=127.0.0.1", f"--http-port={port}", "--allow-grpc=false",
                  "--allow-metrics=false", "--exit-timeout-secs=5"])
