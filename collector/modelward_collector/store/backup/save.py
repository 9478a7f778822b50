"""``modelward-collector backup``: a snapshot of the store, copied to another folder, while the collector runs or not."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from importlib.metadata import version
from io import BytesIO, RawIOBase
from pathlib import Path
from typing import IO, Any

from modelward_proto import __version__

from modelward_collector.data_folder import DataFolder, DataFolderError
from modelward_collector.store.backup import snapshot
from modelward_collector.store.backup.manifest import CHUNK, BackupError, File, Manifest, shown
from modelward_collector.store.backup.progress import Progress

SNAPSHOT_TIMEOUT_S = 300.0
PARTIAL = ".partial"
"""Ending of the folder until the backup is whole."""


def save(data: Path, to: Path) -> Manifest:
    """Back up the store of the data folder ``data`` to the new folder ``to``.

    Raises:
        BackupError: it cannot be made; nothing is left under the name ``to``.
        DataFolderError: there is no store to back up, or another backup runs.
    """
    folder = DataFolder(data.absolute())
    to = to.absolute()
    if not folder.engine.is_dir():
        raise DataFolderError(f"there is no store in {folder.root}: give the collector's --data")
    if to.is_relative_to(folder.root):
        raise BackupError(f"{to} lies in the data folder itself: a backup belongs on another disk")
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise BackupError(f"{to} exists already: give a new folder")
    with folder.snapshots_locked():
        taken = folder.snapshots / f"backup{secrets.token_hex(4)}"
        try:
            _snapshot(folder, taken)
            return _copy(folder, taken, to)
        finally:
            shutil.rmtree(taken, ignore_errors=True)


def _snapshot(folder: DataFolder, taken: Path) -> None:
    try:
        held = folder.lock()
    except DataFolderError:
        _ask_the_store(folder, taken)
        return
    with held:
        _open_the_store(folder, taken)


def _ask_the_store(folder: DataFolder, taken: Path) -> None:
    import grpc
    from modelward_proto.v1 import store_pb2, store_pb2_grpc

    try:
        with grpc.insecure_channel(folder.store_target) as channel:
            reply = store_pb2_grpc.StoreStub(channel).Backup(
                store_pb2.BackupRequest(folder=str(taken)), timeout=SNAPSHOT_TIMEOUT_S, wait_for_ready=True)
    except grpc.RpcError as e:
        raise BackupError(f"the collector that runs on {folder.root} did not make a snapshot: {e.details()}") from e
    if reply.error:
        raise BackupError(f"the collector that runs on {folder.root} made no snapshot: {reply.error}")


def _open_the_store(folder: DataFolder, taken: Path) -> None:
    """In a process of its own, as the owner of the store: what the engine writes there must stay the collector's."""
    owner = folder.engine.stat()
    rights: dict[str, Any] = {}
    if os.geteuid() == 0 and owner.st_uid != 0:
        rights = {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []}
    done = subprocess.run(
        [sys.executable, "-m", "modelward_collector.store.backup.snapshot", str(folder.root), taken.name],
        stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False, timeout=SNAPSHOT_TIMEOUT_S, **rights)
    if done.returncode:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise BackupError(f"the store in {folder.root} cannot be read: {lines[-1][:500] if lines else done.returncode}")


def _copy(folder: DataFolder, taken: Path, to: Path) -> Manifest:
    partial = to.with_name(to.name + PARTIAL)
    total = sum(p.stat().st_size for p in taken.rglob("*") if p.is_file())
    try:
        _remove_leftover(partial)
        partial.mkdir(mode=0o700, parents=True)
        free = shutil.disk_usage(partial).free
        if free < total:
            raise BackupError(f"{to} lies on a disk with {shown(free)} free, and the backup takes {shown(total)}")
        progress = Progress("saved", total)
        manifest = _write(folder, taken, partial, progress)
        progress.end()
        if to.exists():
            to.rmdir()
        partial.rename(to)
        _sync(to.parent)
    except OSError as e:
        raise BackupError(f"{to}: {e.strerror or e}; nothing is left of the backup") from e
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return manifest


def _write(folder: DataFolder, taken: Path, partial: Path, progress: Progress) -> Manifest:
    about = json.loads((taken / snapshot.ABOUT).read_text(encoding="utf-8"))
    files: list[File] = []
    for table in sorted((taken / snapshot.TABLES).iterdir()):
        (partial / table.name).mkdir(mode=0o700)
        for part in sorted(table.iterdir()):
            name = f"{table.name}/{part.name}.tar"
            made = _tar(partial, name, part, progress.add, immutable=True)
            files.append(File(name, *made, rows=snapshot.rows_of(part), table=table.name, part=part.name))
    files.append(File("journal.tar", *_tar(partial, "journal.tar", taken / snapshot.JOURNAL, progress.add, immutable=True)))
    files.append(File("quarantine.tar", *_tar(partial, "quarantine.tar", folder.quarantine, progress.add, immutable=False)))
    manifest = Manifest(
        about["taken_at_ns"], __version__, version("chdb-core"), [(n, c) for n, c in about["migrations"]], files)
    manifest.write(partial)
    for path in (partial / "manifest.json", *(p for p in partial.rglob("*") if p.is_dir()), partial):
        _sync(path)
    return manifest


def _tar(partial: Path, name: str, folder: Path, add: Callable[[int], None], *, immutable: bool) -> tuple[int, str]:
    """Write one tar file with what is below ``folder``, durable on return. Returns its size and sha256."""
    with _hashed(partial / name) as stream, tarfile.open(
            mode="w|", fileobj=stream, bufsize=CHUNK, format=tarfile.PAX_FORMAT) as tar:
        for path in sorted(p for p in folder.rglob("*") if p.is_file() and not p.is_symlink()):
            with suppress(FileNotFoundError), open(path, "rb") as file:
                # The size is asked once: a file of the quarantine may be written or removed at any time.
                size = os.fstat(file.fileno()).st_size
                info = tarfile.TarInfo(str(path.relative_to(folder)))
                info.size, info.mode = size, 0o600
                tar.addfile(info, file if immutable else BytesIO(file.read(size).ljust(size, b"\0")))
                add(size)
    return stream.size, stream.sha256.hexdigest()


class _Hashed(RawIOBase):
    """Writes through to a file, and knows the size and sha256 of what went by."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.size = 0
        self.sha256 = sha256()

    def write(self, data: Any) -> int:
        """All of it."""
        self.sha256.update(data)
        self.size += len(data)
        return self._file.write(data)


@contextmanager
def _hashed(path: Path) -> Iterator[_Hashed]:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        yield _Hashed(file)
        file.flush()
        os.fsync(file.fileno())


def _remove_leftover(partial: Path) -> None:
    """Of a backup that was interrupted: it holds nothing but tar files and folders."""
    if partial.exists() and any(p.is_file() and p.suffix not in (".tar", ".json") for p in partial.rglob("*")):
        raise BackupError(f"{partial} is in the way, and is not left from a backup: remove it, or give another folder")
    if partial.exists():
        shutil.rmtree(partial)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
