"""``modelward-collector restore``: a data folder from a backup. The engine itself takes in each part that was saved.

The tables are made by this version's own migrations, never by statements from the backup, and no file leaves the new folder.
"""

from __future__ import annotations

import os
import shutil
import tarfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from modelward_collector.data_folder import DataFolder, DataFolderError
from modelward_collector.store.backup.manifest import BackupError, File, Manifest, read, shown, verify
from modelward_collector.store.backup.progress import Progress
from modelward_collector.store.ddl import migrations
from modelward_collector.store.ddl.migrations import MigrationError
from modelward_collector.store.engine import EngineError, Lane, execute, literal, rows

if TYPE_CHECKING:
    from chdb.state.sqlitelike import Connection

_OURS = frozenset({"lock", "run"})
"""What a collector that never stored anything, or one that was refused, may have left."""


def look(source: Path) -> Manifest:
    """Read a whole backup and say what is inside.

    Raises:
        BackupError: it is not whole, or this version cannot restore it.
    """
    manifest = read(source)
    try:
        migrations.check(dict(manifest.migrations))
    except MigrationError as e:
        raise BackupError(f"{source}: {e}") from e
    progress = Progress("checked", manifest.bytes)
    for count in verify(source, manifest):
        progress.add(count)
    progress.end()
    return manifest


def restore(data: Path, source: Path) -> Manifest:
    """Make the data folder ``data`` from the backup in ``source``.

    Raises:
        BackupError: the backup cannot be restored; ``data`` is left as it was.
        DataFolderError: ``data`` is in use, holds something, or cannot be written.
    """
    manifest = look(source)
    folder = DataFolder(data.absolute())
    existed = folder.root.exists()
    if folder.restoring.exists():
        raise DataFolderError(f"an earlier restore into {folder.root} was interrupted: remove the folder, or give another")
    if existed and any(p.name not in _OURS for p in folder.root.iterdir()):
        raise DataFolderError(f"{folder.root} holds something already: give a new or empty folder as --data")
    folder.create()
    with folder.lock():
        free = shutil.disk_usage(folder.root).free
        if free < manifest.bytes:
            raise BackupError(
                f"{folder.root} lies on a disk with {shown(free)} free, and the backup needs {shown(manifest.bytes)}")
        try:
            folder.restoring.touch(mode=0o600)
            _fill(folder, source, manifest)
        except (EngineError, OSError, tarfile.TarError) as e:
            _undo(folder, existed)
            raise BackupError(f"{folder.root} could not be filled: {e}; nothing is left of it") from e
        except BaseException:
            _undo(folder, existed)
            raise
        _give_to_owner(folder.root)
        # All files of many parts at once: one by one would take minutes.
        os.sync()
        folder.restoring.unlink()
    return manifest


def _undo(folder: DataFolder, existed: bool) -> None:
    """Leave the folder as it was: the marker goes last."""
    for path in folder.root.iterdir():
        if path != folder.restoring:
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink()
    folder.restoring.unlink(missing_ok=True)
    if not existed:
        folder.root.rmdir()


def _fill(folder: DataFolder, source: Path, manifest: Manifest) -> None:
    progress = Progress("restored", manifest.bytes)
    lane = Lane("restore", folder.engine)
    try:
        lane.call(lambda c: migrations.make_tables(c, dict(manifest.migrations)))
        lane.call(lambda c: execute(c, "SYSTEM STOP MERGES"))
        places = lane.call(_places)
        for file in manifest.files:
            if file.table:
                if file.table not in places:
                    raise BackupError(f"the backup holds a table {file.table} that this version does not know")
                _unpack(source / file.name, places[file.table] / "detached" / file.part)
                lane.call(partial(_attach, file))
            progress.add(file.bytes)
        for table, count in manifest.rows.items():
            found = lane.call(partial(_count, table))
            if found != count:
                raise BackupError(f"of {count:,} rows of {table} in the backup the engine took {found:,}")
    finally:
        lane.close()
        progress.end()
    _unpack(source / "journal.tar", folder.journal)
    _unpack(source / "quarantine.tar", folder.quarantine)


def _places(connection: Connection) -> dict[str, Path]:
    found = rows(connection, """SELECT name, data_paths[1] FROM system.tables
        WHERE database = 'modelward' AND engine LIKE '%MergeTree' AND name != 'schema_migrations'""")
    return {name: Path(path) for name, path in found}


def _attach(file: File, connection: Connection) -> None:
    execute(connection, f"ALTER TABLE modelward.{file.table} ATTACH PART {literal(file.part)}")


def _count(table: str, connection: Connection) -> int:
    [[count]] = rows(connection, f"SELECT count() FROM modelward.{table}")
    return int(count)


def _unpack(path: Path, to: Path) -> None:
    to.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tarfile.open(path, "r:") as tar:
        for member in tar:
            if not member.isfile():
                raise BackupError(f"{path} holds something that is no file: {member.name[:80]!r}")
            # The filter refuses names that lead out of the folder.
            tar.extract(member, to, filter="data")


def _give_to_owner(root: Path) -> None:
    """Root restores for the user that the folder belongs to."""
    owner = root.stat()
    if os.geteuid() == 0 and owner.st_uid != 0:
        for path in (root, *root.rglob("*")):
            os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)
