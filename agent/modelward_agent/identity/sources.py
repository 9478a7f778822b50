"""Where an artifact came from, as its path tells: a Hugging Face cache, Ollama's store, a model folder,
or a plain file."""

from __future__ import annotations

import re
from dataclasses import dataclass

from modelward_agent.identity.opening import Place

_HF = re.compile(rb"(?:^|/)models--([^/]+?)/(?:snapshots/([^/]+)/|blobs/([^/]+)\Z)")
_OLLAMA = re.compile(rb"^(.*)/blobs/sha256-([0-9a-f]{64})\Z")
_SHARD = re.compile(rb"-\d{3,6}-of-\d{3,6}\Z")
_VERSION = re.compile(rb"\d{1,10}\Z")
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


def find_source(path: bytes, asked: bytes, place: Place | None) -> Source:
    """Source of an artifact.

    Args:
        path: resolved path; asked: the name that the process used, which in a Hugging Face cache holds the
        revision.
        place: where neighbouring files may be looked up; None: nowhere.
    """
    for text in (asked, path):
        if found := _HF.search(text):
            return _hugging_face(found, path)
    if found := _OLLAMA.match(path):
        name, tag = _ollama_name(found.group(1), found.group(2), place)
        shown = name or b"sha256-" + found.group(2)[:12]
        return Source("ollama", shown, tag, found.group(2), certain=bool(name))
    folder, _, file = path.rpartition(b"/")
    parent, _, own = folder.rpartition(b"/")
    if place is not None and own and place.has(folder + b"/config.json"):
        return Source("folder", own)
    if _VERSION.match(own) and (model := parent.rpartition(b"/")[2]):
        # The layout of Triton and TensorFlow Serving: MODEL/VERSION/file
        return Source("folder", model, own)
    return Source("file", stem(file))


def stem(file: bytes) -> bytes:
    """A file's name without its ending and without the number of a shard."""
    name, dot, _ = file.rpartition(b".")
    return _SHARD.sub(b"", name if dot and name else file)


def _hugging_face(found: re.Match[bytes], path: bytes) -> Source:
    blob = re.search(rb"/blobs/([0-9a-f]{64})\Z", path)
    return Source(
        "hf_cache",
        found.group(1).replace(b"--", b"/", 1),
        found.group(2) or b"",
        blob.group(1) if blob else b"",
        certain=True,
    )


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
