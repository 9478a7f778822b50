"""A snapshot: hard links to all parts of all tables as they are at one moment, made by the process that holds the engine.

It takes a fraction of a second and no space, and what is in it never changes; copying it to another disk is then the work of
the command that asked, with that command's rights and not the store's.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from modelward_collector.data_folder import DataFolder
from modelward_collector.store.ddl.migrations import applied
from modelward_collector.store.engine import EngineError, Lane, execute, literal, rows
from modelward_collector.store.interface import WriteRefused

if TYPE_CHECKING:
    from chdb.state.sqlitelike import Connection

ABOUT = "about.json"
"""When it was taken, and which migrations the tables have seen. Written last: a snapshot without it is not whole."""

TABLES, JOURNAL = "tables", "journal"

_LEFT_OUT = "schema_migrations"


def take(connection: Connection, engine: Path, journal: Path, folder: Path) -> None:
    """Make a snapshot of all tables in a new folder on the same disk. Nothing may write to the tables meanwhile.

    Raises:
        WriteRefused: the folder cannot be made there.
        EngineError: the engine cannot do it now.
        OSError: the links cannot be made.
    """
    # The engine writes any other character of a snapshot's name in another way.
    if not re.fullmatch(r"[a-z0-9]{1,64}", folder.name):
        raise WriteRefused("The name of a snapshot has up to 64 small letters and digits.")
    shadow = engine / "shadow" / folder.name
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError as e:
        raise WriteRefused(f"There is a snapshot {folder.name} already.") from e
    try:
        places = rows(connection, """SELECT name, uuid FROM system.tables WHERE database = 'modelward'
            AND engine LIKE '%MergeTree' AND name != {left_out:String}""", {"left_out": _LEFT_OUT})
        for table, _ in places:
            execute(connection, f"ALTER TABLE modelward.{table} FREEZE WITH NAME {literal(folder.name)}")
        (folder / TABLES).mkdir()
        for table, uuid in places:
            frozen = shadow / "store" / uuid[:3] / uuid
            if frozen.exists():
                frozen.rename(folder / TABLES / table)
                continue
            [[count]] = rows(connection, f"SELECT count() FROM modelward.{table}")
            if int(count):
                raise EngineError(f"the engine did not freeze the table {table}")
            (folder / TABLES / table).mkdir()
        (folder / JOURNAL).mkdir()
        for path in journal.iterdir():
            if path.is_file():
                os.link(path, folder / JOURNAL / path.name)
        about = {"taken_at_ns": time.time_ns(), "migrations": applied(connection)}
        (folder / ABOUT).write_text(json.dumps(about), encoding="utf-8")
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    finally:
        shutil.rmtree(shadow, ignore_errors=True)


def rows_of(part: Path) -> int:
    """Rows in a frozen part."""
    return int((part / "count.txt").read_text(encoding="ascii"))


def main(arguments: Sequence[str]) -> int:
    """Entry of a process that takes a snapshot of a store that no collector runs on: ``DATA NAME``."""
    root, name = arguments
    folder = DataFolder(Path(root))
    lane = Lane("backup", folder.engine)
    try:
        lane.call(lambda c: take(c, folder.engine, folder.journal, folder.snapshots / name))
    except (EngineError, WriteRefused, OSError) as e:
        print(e, file=sys.stderr)
        return 1
    finally:
        lane.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
