"""Become the Triton server of nvidia-pytriton, with the stub of this Python: ``triton_start.py STATE REPOSITORY PORT``."""

import os
import shutil
import sys
from pathlib import Path

import pytriton

state, repository, port = sys.argv[1:]
wheel = Path(pytriton.__file__).parent
stubs = wheel / "tritonserver" / "python_backend_stubs"
backends = Path(state) / "backends"
shutil.copytree(wheel / "tritonserver" / "backends", backends)
shutil.copy(stubs / "{}.{}".format(*sys.version_info) / "triton_python_backend_stub", backends / "python")
os.environ["LD_LIBRARY_PATH"] = str(wheel.parent / "nvidia_pytriton.libs")
server = str(wheel / "tritonserver" / "bin" / "tritonserver")
os.execv(server, [server, f"--model-repository={repository}", f"--backend-directory={backends}", "--model-control-mode=explicit",
                  "--http-address=127.0.0.1", f"--http-port={port}", "--allow-grpc=false", "--allow-metrics=false"])
