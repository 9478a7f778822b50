"""The inventory of models says what a real process loaded: id, revision, digest, format and source, for each layout."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import joblib
import pytest

from tests.stack import Whole
from tests.unit.identity_files import write_gguf, write_safetensors, write_torch

pytestmark = pytest.mark.kernel

PROGRAM = Path(__file__).parent / "programs" / "loads.py"


@contextmanager
def loading(kind: str, path: Path) -> Iterator[None]:
    """A process that has loaded a model, while the context is entered."""
    argv = [sys.executable, str(PROGRAM), kind, str(path)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "loaded\n"
        try:
            yield
        finally:
            process.kill()


def listed(whole: Whole, id: str, revision: str, digest: str, format: str, source: str, seconds: float = 240) -> None:
    """Wait until the inventory has exactly this model."""
    expected = {"model_id": id, "revision": revision, "digest": digest, "format": format, "source": source}
    until = time.monotonic() + seconds
    rows: list[dict[str, Any]] = []
    while time.monotonic() < until:
        rows = whole.console.query("SELECT model_id, revision, digest, format, source FROM models")
        if expected in rows:
            return
        time.sleep(0.5)
    raise AssertionError(f"no {expected} in:\n" + "\n".join(map(str, rows)))


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def joint(*paths: Path) -> str:
    return hashlib.sha256("\n".join(sorted(map(sha256, paths))).encode()).hexdigest()


def sharded(folder: Path) -> list[Path]:
    """A safetensors model of two shards in its folder."""
    folder.mkdir(parents=True)
    shards = [write_safetensors(folder / f"model-0000{n}-of-00002.safetensors", of=folder.name, part=str(n)) for n in (1, 2)]
    (folder / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"], "model_type": "llama"}))
    names = {f"w{number}": shard.name for number, shard in enumerate(shards)}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": names}))
    return shards


def test_a_sharded_folder(whole: Whole) -> None:
    shards = sharded(whole.folder / "tiny-llama")
    digest = joint(*shards)
    with loading("sharded", whole.folder / "tiny-llama"):
        listed(whole, "tiny-llama", "", digest, "safetensors", "folder")
    events = whole.console.query(
        "SELECT model_id, model_digest, model_architecture FROM events WHERE event_name = 'file_open' "
        f"AND file_path = '{shards[1]}' AND model_digest != ''")
    assert events[0] == {"model_id": "tiny-llama", "model_digest": digest, "model_architecture": "LlamaForCausalLM"}


def test_a_hugging_face_cache(whole: Whole) -> None:
    real = whole.folder / "for-the-cache"
    shards = sharded(real)
    repository = whole.folder / "hub/models--acme--tiny"
    snapshot = repository / "snapshots/9d3e"
    snapshot.mkdir(parents=True)
    (repository / "blobs").mkdir()
    for file in real.iterdir():
        blob = repository / "blobs" / sha256(file)
        blob.write_bytes(file.read_bytes())
        (snapshot / file.name).symlink_to(f"../../blobs/{blob.name}")
    digest = joint(*shards)
    with loading("sharded", snapshot):
        listed(whole, "acme/tiny", "9d3e", digest, "safetensors", "hf_cache")


def test_a_store_of_ollama(whole: Whole) -> None:
    models = whole.folder / "ollama/models"
    (models / "blobs").mkdir(parents=True)
    made = write_gguf(models / "blobs/x", name="what the file says")
    digest = sha256(made)
    blob = made.rename(models / f"blobs/sha256-{digest}")
    manifest = models / "manifests/registry.ollama.ai/library/llama3/8b"
    manifest.parent.mkdir(parents=True)
    layer = {"mediaType": "application/vnd.ollama.image.model", "digest": f"sha256:{digest}"}
    manifest.write_text(json.dumps({"layers": [layer]}))
    # No extension tells what this is: its first bytes do.
    with loading("file", blob):
        listed(whole, "llama3", "8b", digest, "gguf", "ollama")


def test_a_repository_of_triton(whole: Whole) -> None:
    made = whole.folder / "repository/linear/2/model.gguf"
    made.parent.mkdir(parents=True)
    write_gguf(made, name="another name")
    (made.parents[1] / "config.pbtxt").write_text('name: "linear"\n')
    digest = sha256(made)
    with loading("file", made):
        listed(whole, "linear", "2", digest, "gguf", "triton")


def test_a_joblib_file(whole: Whole) -> None:
    made = whole.folder / "fraud.joblib"
    joblib.dump({"weights": list(range(100))}, made)
    digest = sha256(made)
    with loading("joblib", made):
        listed(whole, "fraud", "", digest, "joblib", "file")


@pytest.mark.parametrize(("how", "format"), [("second-mapped", "safetensors"), ("second-read", "torch")])
def test_a_model_that_only_its_content_tells_is_found_late(whole: Whole, how: str, format: str) -> None:
    """The kernel side sees no first bytes of what is mapped, and a zip archive may hold anything."""
    write_gguf(whole.folder / "first.gguf")
    blob = whole.folder / how / "4711"
    blob.parent.mkdir()
    if format == "torch":
        write_torch(blob)
    else:
        write_safetensors(blob, name="unnamed", of=how)
    asked = ("SELECT lifecycle_evidence, lifecycle_phase, model_digest FROM events WHERE event_name = 'lifecycle' "
             f"AND file_path = '{blob}' AND lifecycle_trigger = 'late'")
    with loading(how, blob):
        # Before this process reads the file: it is of the same workload, which would know it by its first bytes then.
        until = time.monotonic() + 120
        while not whole.console.query(asked) and time.monotonic() < until:
            time.sleep(0.5)
        listed(whole, "4711" if format == "torch" else "unnamed", "", sha256(blob), format, "file")
    assert whole.console.query(asked) == [
        {"lifecycle_evidence": "reconstructed", "lifecycle_phase": "load", "model_digest": sha256(blob)}]


def test_a_restarted_agent_knows_what_it_hashed(whole: Whole) -> None:
    made = whole.folder / "kept.joblib"
    joblib.dump([1, 2, 3], made)
    digest = sha256(made)
    with loading("joblib", made):
        listed(whole, "kept", "", digest, "joblib", "file")
    kept = [json.loads(line) for line in (whole.folder / "agent/identities").read_bytes().splitlines() if line]
    assert [each["stamp"][1] for each in kept if each["digest"] == digest] == [made.stat().st_ino]
    whole.stack.stop_agent()
    whole.stack.start_agent()
    with loading("joblib", made):
        until = time.monotonic() + 240
        count = 0
        while count < 2 and time.monotonic() < until:
            count = int(whole.console.query(f"SELECT instances FROM models WHERE digest = '{digest}'")[0]["instances"])
            time.sleep(0.5)
    assert count == 2
