"""What each format says of a model, read out of files that the formats' own libraries wrote."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle
import gguf
import joblib
import numpy as np
import pytest
from modelward_agent.identity.formats import Facts
from modelward_agent.identity.gguf_header import FILE_TYPES
from modelward_agent.identity.header import Budget
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tests.unit.identity_files import facts_of, message, number, written
from tests.unit.identity_samples import sample

LINEAR = "torch.nn.modules.linear.Linear"
FOREST = "sklearn.ensemble._forest.RandomForestClassifier"


@pytest.fixture(scope="module")
def forest() -> RandomForestClassifier:
    rows = np.random.default_rng(1).random((40, 3))
    return RandomForestClassifier(2, max_depth=2, random_state=1).fit(rows, rows[:, 0] > 0.5)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("dart.ubj", Facts("xgboost", architecture="dart")),
        ("lin.ubj", Facts("xgboost", architecture="gblinear")),
        ("earliest_vlen.h5", Facts("keras", "fraud_net", architecture="Functional")),
        ("latest_fixed.h5", Facts("keras", "fraud_net", architecture="Functional")),
        ("ext.onnx", Facts("onnx", quantization="F32", references=("weights.bin",))),
        ("m.tflite", Facts("tflite", quantization="F32")),
        ("sd.pt", Facts("torch")),
        ("full.pt", Facts("torch", architecture=LINEAR)),
        ("old.pt", Facts("torch", architecture=LINEAR)),
        ("script.pt", Facts("torchscript", architecture=LINEAR)),
        ("exp.pt2", Facts("torch_export", architecture="__main__.Net")),
        ("pipe.skops", Facts("skops", architecture="sklearn.pipeline.Pipeline")),
    ],
)
def test_a_library_s_file_is_not_understood(tmp_path: Path, name: str, expected: Facts) -> None:
    made = written(tmp_path / name, sample(name))
    assert facts_of(made) == expected
    assert facts_of(made, b"0123abcd") == expected, "by its content alone, as in a cache that names files by their digest"


def test_an_hdf5_file_of_something_else_is_taken_for_keras(tmp_path: Path) -> None:
    assert facts_of(written(tmp_path / "m.hdf", sample("other.h5"))) == Facts("hdf5")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_the_class_in_a_pickle_is_not_told(tmp_path: Path, protocol: int, forest: RandomForestClassifier) -> None:
    for name, value in (("a.pkl", forest), ("b.pkl", {"names": ["x"], "model": forest}), ("c.pkl", [1, (forest,)])):
        made = written(tmp_path / name, pickle.dumps(value, protocol))
        assert facts_of(made) == Facts("pickle", architecture=FOREST)


@pytest.mark.parametrize("pack", [None, zlib.compress, gzip.compress, bz2.compress, lzma.compress])
def test_the_class_in_a_joblib_file_is_not_told(
    tmp_path: Path, pack: Callable[[bytes], bytes] | None, forest: RandomForestClassifier
) -> None:
    joblib.dump(forest, tmp_path / "plain.joblib")
    data = (tmp_path / "plain.joblib").read_bytes()
    made = written(tmp_path / "blob", pack(data) if pack else data)
    assert facts_of(made) == Facts("joblib", architecture=FOREST)


def test_what_stands_behind_joblib_s_arrays_is_not_found(tmp_path: Path, forest: RandomForestClassifier) -> None:
    arrays = [np.zeros((3, 4)), np.array([{"a": 1}, None], dtype=object), np.array(["x", "yy"]), np.float32(3) * np.ones(())]
    joblib.dump({"first": arrays, "then": forest}, tmp_path / "m.joblib")
    assert facts_of(tmp_path / "m.joblib") == Facts("joblib", architecture=FOREST)


def test_a_large_pickle_that_is_not_read_to_its_end_has_no_class(tmp_path: Path) -> None:
    model = make_pipeline(StandardScaler(), LogisticRegression())
    model.notes = [str(number) for number in range(9_000)]
    made = written(tmp_path / "m.pkl", pickle.dumps({"version": 3, "model": model}))
    found = facts_of(made, budget=Budget(steps=20_000))
    assert (found.architecture, found.problem) == ("sklearn.pipeline.Pipeline", "the header has too many parts")


def test_a_class_that_the_pickle_itself_holds_is_not_named(tmp_path: Path) -> None:
    own = type("Ranker", (), {"__module__": "__main__", "predict": lambda self: 1})
    made = written(tmp_path / "m.pkl", cloudpickle.dumps({"model": own()}))
    assert facts_of(made) == Facts("pickle", architecture="__main__.Ranker")


def test_a_pickle_that_names_a_function_hides_it(tmp_path: Path) -> None:
    bomb = b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x02id\x85R."
    assert facts_of(written(tmp_path / "m.pkl", bomb)).architecture == "posix.system"


def test_a_gguf_s_quantisation_and_splits_are_not_told(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "a.gguf", "qwen2")
    writer.add_token_list([b"token%d" % number for number in range(20_000)])
    writer.add_uint16("split.count", 3)
    # llama.cpp's own tool writes this behind the vocabulary.
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q4_K_M)
    write(writer)
    assert facts_of(tmp_path / "a.gguf") == Facts("gguf", architecture="qwen2", quantization="Q4_K_M", shards=3)


def test_a_gguf_adapter_has_no_base(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "a.gguf", "llama")
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string("adapter.type", "lora")
    writer.add_base_model_count(1)
    writer.add_base_model_name(0, "Llama 3 8B")
    write(writer)
    assert facts_of(tmp_path / "a.gguf") == Facts("gguf", architecture="LORA", base="Llama 3 8B")


def write(writer: gguf.GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_a_file_type_of_gguf_has_another_name() -> None:
    own = {int(each): each.name.removeprefix("MOSTLY_").removeprefix("ALL_") for each in gguf.LlamaFileType}
    assert {number: own.get(number, name) for number, name in FILE_TYPES.items()} == FILE_TYPES


@pytest.mark.parametrize(
    ("name", "told", "expected"),
    [
        (
            "config.json",
            {"architectures": ["LlamaForCausalLM"], "_name_or_path": "org/base", "dtype": "bfloat16"},
            Facts("transformers", "org/base", architecture="LlamaForCausalLM", quantization="BF16"),
        ),
        (
            "config.json",
            {"model_type": "bert", "_name_or_path": "/home/me/x", "quantization_config": {"quant_method": "gptq", "bits": 4}},
            Facts("transformers", architecture="bert", quantization="gptq-4bit"),
        ),
        (
            "config.json",
            {
                "architectures": ["A"],
                "quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"},
            },
            Facts("transformers", architecture="A", quantization="bitsandbytes-nf4"),
        ),
        ("config.json", {"architectures": ["A"], "quantization_config": {"quant_method": "fp8"}},
         Facts("transformers", architecture="A", quantization="fp8")),
        ("config.json", {"_class_name": "UNet2DConditionModel"}, Facts("transformers", architecture="UNet2DConditionModel")),
        ("config.json", {"port": 80}, Facts("unknown")),
        ("config.json", {"architectures": [7, {}], "model_type": 3, "_name_or_path": []}, Facts("unknown")),
        (
            "adapter_config.json",
            {"base_model_name_or_path": "org/base", "peft_type": "LORA", "revision": "v2"},
            Facts("peft", revision="v2", architecture="LORA", base="org/base"),
        ),
        ("adapter_config.json", {"base_model_name_or_path": "/data/llama-8b/"}, Facts("peft", base="llama-8b")),
        (
            "model.safetensors.index.json",
            {"weight_map": {"a": "m-1-of-2.safetensors", "b": "./m-2-of-2.safetensors", "c": "m-1-of-2.safetensors"}},
            Facts("safetensors", references=("m-1-of-2.safetensors", "m-2-of-2.safetensors"), shards=2),
        ),
        ("pytorch_model.bin.index.json", {"weight_map": {"a": "p-1.bin"}}, Facts("torch", references=("p-1.bin",), shards=1)),
        ("pytorch_model.bin.index.json", {"weight_map": []}, Facts("torch", problem="the index is damaged")),
        ("m.json", {"learner": {"gradient_booster": {"model": {}, "name": "gbtree"}}}, Facts("xgboost", architecture="gbtree")),
        ("tokenizer.json", {"version": "1.0", "learner": 3}, Facts("xgboost")),
        ("notes.json", {"a": 1}, Facts("unknown")),
    ],
)  # fmt: skip
def test_a_json_file_is_not_understood(tmp_path: Path, name: str, told: dict[str, Any], expected: Facts) -> None:
    assert facts_of(written(tmp_path / name, json.dumps(told).encode())) == expected


def test_a_large_xgboost_file_is_not_named_by_its_end(tmp_path: Path) -> None:
    data = b'{"learner":{"gradient_booster":{"model":[%s0],"name":"gbtree"}},"version":[3,2,0]}' % (b"0," * (5 << 20))
    assert facts_of(written(tmp_path / "m.json", data)) == Facts("xgboost", architecture="gbtree")


@pytest.mark.parametrize("names", [["/etc/passwd"], ["../w.bin"], ["a/../../w.bin"], ["w\0.bin"], ["\ud800"]])
def test_a_name_outside_the_folder_is_a_part_of_the_model(tmp_path: Path, names: list[str]) -> None:
    told = json.dumps({"weight_map": dict(enumerate([*names, "good.bin"]))}).encode()
    found = facts_of(written(tmp_path / "m.bin.index.json", told))
    assert found.references == ("good.bin",)
    assert found.problem == "names files outside its folder"


@pytest.mark.parametrize("names", [[f"{number}.bin" for number in range(600)], ["é" * 100 + str(n) for n in range(300)]])
def test_the_files_that_a_model_names_have_no_bound(tmp_path: Path, names: list[str]) -> None:
    found = facts_of(written(tmp_path / "m.bin.index.json", json.dumps({"weight_map": dict(enumerate(names))}).encode()))
    assert 0 < len(found.references) <= 512
    assert len(json.dumps(found.references)) < 40_000
    assert found.problem == "names too many files"


def test_keras_s_archive_is_not_understood(tmp_path: Path) -> None:
    config = {"module": "keras", "class_name": "Sequential", "config": {"name": "fraud_net"}, "registered_name": None}
    own = {"module": "app", "class_name": "Net", "registered_name": "shop>Net", "config": {"name": "functional_3"}}
    for name, told, expected in (
        ("a.keras", config, Facts("keras", "fraud_net", architecture="keras.Sequential")),
        ("b.keras", own, Facts("keras", architecture="shop>Net")),
    ):
        for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            with zipfile.ZipFile(tmp_path / name, "w", method) as file:
                file.writestr("metadata.json", '{"keras_version": "3.15.1"}')
                file.writestr("config.json", json.dumps(told))
                file.writestr("model.weights.h5", b"")
            assert facts_of(tmp_path / name) == expected


def test_a_torchserve_archive_is_not_named(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.mar", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("MAR-INF/MANIFEST.json", '{"model": {"modelName": "dense", "modelVersion": "1.0"}}')
    assert facts_of(tmp_path / "a.mar") == Facts("torchserve", "dense", "1.0")


def test_a_member_that_unpacks_to_gigabytes_is_unpacked(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.mar", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("MAR-INF/MANIFEST.json", b'{"model": "' + b" " * (16 << 20) + b'"}')
    assert facts_of(tmp_path / "a.mar").problem


def test_an_onnx_model_s_parts_are_not_found_wherever_they_are_named(tmp_path: Path) -> None:
    """Constants of a node, of a node's inner graph and of a function may lie in other files, too."""

    def tensor(file: str) -> bytes:
        entry = message(1, b"location") + message(2, file.encode())
        return number(1, 8) + number(2, 10) + message(13, entry) + number(14, 1)

    inner = message(1, message(5, message(5, tensor("b.bin")))) + message(2, b"inner")
    node = message(5, message(5, tensor("a.bin"))) + message(5, message(6, inner))
    graph = message(1, node) + message(2, b"ranker") + message(5, tensor("c/d.bin")) + message(5, tensor("a.bin"))
    function = message(7, message(5, message(5, tensor("e.bin"))))
    model = number(1, 8) + message(2, b"x") + number(5, 7) + message(7, graph) + message(25, function)
    expected = Facts("onnx", "ranker", "7", quantization="F16", references=("b.bin", "a.bin", "c/d.bin", "e.bin"))
    found = facts_of(written(tmp_path / "m.onnx", model))
    assert sorted(found.references) == sorted(expected.references)
    assert (found.name, found.revision, found.quantization) == ("ranker", "7", "F16")


def test_a_saved_model_s_assets_are_not_found(tmp_path: Path) -> None:
    asset = message(6, message(1, message(1, b"x:0")) + message(2, b"vocab.txt"))
    notes = b'{"class_name": "Net", "config": {"name": "mine"}}'
    root = message(1, message(4, message(1, b"_tf_keras_model") + message(3, notes)))
    other = message(1, message(4, message(1, b"_tf_keras_layer")))
    data = number(1, 1) + message(2, asset + message(7, root + other))
    expected = Facts("saved_model", "mine", architecture="Net", references=("assets/vocab.txt",))
    assert facts_of(written(tmp_path / "saved_model.pb", data)) == expected


def test_lightgbm_s_text_is_not_understood(tmp_path: Path) -> None:
    data = b"tree\nversion=v4\nnum_class=1\n\nend of trees\n\nparameters:\n[boosting: dart]\n[objective: binary]\n"
    assert facts_of(written(tmp_path / "m.txt", data)) == Facts("lightgbm", architecture="dart")


def test_safetensors_are_not_told_by_what_most_of_them_are(tmp_path: Path) -> None:
    tensors = {
        "a": {"dtype": "F32", "shape": [100], "data_offsets": [0, 0]},
        "b": {"dtype": "F8_E4M3", "shape": [64, 64], "data_offsets": [0, 0]},
        "__metadata__": {"modelspec.architecture": "flux-1/lora", "ss_base_model": "flux"},
    }
    header = json.dumps(tensors).encode()
    found = facts_of(written(tmp_path / "m.safetensors", struct.pack("<Q", len(header)) + header))
    assert found == Facts("safetensors", architecture="flux-1/lora", quantization="F8_E4M3", base="flux")


def test_a_read_at_the_end_of_the_budget_is_not_told(tmp_path: Path) -> None:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a/data.pkl", b"\x80\x04" + b"N0" * 20_000 + b".")
    made_file = written(tmp_path / "m.pt", made.getvalue())
    assert facts_of(made_file, budget=Budget(steps=20_000)).problem == "the header has too many parts"
