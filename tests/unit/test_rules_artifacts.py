"""A sentence names the model by what a person calls it."""

from __future__ import annotations

import pytest
from modelward_collector.rules import artifacts
from modelward_collector.rules.artifacts import NAMELESS, Artifacts, short_name
from modelward_collector.rules.classes import Classes
from modelward_collector.rules.self_tests import frame

HUB = "/root/.cache/huggingface/hub/models--org--name"


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/srv/encoder.joblib", "encoder.joblib"),
        (f"{HUB}/snapshots/9d3e/model.safetensors", "org/name"),
        (f"{HUB}/blobs/9f86d081", "org/name"),
        ("/models/resnet/1/model.onnx", "1/model.onnx"),
        ("/srv/bert/pytorch_model.bin", "bert/pytorch_model.bin"),
        ("/srv/llama/model-00001-of-00003.safetensors", "llama/model-00001-of-00003.safetensors"),
        ("model.pt", "model.pt"),
        ("/srv/folder/", "folder"),
        ("/", "/"),
    ],
)
def test_name_is_what_a_person_calls_the_model(path: str, name: str) -> None:
    assert short_name(path) == name


def _named(*rows: dict[str, str | int | float | bool]) -> str:
    known = Artifacts()
    known.learn(Classes.shipped().classify(frame(rows)), "a")
    return str(known.of(frame([{"model.instance": 7}]), "a")[0])


def test_lifecycle_row_names_its_instance() -> None:
    assert _named({"event.name": "lifecycle", "model.instance": 7, "file.path": "/srv/a.gguf"}) == "a.gguf"


def test_open_names_the_instance_when_the_lifecycle_row_had_no_room() -> None:
    opened = {"event.name": "file_open", "model.instance": 7, "file.path": "/srv/long/a.gguf"}
    assert _named({"event.name": "lifecycle", "model.instance": 7}, opened) == "a.gguf"


def test_open_of_a_further_file_does_not_rename_the_instance() -> None:
    first = {"event.name": "lifecycle", "model.instance": 7, "file.path": "/srv/a.gguf"}
    assert _named(first, {"event.name": "file_open", "model.instance": 7, "file.path": "/srv/b.gguf"}) == "a.gguf"


def test_name_asked_for_counts_where_the_file_is_a_hash() -> None:
    opened = {"event.name": "file_open", "model.instance": 7, "file.path": "/store/9f86", "file.path_asked": "/srv/a.gguf"}
    assert _named(opened) == "a.gguf"


def test_instance_without_a_word_is_a_model() -> None:
    assert _named({"event.name": "exec", "model.instance": 7}) == NAMELESS


def test_names_are_kept_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artifacts, "MAX_ARTIFACTS", 3)
    known = Artifacts()
    for instance in range(1, 10):
        known.remember("a", instance, f"/srv/{instance}.pt")
    assert known.of(frame([{"model.instance": n} for n in range(1, 10)]), "a").to_list() == [NAMELESS] * 6 + [
        "7.pt",
        "8.pt",
        "9.pt",
    ]
