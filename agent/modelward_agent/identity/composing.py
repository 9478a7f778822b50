"""Puts the files of one load together to a model: which of them make it up, what is missing, what it is called."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from modelward_proto.text import escape

from modelward_agent.identity import members
from modelward_agent.identity.formats import format_by_extension
from modelward_agent.identity.header import Facts
from modelward_agent.identity.known import Stamp
from modelward_agent.identity.sources import Source

_UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Found:
    """A file as a worker found it (``survey.File``)."""

    path: bytes
    artifact: int
    stamp: Stamp
    device: int
    kept: bool
    inside: bool
    served: bool
    promised: str
    error: str
    source: Source | None

    @classmethod
    def told(cls, told: Mapping[str, Any]) -> Found:
        """Raises KeyError, TypeError, ValueError: this is no file."""
        kind, name, revision, certain = told["source"] or ("", "", "", False)
        source = Source(kind, bytes.fromhex(name), bytes.fromhex(revision), certain=certain) if told["source"] else None
        return cls(
            bytes.fromhex(told["path"]), int(told["artifact"]), tuple(map(int, told["stamp"])), int(told["device"]),
            bool(told["kept"]), bool(told["inside"]), bool(told["served"]), str(told["promised"]), str(told["error"]),
            source,
        )  # fmt: skip

    @property
    def folder(self) -> bytes:
        return self.path.rpartition(b"/")[0]

    @property
    def name(self) -> bytes:
        return self.path.rpartition(b"/")[2]

    def beside(self, reference: bytes) -> bytes:
        """Path of a file that this one names."""
        return self.folder + b"/" + reference


@dataclass(slots=True)
class Model:
    """What the files of a load are together."""

    files: list[int] = field(default_factory=list)
    """Those that make up the model, each once."""
    wanted: list[bytes] = field(default_factory=list)
    """Paths of files that others name and that were not looked for yet."""
    identity: dict[str, str] = field(default_factory=dict)
    """Members of an :class:`~modelward_agent.identity.artifact.Identity`, without the digest."""
    problem: str = ""
    """Why there can be no digest."""
    doubt: str = ""
    """What could not be read besides."""


def joint_digest(digests: Sequence[str]) -> str:
    """The digest of a model: of one file its sha256, of several the sha256 over their sorted digests (64 hex digits each,
    joined by a line feed)."""
    return digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(sorted(digests)).encode()).hexdigest()


def compose(found: Sequence[Found], facts: Mapping[int, Facts]) -> Model:
    """Put together what was found; ``facts`` of those files that could be read."""
    return _Composition(found, facts).model()


class _Composition:
    def __init__(self, found: Sequence[Found], facts: Mapping[int, Facts]) -> None:
        self._found = found
        self._facts = facts
        self._at: dict[bytes, int] = {}
        for number, file in enumerate(found):
            self._at.setdefault(file.path, number)
        self._indexes = {
            number: [file.beside(each) for each in members.safe(facts[number].references)]
            for number, file in enumerate(found)
            if members.is_index(file.name) and number in facts and facts[number].references
        }

    def model(self) -> Model:
        model = Model()
        artifacts = [number for number, file in enumerate(self._found) if file.artifact >= 0]
        weights = [number for number in artifacts if not members.is_side(self._found[number].name)]
        seen: set[object] = set()
        for number in weights or artifacts:
            for path in self._members(number, model):
                at = number if path == self._found[number].path else self._at.get(path)
                if at is None:
                    model.wanted.append(path)
                    model.problem = model.problem or f"lacks {escape(path)}"
                elif self._found[at].error:
                    what = f"{escape(path)} of it " if at != number else ""
                    model.problem = model.problem or what + self._found[at].error
                elif (key := self._found[at].stamp[:2]) not in seen:
                    seen.add(key)
                    model.files.append(at)
        if len(model.files) > members.FILES:
            model.problem = f"has more than {members.FILES} files"
        elif not model.files:
            model.problem = model.problem or "is not there"
        for at in model.files:
            if self._found[at].served:
                model.problem = "lies on a file system of the workload's own, which may show others another content"
        self._name(model, weights or artifacts)
        return model

    def _members(self, number: int, model: Model) -> list[bytes]:
        """Paths of all files of the model that an artifact is a part of."""
        file = self._found[number]
        for paths in self._indexes.values():
            if file.path in paths or any(self._is(number, self._at.get(path)) for path in paths):
                return paths
        if b"/blobs/" in file.path:
            # Its own name is not known: it may be any that an index gives.
            model.wanted += [path for paths in self._indexes.values() for path in paths if path not in self._at]
        if together := members.shards(file.name):
            return [file.beside(name) for name in together]
        if members.is_oversized(file.name):
            model.problem = f"has more than {members.FILES} files"
        if number in self._indexes:
            return self._indexes[number]
        if inside := self._saved_model(file):
            return inside
        own = self._facts.get(number)
        references = members.safe(own.references) if own else []
        if own and own.shards > 1:
            model.problem = f"says that it is one of {own.shards} files"
        return [file.path, *(file.beside(name) for name in references)]

    def _is(self, number: int, other: int | None) -> bool:
        """Whether two names are of one file."""
        if other is None or not self._found[number].stamp:
            return False
        return self._found[other].stamp[:2] == self._found[number].stamp[:2]

    def _saved_model(self, file: Found) -> list[bytes]:
        for root in members.saved_model(file.folder):
            top = root + b"/saved_model.pb"
            if top in self._at and (file.path == top or file.folder != root):
                parts = (root + b"/variables/", root + b"/assets/")
                return [path for path in self._at if path == top or path.startswith(parts)]
        return []

    def _name(self, model: Model, artifacts: list[int]) -> None:
        """Fill in the identity: of the adapter if there is one, else of the artifact that came first."""
        adapters = [number for number in artifacts if self._beside(number, b"adapter_config.json") is not None
                    and self._found[number].name.startswith(b"adapter")]
        first = next(iter(adapters or artifacts), None)
        if first is None:
            return
        facts = self._facts_of(first, artifacts)
        config = self._beside(first, b"config.json") or Facts(_UNKNOWN)
        adapter = (self._beside(first, b"adapter_config.json") if adapters else None) or Facts(_UNKNOWN)
        source = self._found[first].source or Source("file", b"")
        own = escape(source.name)
        base = facts.base or adapter.base
        if adapters and not base:
            others = [n for n in artifacts if self._found[n].folder != self._found[first].folder]
            base = next((escape(other.name) for n in others if (other := self._found[n].source)), "")
        model.identity = {
            "id": own if source.certain else facts.name or own,
            "revision": escape(source.revision) or facts.revision,
            "format": facts.format,
            "source": source.kind,
            "architecture": facts.architecture or config.architecture,
            "quantization": config.quantization or facts.quantization,
            "base": base,
        }
        model.doubt = facts.problem

    def _facts_of(self, first: int, artifacts: Sequence[int]) -> Facts:
        """What the first file says that says something; a part of a SavedModel says nothing itself."""
        file = self._found[first]
        tops = [self._at[p] for root in members.saved_model(file.folder) if (p := root + b"/saved_model.pb") in self._at]
        told = [self._facts[number] for number in (first, *tops, *artifacts) if number in self._facts]
        by_name = Facts(format_by_extension(file.name.rpartition(b".")[2].lower().decode("ascii", "replace")))
        return next((facts for facts in told if facts.format != _UNKNOWN), told[0] if told else by_name)

    def _beside(self, number: int, name: bytes) -> Facts | None:
        """What a description in an artifact's folder says."""
        file = self._found[number]
        folders = {file.folder} | {self._found[index].folder for index in self._indexes}
        for folder in (file.folder, *sorted(folders - {file.folder})):
            at = self._at.get(folder + b"/" + name)
            if at is not None and at in self._facts:
                return self._facts[at]
        return None
