"""Write a model repository for MLServer: ``make_mlserver.py PORT LABEL ...``."""

import json
import runpy
import socket
import sys
from pathlib import Path


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


port, *labels = sys.argv[1:]
sys.argv[1:] = [f"{label}.joblib" for label in labels]
runpy.run_path(str(Path(__file__).parent / "make_joblib.py"), run_name="__main__")
settings = {"host": "127.0.0.1", "http_port": int(port), "grpc_port": free_port(), "metrics_port": free_port(),
            "parallel_workers": 1, "load_models_at_startup": False}
Path("settings.json").write_text(json.dumps(settings))
for label in labels:
    Path(label).mkdir()
    file = Path(f"{label}.joblib").rename(Path(label) / f"{label}.joblib")
    model = {"name": label, "implementation": "mlserver_runtime.Flowers", "parameters": {"uri": str(file.resolve())}}
    (Path(label) / "model-settings.json").write_text(json.dumps(model))
