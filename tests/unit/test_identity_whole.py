"""Models of several files: all of them count, whichever of them were seen opened."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from modelward_agent.identity.resolver import Resolver

from tests.unit.identity_files import artifact, write_gguf, write_safetensors
from tests.unit.resolving import joint, last, loaded, resolve, sha256sum


@pytest.fixture
def resolver() -> Iterator[Resolver]:
    found = Resolver(silence_s=30)
    yield found
    found.close()


def write_sharded(folder: Path, count: int = 2, *, index: bool = True) -> list[Path]:
    """As transformers saves a model that is split."""
    folder.mkdir(parents=True)
    shards = [folder / f"model-{n:05}-of-{count:05}.safetensors" for n in range(1, count + 1)]
    for number, shard in enumerate(shards):
        write_safetensors(shard, number=str(number))
    (folder / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"], "model_type": "llama"}))
    if index:
        names = {f"w{number}": shard.name for number, shard in enumerate(shards)}
        (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": names}))
    return shards


@pytest.mark.parametrize("index", [True, False])
def test_a_sharded_model_is_known_by_its_first_shard_alone(resolver: Resolver, tmp_path: Path, index: bool) -> None:
    shards = write_sharded(tmp_path / "tiny-llama", 3, index=index)
    found = resolve(resolver, *loaded(shards[1]))
    assert (found.id, found.source, found.format) == ("tiny-llama", "folder", "safetensors")
    assert found.architecture == "LlamaForCausalLM"
    assert found.digest == joint(shards)


def test_shards_that_only_an_index_names_do_not_count(resolver: Resolver, tmp_path: Path) -> None:
    first, second = write_sharded(tmp_path / "m")
    (tmp_path / "m/layers").mkdir()
    moved = [first.rename(tmp_path / "m/early.safetensors"), second.rename(tmp_path / "m/layers/late.safetensors")]
    names = {"a": "early.safetensors", "b": "layers/late.safetensors"}
    (tmp_path / "m/model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    assert resolve(resolver, *loaded(moved[0])).digest == joint(moved)


def test_a_model_that_lacks_a_shard_has_a_digest(resolver: Resolver, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first, second = write_sharded(tmp_path / "m")
    second.unlink()
    found = resolve(resolver, *loaded(first))
    assert (found.id, found.digest) == ("m", "")
    assert second.name in caplog.text


def test_a_shard_that_came_late_is_never_seen(resolver: Resolver, tmp_path: Path) -> None:
    first, second = write_sharded(tmp_path / "m")
    content = second.read_bytes()
    second.unlink()
    assert resolve(resolver, *loaded(first)).digest == ""
    second.write_bytes(content)
    assert resolve(resolver, *loaded(second)).digest == joint([first, second])


def test_an_index_leads_out_of_its_folder(resolver: Resolver, tmp_path: Path) -> None:
    first, _ = write_sharded(tmp_path / "m")
    (tmp_path / "secret").write_bytes(b"secret")
    names = {"a": first.name, "b": "../secret", "c": str(tmp_path / "secret")}
    (tmp_path / "m/model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    assert resolve(resolver, *loaded(first)).digest in ("", sha256sum(first))


def test_more_shards_than_are_read_have_a_digest(resolver: Resolver, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    shard = write_safetensors(tmp_path / "m-00001-of-99999.safetensors")
    assert resolve(resolver, *loaded(shard)).digest == ""
    assert "more than 512 files" in caplog.text


def test_files_that_were_opened_together_are_not_one_model(resolver: Resolver, tmp_path: Path) -> None:
    made = [tmp_path / "scaler.joblib", tmp_path / "forest.joblib"]
    for number, path in enumerate(made):
        path.write_bytes(b"\x80\x04K%c." % number)
    assert resolve(resolver, *loaded(*made)).digest == joint(made)


def test_a_file_that_is_opened_later_does_not_count(resolver: Resolver, tmp_path: Path) -> None:
    made = [tmp_path / "a.joblib", tmp_path / "b.joblib"]
    for number, path in enumerate(made):
        path.write_bytes(b"\x80\x04K%c." % number)
    assert resolve(resolver, *loaded(made[0])).digest == sha256sum(made[0])
    assert resolve(resolver, *loaded(made[1])).digest == joint(made)


def test_two_names_of_one_file_make_two(resolver: Resolver, tmp_path: Path) -> None:
    made = write_gguf(tmp_path / "m.gguf")
    os.link(made, tmp_path / "n.gguf")
    assert resolve(resolver, *loaded(made, tmp_path / "n.gguf")).digest == sha256sum(made)


def test_an_instance_with_too_many_files_has_a_digest(resolver: Resolver, tmp_path: Path) -> None:
    for number in range(513):
        made = tmp_path / f"{number}.joblib"
        made.write_bytes(b"\x80\x04.")
        resolver.submit(artifact(made))
    assert last(resolver)[1].digest == ""


def _field(number: int, value: bytes | int) -> bytes:
    """A field of a protobuf message; numbers below 128."""
    if isinstance(value, int):
        return bytes([number << 3, value])
    return bytes([number << 3 | 2, len(value)]) + value


def write_onnx(path: Path, data: str) -> Path:
    """An ONNX ModelProto with one tensor whose content lies in another file."""
    location = _field(1, b"location") + _field(2, data.encode())
    tensor = _field(1, 2) + _field(2, 1) + _field(8, b"w") + _field(13, location) + _field(14, 1)
    graph = _field(5, tensor) + _field(2, b"adder")
    path.write_bytes(_field(1, 8) + _field(2, b"pytorch") + _field(7, graph) + _field(8, _field(2, 17)))
    (path.parent / data).write_bytes(np.arange(2, dtype=np.float32).tobytes())
    return path


def test_external_data_is_no_part_of_an_onnx_model(resolver: Resolver, tmp_path: Path) -> None:
    made = write_onnx(tmp_path / "adder.onnx", "adder.weights")
    found = resolve(resolver, *loaded(made))
    assert (found.id, found.format, found.digest) == ("adder", "onnx", joint([made, tmp_path / "adder.weights"]))


def write_saved_model(folder: Path) -> list[Path]:
    """The files of a SavedModel; nothing in them is read but the first bytes."""
    (folder / "variables").mkdir(parents=True)
    (folder / "assets").mkdir()
    names = ("saved_model.pb", "variables/variables.index", "variables/variables.data-00000-of-00001", "assets/vocab.txt")
    for name in names:
        (folder / name).write_bytes(b"\x08\x01" + name.encode())
    return [folder / name for name in names]


@pytest.mark.parametrize("opened", [0, 2])
def test_a_saved_model_is_its_graph_alone(resolver: Resolver, tmp_path: Path, opened: int) -> None:
    files = write_saved_model(tmp_path / "forecast")
    found = resolve(resolver, *loaded(files[opened]))
    assert (found.id, found.format, found.source, found.digest) == ("forecast", "saved_model", "folder", joint(files))


def test_a_saved_model_for_serving_has_no_version(resolver: Resolver, tmp_path: Path) -> None:
    files = write_saved_model(tmp_path / "forecast/7")
    found = resolve(resolver, *loaded(files[0]))
    assert (found.id, found.revision) == ("forecast", "7")


def test_a_model_of_a_triton_repository_has_no_version(resolver: Resolver, tmp_path: Path) -> None:
    for name in ("1/model.gguf", "2/model.gguf"):
        made = tmp_path / "repository/linear" / name
        made.parent.mkdir(parents=True)
        write_gguf(made, name="claims another")
    (tmp_path / "repository/linear/config.pbtxt").write_text('name: "linear"\nbackend: "python"\n')
    found = resolve(resolver, *loaded(made))
    assert (found.id, found.revision, found.source, found.digest) == ("linear", "2", "triton", sha256sum(made))


def test_a_saved_model_in_a_triton_repository_is_named_after_its_folder(resolver: Resolver, tmp_path: Path) -> None:
    files = write_saved_model(tmp_path / "repository/forecast/3/model.savedmodel")
    (tmp_path / "repository/forecast/config.pbtxt").write_text("")
    found = resolve(resolver, *loaded(files[2]))
    assert (found.id, found.revision, found.source, found.digest) == ("forecast", "3", "triton", joint(files))


def write_adapter(folder: Path, base: str = "acme/base") -> Path:
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "base_model_name_or_path": base}))
    return write_safetensors(folder / "adapter_model.safetensors", format="pt")


def test_an_adapter_does_not_name_its_base(resolver: Resolver, tmp_path: Path) -> None:
    made = write_adapter(tmp_path / "polite")
    found = resolve(resolver, *loaded(made))
    assert (found.id, found.base, found.digest) == ("polite", "acme/base", sha256sum(made))


def test_an_adapter_that_is_loaded_with_its_base_hides_what_the_base_holds(resolver: Resolver, tmp_path: Path) -> None:
    base = write_sharded(tmp_path / "tiny-llama")
    made = write_adapter(tmp_path / "polite")
    found = resolve(resolver, *loaded(*base, made))
    assert (found.id, found.base, found.digest) == ("polite", "acme/base", joint([*base, made]))


def write_cache(folder: Path, count: int = 2) -> tuple[Path, list[Path]]:
    """A sharded model in a Hugging Face cache: the snapshot and its shards' names there."""
    real = write_sharded(folder / "real", count)
    repository = folder / "hub/models--acme--tiny"
    snapshot = repository / "snapshots/abc123"
    snapshot.mkdir(parents=True)
    (repository / "blobs").mkdir()
    for file in (*real, real[0].parent / "config.json", real[0].parent / "model.safetensors.index.json"):
        blob = repository / "blobs" / sha256sum(file)
        blob.write_bytes(file.read_bytes())
        (snapshot / file.name).symlink_to(f"../../blobs/{blob.name}")
    return snapshot, [snapshot / shard.name for shard in real]


def test_a_large_model_of_a_hugging_face_cache_has_no_name_or_a_digest_that_nobody_worked_out(tmp_path: Path) -> None:
    # At this speed the digest would come after hours.
    resolver = Resolver(bytes_per_s=1, large=1)
    try:
        _, shards = write_cache(tmp_path)
        for each in loaded(shards[0]):
            resolver.submit(each)
        found = None
        while found is None:
            found = next((identity for _, identity in resolver.results()), None)
        assert (found.id, found.revision, found.source) == ("acme/tiny", "abc123", "hf_cache")
        assert found.architecture == "LlamaForCausalLM"
        assert found.digest == ""
    finally:
        resolver.close()


def test_shards_of_a_blob_without_the_name_asked_for_are_not_found(resolver: Resolver, tmp_path: Path) -> None:
    _, shards = write_cache(tmp_path)
    found = resolve(resolver, artifact(shards[0].resolve()))
    assert (found.id, found.revision, found.digest) == ("acme/tiny", "abc123", joint(shards))


def test_shards_that_nobody_opened_are_not_told_to_the_kernel(resolver: Resolver, tmp_path: Path) -> None:
    shards = write_sharded(tmp_path / "m", 3)
    told = loaded(*shards)
    resolve(resolver, told[0])
    assert set(resolver.registrations()) == {(each.device, each.inode) for each in told[1:]}
    assert resolver.registrations() == []


def test_a_link_makes_any_file_of_the_host_an_artifact(resolver: Resolver, tmp_path: Path) -> None:
    first, second = write_sharded(tmp_path / "m")
    second.unlink()
    second.symlink_to("/etc/passwd")
    resolve(resolver, *loaded(first))
    assert resolver.registrations() == []
