"""Names by where an artifact lies: Hugging Face cache, Ollama's store, model folders, plain files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelward_agent.identity.opening import Place
from modelward_agent.identity.sources import Source, find_source, stem

SHA = b"0" * 60 + b"abcd"
REVISION = b"9d3e" * 10


@pytest.fixture
def place() -> Iterator[Place]:
    found = Place(os.open("/", os.O_PATH | os.O_DIRECTORY))
    yield found
    found.close()


def test_a_hugging_face_blob_is_not_named_after_its_repository() -> None:
    root = b"/root/.cache/huggingface/hub/models--meta-llama--Llama-3--8B"
    found = find_source(root + b"/blobs/" + SHA, root + b"/snapshots/" + REVISION + b"/model.safetensors", None)
    assert found == Source("hf_cache", b"meta-llama/Llama-3--8B", REVISION, SHA, certain=True)


def test_a_repository_without_an_owner_is_not_named() -> None:
    assert find_source(b"/c/models--gpt2/snapshots/abc/model.safetensors", b"", None).name == b"gpt2"


def test_a_blob_without_the_name_asked_for_is_not_named() -> None:
    found = find_source(b"/c/models--a--b/blobs/" + SHA, b"", None)
    assert (found.name, found.revision, found.digest) == (b"a/b", b"", SHA)


def test_an_ollama_blob_is_not_named_by_its_manifest(tmp_path: Path, place: Place) -> None:
    models = tmp_path / "models"
    for name, digest in (("other/latest", b"1" * 64), ("llama3/8b", SHA)):
        manifest = models / "manifests/registry.ollama.ai/library" / name
        manifest.parent.mkdir(parents=True)
        manifest.write_bytes(b'{"layers":[{"digest":"sha256:' + digest + b'"}]}')
    blob = os.fsencode(models) + b"/blobs/sha256-" + SHA
    assert find_source(blob, b"", place) == Source("ollama", b"llama3", b"8b", SHA, certain=True)


def test_an_ollama_blob_without_a_manifest_has_no_name(tmp_path: Path, place: Place) -> None:
    blob = os.fsencode(tmp_path) + b"/blobs/sha256-" + SHA
    assert find_source(blob, b"", place) == Source("ollama", b"sha256-" + SHA[:12], b"", SHA)


def test_a_model_folder_is_named_after_its_file(tmp_path: Path, place: Place) -> None:
    folder = tmp_path / "tiny-bert"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    found = find_source(os.fsencode(folder / "model-00001-of-00002.safetensors"), b"", place)
    assert found == Source("folder", b"tiny-bert")


def test_a_model_repository_is_named_after_the_version(place: Place) -> None:
    assert find_source(b"/models/resnet/3/model.onnx", b"", place) == Source("folder", b"resnet", b"3")


def test_a_plain_file_is_named_after_its_folder(place: Place) -> None:
    assert find_source(b"/srv/fraud.joblib", b"", place) == Source("file", b"fraud")


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (b"a.gguf", b"a"),
        (b"a-00001-of-00003.safetensors", b"a"),
        (b".hidden", b".hidden"),
        (b"noending", b"noending"),
        (b"v1.2.onnx", b"v1.2"),
        (b"", b""),
    ],
)
def test_a_stem_is_cut_wrongly(name: bytes, shown: bytes) -> None:
    assert stem(name) == shown


@given(st.binary(max_size=80), st.binary(max_size=80))
def test_hostile_paths_raise(path: bytes, asked: bytes) -> None:
    root = Place(os.open("/proc/self", os.O_PATH | os.O_DIRECTORY))
    try:
        assert find_source(path, asked, root).kind in ("hf_cache", "ollama", "folder", "file")
    finally:
        root.close()
