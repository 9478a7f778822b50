"""Where an artifact came from, as its path tells: a Hugging Face cache, Ollama's store, Triton's model repository, a model
folder, or a plain file."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from modelward_agent.identity.members import saved_model
from modelward_agent.identity.opening import Place

_HF = re.compile(rb"(?:^|/)models--([^/]+?)/(?:snapshots/([^/]+)/|blobs/([^/]+)\Z)")
_HF_BLOB = re.compile(rb"/models--[^/]+/blobs/([0-9a-f]{64})\Z")
_OLLAMA = re.compile(rb"^(.*)/blobs/sha256-([0-9a-f]{64})\Z")
_SHARD = re.compile(rb"-\d{3,6}-of-\d{3,6}\Z")
_VERSION = re.compile(rb"\d{1,10}\Z")
_TRITON_DEPTH = 3
"""A repository's file lies in MODEL/VERSION/, a folder of it one deeper, its variables two."""
_MANIFESTS = 512
_MANIFEST = 65536


@dataclass(frozen=True, slots=True)
class Source:
    """What the path tells; ``digest`` is what the store's own naming promises, to be compared with the
    content."""

    kind: str
    name: bytes
    revision: bytes = b""
    digest: bytes = b""
    certain: bool = False
    """The name comes from a registry's layout and beats what the file says of itself."""
    folder: bytes = field(default=b"", compare=False)
    """Where the model's files lie by their own names, when that is not the artifact's folder."""


def find_source(path: bytes, asked: bytes, place: Place | None) -> Source:
    """Source of an artifact.

    Args:
        path: resolved path; asked: the name that the process used, which in a Hugging Face cache holds the
        revision.
        place: where neighbouring files may be looked up; None: nowhere.
    """
    for text in (asked, path):
        if found := _HF.search(text):
            return _hugging_face(found, path, text[: found.start()], place)
    if found := _OLLAMA.match(path):
        name, tag = _ollama_name(found.group(1), found.group(2), place)
        shown = name or b"sha256-" + found.group(2)[:12]
        return Source("ollama", shown, tag, found.group(2), certain=bool(name))
    names = [asked, path] if asked.startswith(b"/") else [path]
    return next(filter(None, (_folder(name, place) for name in names)), Source("file", stem(path.rpartition(b"/")[2])))


def _folder(path: bytes, place: Place | None) -> Source | None:
    """The model folder that a file lies in; None when it seems to lie for itself."""
    folder = path.rpartition(b"/")[0]
    parent, _, own = folder.rpartition(b"/")
    if place is not None:
        above = folder
        for _ in range(_TRITON_DEPTH):
            above, _, version = above.rpartition(b"/")
            if _VERSION.match(version) and place.has(above + b"/config.pbtxt"):
                return Source("triton", above.rpartition(b"/")[2], version, certain=True)
        for inner in saved_model(folder):
            if place.has(inner + b"/saved_model.pb"):
                parent, _, own = inner.rpartition(b"/")
                if not _VERSION.match(own):
                    return Source("folder", own) if own else None
        if own and any(place.has(folder + b"/" + told) for told in (b"config.json", b"adapter_config.json")):
            return Source("folder", own)
    if _VERSION.match(own) and (model := parent.rpartition(b"/")[2]):
        # The layout of Triton and TensorFlow Serving: MODEL/VERSION/file
        return Source("folder", model, own)
    return None


def stem(file: bytes) -> bytes:
    """A file's name without its ending and without the number of a shard."""
    name, dot, _ = file.rpartition(b".")
    return _SHARD.sub(b"", name if dot and name else file)


def promised(path: bytes) -> bytes:
    """The sha256 that a store gave a file as its name; empty where names do not say it."""
    found = _HF_BLOB.search(path) or _OLLAMA.match(path)
    return found[found.lastindex or 0] if found else b""


def _hugging_face(found: re.Match[bytes], path: bytes, above: bytes, place: Place | None) -> Source:
    repository = above + (b"/" if found.group().startswith(b"/") else b"") + b"models--" + found.group(1)
    revision = found.group(2) or b""
    if not revision and place is not None:
        # The name asked for is not known: a cache that has one revision had no other to give.
        revisions = place.names(repository + b"/snapshots", 2)
        revision = revisions[0] if len(revisions) == 1 else b""
    return Source(
        "hf_cache", found.group(1).replace(b"--", b"/", 1), revision, promised(path), certain=True,
        folder=repository + b"/snapshots/" + revision if revision and above.startswith(b"/") else b"",
    )  # fmt: skip


def _ollama_name(models: bytes, digest: bytes, place: Place | None) -> tuple[bytes, bytes]:
    """Name and tag of the manifest that lists a blob: manifests/REGISTRY/NAMESPACE/NAME/TAG."""
    left = _MANIFESTS
    if place is None:
        return b"", b""
    base = models + b"/manifests"
    for registry in place.names(base, 16):
        for space in place.names(base + b"/" + registry, 64):
            for name in place.names(b"/".join((base, registry, space)), 256):
                for tag in place.names(b"/".join((base, registry, space, name)), 64):
                    left -= 1
                    if left < 0:
                        return b"", b""
                    manifest = place.read(b"/".join((base, registry, space, name, tag)), _MANIFEST)
                    if b"sha256:" + digest in manifest:
                        return (name if space == b"library" else space + b"/" + name), tag
    return b"", b""
