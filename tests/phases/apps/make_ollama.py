"""Fill a store as Ollama's, and put this interpreter into its bin as ``ollama``: ``make_ollama.py STORE NAME ...``."""

import hashlib
import json
import shutil
import sys
import sysconfig
from pathlib import Path

from deploy.demo.models import write_llama

store = Path(sys.argv[1])
blobs, library = store / "blobs", store / "manifests" / "registry.ollama.ai" / "library"
blobs.mkdir(parents=True)


def blob(content: bytes) -> dict[str, object]:
    """Keep a blob under its hash; gives what a manifest says of it."""
    digest = hashlib.sha256(content).hexdigest()
    (blobs / f"sha256-{digest}").write_bytes(content)
    return {"digest": f"sha256:{digest}", "size": len(content)}


for name in sys.argv[2:]:
    made = store / "made"
    write_llama(made, name)
    weights = {"mediaType": "application/vnd.ollama.image.model", **blob(made.read_bytes())}
    made.unlink()
    manifest = {"schemaVersion": 2, "config": blob(json.dumps({"model_format": "gguf"}).encode()), "layers": [weights]}
    (library / name).mkdir(parents=True)
    (library / name / "latest").write_text(json.dumps(manifest))

(store / "bin").mkdir()
shutil.copy(Path(sys.executable).resolve(), store / "bin" / "ollama")
(store / "pyvenv.cfg").write_text(f"home = {Path(sys.executable).resolve().parent}\n")
packages = store / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}"
packages.mkdir(parents=True)
(packages / "site-packages").symlink_to(sysconfig.get_paths()["purelib"])
