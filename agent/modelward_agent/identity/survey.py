"""What lies at and beside the artifacts of a load: references to files, before anything of them is read.

This is the part of identification that needs privileges: paths are resolved in the workload's mount namespace. Only names are
looked at; whatever a file holds is interpreted later, without privileges.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modelward_agent.identity import members
from modelward_agent.identity.file_systems import has_own_devices, is_served_by_workload, lives_in_memory, mount_of
from modelward_agent.identity.opening import (
    ArtifactChanged,
    ArtifactError,
    Place,
    find_artifact,
    held_artifact,
    places,
)
from modelward_agent.identity.sources import Source, find_source, promised

_NAMES = 4096
_SETTLED_NS = 100_000_000
"""A file written to less than this ago may be written to again within one tick of its time stamps."""
_WRITTEN_OUT_NS = 120_000_000_000
"""Where the pages of a file cannot be written out through it (overlayfs), the kernel has done so by then."""


@dataclass(slots=True)
class File:
    """One file of a load. ``reference`` is an O_PATH descriptor; -1: it was not found, and ``error`` says why."""

    path: bytes
    """As it is called in the folder that it was looked up in."""
    artifact: int = -1
    """Which artifact of the job it is; -1: a neighbour."""
    reference: int = -1
    stamp: tuple[int, ...] = ()
    """st_dev, inode, size, mtime, ctime."""
    device: int = 0
    """As the kernel's records number it; 0: not known."""
    kept: bool = False
    """Its stamp stands for its content, so that what is found may be remembered."""
    inside: bool = False
    """It lies where its artifact lies: no link leads elsewhere."""
    served: bool = False
    """It lies on a file system that the workload itself may serve."""
    promised: str = ""
    error: str = ""
    source: Source | None = field(default=None, repr=False)

    def told(self) -> dict[str, Any]:
        """For the parent; texts are hex."""
        source = self.source
        return {
            "path": self.path.hex(), "artifact": self.artifact, "stamp": list(self.stamp), "device": self.device,
            "kept": self.kept, "inside": self.inside, "served": self.served, "promised": self.promised, "error": self.error,
            "source": [source.kind, source.name.hex(), source.revision.hex(), source.certain] if source else None,
        }  # fmt: skip


def survey(job: dict[str, Any]) -> list[File]:
    """Files of a job: its artifacts in their order, then their neighbours. Descriptors are the caller's."""
    pid, start_ns, proc = job["pid"], job["start_ns"], Path(job["proc"])
    roots = places(pid, start_ns, proc)
    found: list[File] = []
    neighbours: dict[bytes, tuple[File, Place]] = {}
    for number, told in enumerate(job["artifacts"]):
        path, asked = bytes.fromhex(told["path"]), bytes.fromhex(told["asked"])
        file, place = _artifact(roots, path, asked, told["device"], told["inode"], pid, start_ns, proc)
        file.artifact = number
        found.append(file)
        file.source = find_source(path, asked, place)
        for name in _neighbours(file, place) if job["neighbours"] else ():
            neighbours.setdefault(name, (file, place))
    for also in map(bytes.fromhex, job["also"]):
        if found:
            neighbours.setdefault(also, (found[0], roots[0] if roots else Place(-1)))
    known = {file.path for file in found}
    found += [_neighbour(*neighbours[name], name) for name in list(neighbours)[: members.FILES + 64] if name not in known]
    for file in found:
        if file.reference >= 0:
            file.served = is_served_by_workload(file.reference, pid, proc)
            file.kept = file.kept and not file.served and not lives_in_memory(file.reference)
    return found


def _artifact(
    roots: list[Place], path: bytes, asked: bytes, device: int, inode: int, pid: int, start_ns: int, proc: Path
) -> tuple[File, Place]:
    """The artifact below the first root where it is found, and that root."""
    failed: ArtifactError = ArtifactError("has no path")
    for place in roots:
        for name in (asked if asked.startswith(b"/") else b"", path):
            if not name:
                continue
            try:
                reference = find_artifact(place, name, device, inode)
            except ArtifactError as e:
                # That something else is there now says more than that there is nothing.
                failed = failed if isinstance(failed, ArtifactChanged) else e
                continue
            return _described(File(name, reference=reference, device=device, inside=True)), place
    try:
        reference = held_artifact(pid, start_ns, device, inode, proc)
    except ArtifactError:
        return File(path, error=str(failed)), roots[0]
    # Nothing beside a file that has no name any more is known to belong to it.
    return _described(File(path, reference=reference, device=device)), roots[0]


def _neighbours(file: File, place: Place) -> Iterator[bytes]:
    """Paths of files that may belong to the same model."""
    if file.reference < 0 or not file.inside or file.source is None:
        return
    folder, _, name = file.path.rpartition(b"/")
    if file.source.folder and b"/blobs/" in file.path:
        folder = file.source.folder
    names = place.names(folder, _NAMES)
    wanted = [*members.descriptions(names), *(set(members.shards(name)) & set(names))]
    yield from (folder + b"/" + each for each in wanted)
    for root in members.saved_model(folder):
        within = names if root == folder else place.names(root, _NAMES)
        if parts := members.saved_model_parts(within):
            yield root + b"/saved_model.pb"
            for part in parts:
                yield from (b"/".join((root, part, each)) for each in place.names(root + b"/" + part, members.FILES))


def _neighbour(of: File, place: Place, path: bytes) -> File:
    """A file that nobody was seen to open yet: a regular one, or it does not count."""
    try:
        reference = place.reference(path)
    except (OSError, ValueError) as e:
        return File(path, error=f"cannot be opened: {getattr(e, 'strerror', None) or e}")
    about = os.fstat(reference)
    if not stat.S_ISREG(about.st_mode):
        os.close(reference)
        return File(path, error="is no regular file")
    file = _described(File(path, reference=reference))
    if of.stamp and of.stamp[0] == file.stamp[0]:
        file.device = of.device
    elif not has_own_devices(reference):
        file.device = os.major(about.st_dev) << 20 | os.minor(about.st_dev)
    # What was mounted into the folder lies elsewhere, and others may use it there.
    file.inside = (of.reference >= 0 and mount_of(reference) == mount_of(of.reference)
                   and _lies_in(_real(reference), _home(_real(of.reference))))
    return file


def _described(file: File) -> File:
    about = os.fstat(file.reference)
    file.stamp = (about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns)
    settled = _WRITTEN_OUT_NS if has_own_devices(file.reference) else _SETTLED_NS
    file.kept = time.time_ns() - about.st_ctime_ns > settled
    file.promised = promised(_real(file.reference)).decode()
    return file


def _real(reference: int) -> bytes:
    try:
        return os.readlink(f"/proc/self/fd/{reference}".encode())
    except OSError:
        return b""


def _home(real: bytes) -> bytes:
    """The folder that a model's files may lie in: the artifact's, in a cache or a SavedModel the one above."""
    folder = real.rpartition(b"/")[0]
    parent, _, own = folder.rpartition(b"/")
    return parent if own in (b"blobs", b"variables", b"assets") else folder


def _lies_in(real: bytes, home: bytes) -> bool:
    return bool(home) and real.startswith(home + b"/")

