"""``modelward-collector``: receive what agents see, judge it, keep it, and show it."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from modelward_proto import __version__, logs
from modelward_proto.extras import need
from modelward_proto.settings import SettingsError, add_flags, load

from modelward_collector.data_folder import DataFolderError
from modelward_collector.settings import PREFIX, CollectorSettings

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_DATA = 4
EXIT_BACKUP = 5

_DATA = f"{PREFIX}_DATA"

_EPILOG = """\
examples:
  modelward-collector run --data /var/lib/modelward
      for agents on this host; then open http://127.0.0.1:4461/

  modelward-collector backup --data /var/lib/modelward --to /backup/monday
  modelward-collector restore --data /var/lib/modelward --from /backup/monday

  modelward-collector run --data /var/lib/modelward --listen 0.0.0.0:4460 \\
      --tls-cert collector.pem --tls-key collector.key --tls-client-ca agents-ca.pem
      for agents on other hosts: each shows a certificate, whose name is its host name

exit codes:
  0  stopped as asked
  1  a part could not be started; the log says which and why
  2  a wrong flag, setting or certificate, or an unsafe combination of them
  4  the data folder is in use by another collector, or cannot be used
  5  a backup could not be made, or is damaged, or not of this version

The collector is a supervisor and its processes: receivers that judge, the store with its embedded ClickHouse engine,
and the web page. One that crashes is started again; agents keep their events meanwhile.
Each setting is also a variable (MODELWARD_COLLECTOR_LISTEN) and a key of the TOML file (listen = "...").
"""


def parser() -> argparse.ArgumentParser:
    """All commands and flags."""
    top = argparse.ArgumentParser(
        prog="modelward-collector", epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Receives events from Modelward agents, judges them by rules, keeps and shows them.",
    )
    top.add_argument("--version", action="version", version=f"modelward-collector {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    run = commands.add_parser(
        "run", help="serve agents and people until stopped", epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Serve agents (gRPC) and people (web page, API) until SIGTERM or Ctrl-C.",
    )
    add_flags(run, CollectorSettings, PREFIX)
    backup = commands.add_parser(
        "backup", help="copy the store to another folder, while the collector runs or not",
        description="Copy events, detections, exceptions and all else that is kept to a new folder, as they are at one moment. "
        "The collector goes on meanwhile. The folder appears when the copy is whole, and not before.")
    backup.add_argument("--to", type=Path, required=True, metavar="FOLDER", help="a new folder, best on another disk")
    restore = commands.add_parser(
        "restore", help="make a data folder from a backup",
        description="Check a backup, say what is inside, and make a data folder of it. What was stored after the backup is lost "
        "where agents have deleted it; what they still hold they send again, and it is stored once.")
    restore.add_argument("--from", dest="source", type=Path, required=True, metavar="FOLDER", help="the folder of the backup")
    restore.add_argument("--check", action="store_true", help="only check the backup and say what is inside")
    for command, needed in ((backup, True), (restore, False)):
        command.add_argument("--data", type=Path, metavar="DIR", required=needed and _DATA not in os.environ,
                             default=os.environ.get(_DATA), help=f"the collector's data folder (variable {_DATA})")
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of the command. Returns the exit code."""
    parsed = parser().parse_args(arguments)
    need("modelward-collector", "collector", "chdb", "polars", "sigma", "starlette", "uvicorn", "prometheus_client")
    if parsed.command in ("backup", "restore"):
        return _backup(parsed)
    try:
        settings = load(CollectorSettings, PREFIX, parsed)
        settings.check()
    except SettingsError as e:
        return _fail(EXIT_USAGE, str(e))
    logs.configure(settings.log_level, settings.log_format)
    from modelward_collector.supervise import AddressError, Supervisor

    try:
        with Supervisor(settings) as supervisor:
            return EXIT_FAILED if supervisor.run() else 0
    except DataFolderError as e:
        return _fail(EXIT_DATA, str(e))
    except AddressError as e:
        return _fail(EXIT_USAGE, str(e))


def _backup(parsed: argparse.Namespace) -> int:
    from modelward_collector.store.backup import restore, save
    from modelward_collector.store.backup.manifest import BackupError

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(EXIT_BACKUP))
    try:
        if parsed.command == "backup":
            print(f"Saved to {parsed.to}: {save.save(Path(parsed.data), parsed.to).words()}.")
        elif parsed.check:
            print(f"Whole: {restore.look(parsed.source).words()}.")
        elif parsed.data is None:
            return _fail(EXIT_USAGE, f"restore needs --data DIR (or {_DATA}): the folder to make")
        else:
            manifest = restore.restore(Path(parsed.data), parsed.source)
            print(f"Restored to {parsed.data}: {manifest.words()}.")
            print("What was stored later is not in it: agents send again what they still hold, and have deleted the rest.")
    except BackupError as e:
        return _fail(EXIT_BACKUP, str(e))
    except DataFolderError as e:
        return _fail(EXIT_DATA, str(e))
    except KeyboardInterrupt:
        return _fail(EXIT_BACKUP, "interrupted; nothing is left of it")
    return 0


def _fail(code: int, message: str) -> int:
    logging.getLogger("modelward_collector").debug("refused", extra={"reason": message})
    print(f"modelward-collector: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
