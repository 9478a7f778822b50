"""The make-believe host of the demo: models, applications, and the home of the user who serves them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from deploy.demo.client import Client
from deploy.demo.processes import Processes, free_port

APPLICATIONS = Path(__file__).parent / "servers"


class ModelServer:
    """A model server that was started, and its client."""

    def __init__(self, processes: Processes, process: subprocess.Popen[bytes], port: int, model: str) -> None:
        self._processes = processes
        self.process, self.port, self.model = process, port, model
        self.client = Client(port)

    @property
    def pid(self) -> int:
        return self.process.pid

    def wait(self) -> ModelServer:
        """Wait until it answers. Raises DemoError when it does not."""
        self.client.wait(self._processes, self.process)
        return self

    def stop(self) -> int:
        """End it by SIGTERM; gives its exit status."""
        self.client.close()
        return self._processes.stop(self.process)


class Place:
    """Where models lie and servers run. ``applications``: folders to deploy beside the demo's own."""

    def __init__(self, processes: Processes, folder: Path, applications: Sequence[Path] = ()) -> None:
        self._processes = processes
        self.models, self.applications, self.home = folder / "models", folder / "srv", folder / "home"
        for source in (APPLICATIONS, *applications):
            shutil.copytree(source, self.applications, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__*__*"))
        self.models.mkdir()
        self.credentials = self.home / ".aws" / "credentials"
        self.credentials.parent.mkdir(parents=True)
        self.credentials.write_text("[default]\naws_access_key_id = opens-nothing\naws_secret_access_key = not-a-secret\n")
        self.credentials.chmod(0o600)

    def environment(self, **more: str) -> dict[str, str]:
        """What a model server sees: this place's home, one computing thread, no secrets of the caller."""
        inherited = {name: os.environ[name] for name in ("LANG", "LC_ALL", "TZ") if name in os.environ}
        path = f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"
        return {
            **inherited,
            "PATH": path,
            "HOME": str(self.home),
            "OMP_NUM_THREADS": "1",
            "PYTHONUNBUFFERED": "1",
            **more,
        }

    def llama(self, model: Path) -> ModelServer:
        """Start the llama.cpp server on a GGUF."""
        port = free_port()
        return self.serve([sys.executable, "llama_server.py", model, str(port)], port, model)

    def uvicorn(self, application: str, model: Path, before: Sequence[str] = (), **environment: str) -> ModelServer:
        """Start a FastAPI application under uvicorn. ``before``: a program that starts it, with arguments."""
        port = free_port()
        argv = [
            *before,
            sys.executable,
            "-m",
            "uvicorn",
            f"{application}:app",
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
        ]
        return self.serve(argv, port, model, **environment)

    def serve(self, argv: Sequence[str | Path], port: int, model: Path, **environment: str) -> ModelServer:
        """Start any server that listens on ``port`` and finds the checkpoint in MODEL_PATH."""
        env = self.environment(MODEL_PATH=str(model), **environment)
        process = self._processes.start(f"server-{model.stem}", argv, env=env, cwd=self.applications)
        return ModelServer(self._processes, process, port, model.stem)
