"""Which files belong together as one model, by their names: shards, a SavedModel's folder, descriptions beside the weights."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

FILES = 512
"""Most files of one model that are read; of a model that has more there is no digest."""

_SHARD = re.compile(rb"(.+)-(\d{3,6})-of-(\d{3,6})(\.[^.]+)?\Z", re.DOTALL)
_INDEX = re.compile(rb"\.index(?:\.[\w-]{1,32})?\.json\Z")
_SIDES = frozenset((
    b"config.json", b"adapter_config.json", b"generation_config.json", b"tokenizer.json", b"tokenizer_config.json",
    b"special_tokens_map.json", b"added_tokens.json", b"vocab.json", b"vocab.txt", b"merges.txt", b"tokenizer.model",
    b"preprocessor_config.json", b"processor_config.json", b"chat_template.jinja", b"modules.json", b"model_index.json",
    b"config.pbtxt",
))  # fmt: skip
_TOLD = (b"adapter_config.json", b"config.json")
_INDEXES = 8
_SAVED_MODEL = b"saved_model.pb"
_SAVED_PARTS = (b"variables", b"assets")


def is_side(name: bytes) -> bool:
    """Whether a file describes a model and is no part of its weights: it does not count in the digest."""
    return name in _SIDES or _INDEX.search(name) is not None


def descriptions(names: Iterable[bytes]) -> list[bytes]:
    """Of the names in a folder those of files that tell of the model's weights: indexes of shards, configurations."""
    present = set(names)
    return [*(name for name in _TOLD if name in present), *sorted(n for n in present if _INDEX.search(n))[:_INDEXES]]


def is_index(name: bytes) -> bool:
    """Whether it names the shards of a model: ``model.safetensors.index.json`` and its like."""
    return _INDEX.search(name) is not None


def shards(name: bytes) -> list[bytes]:
    """Names of all shards of the set that ``name`` belongs to; none when it is no shard, or of a set that is too large."""
    found = _SHARD.match(name)
    if found is None or not 1 <= (count := int(found[3])) <= FILES or not 1 <= int(found[2]) <= count:
        return []
    width = len(found[2])
    return [b"%s-%0*d-of-%s%s" % (found[1], width, n, found[3], found[4] or b"") for n in range(1, count + 1)]


def is_oversized(name: bytes) -> bool:
    """Whether it is a shard of a set with more shards than are read."""
    found = _SHARD.match(name)
    return found is not None and int(found[3]) > FILES


def saved_model(folder: bytes) -> list[bytes]:
    """Folders that may hold the ``saved_model.pb`` which a file in ``folder`` is part of."""
    parent, _, own = folder.rpartition(b"/")
    return [folder, parent] if own in _SAVED_PARTS else [folder]


def saved_model_parts(names: Iterable[bytes]) -> tuple[bytes, ...]:
    """Folders within a SavedModel whose files belong to it; ``names``: what lies in it. None: it is no SavedModel."""
    return _SAVED_PARTS if _SAVED_MODEL in names else ()


def safe(references: Sequence[str]) -> list[bytes]:
    """Names that a file gives to other files, as far as they stay in its folder."""
    found: list[bytes] = []
    for reference in references[: FILES + 1]:
        name = reference.encode("utf-8", "surrogateescape")
        parts = name.split(b"/")
        if name and b"\0" not in name and not {b"", b".", b".."} & set(parts):
            found.append(name)
    return found
