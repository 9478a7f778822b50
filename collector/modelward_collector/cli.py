"""``modelward-collector``: receive what agents see, judge it, keep it, and show it."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

from modelward_proto import __version__, logs
from modelward_proto.extras import need
from modelward_proto.settings import SettingsError, add_flags, load

from modelward_collector.data_folder import DataFolderError
from modelward_collector.settings import PREFIX, CollectorSettings

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_DATA = 4

_EPILOG = """\
examples:
  modelward-collector run --data /var/lib/modelward-collector
      for agents on this host; then open http://127.0.0.1:4461/

  modelward-collector run --data /var/lib/modelward-collector --listen 0.0.0.0:4460 \\
      --tls-cert collector.pem --tls-key collector.key --tls-client-ca agents-ca.pem
      for agents on other hosts: each shows a certificate, whose name is its host name

exit codes:
  0  stopped as asked
  1  a part could not be started; the log says which and why
  2  a wrong flag, setting or certificate, or an unsafe combination of them
  4  the data folder is in use by another collector, or cannot be used

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
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of the command. Returns the exit code."""
    parsed = parser().parse_args(arguments)
    need("modelward-collector", "collector", "chdb", "polars", "sigma", "starlette", "uvicorn", "prometheus_client")
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


def _fail(code: int, message: str) -> int:
    logging.getLogger("modelward_collector").debug("refused", extra={"reason": message})
    print(f"modelward-collector: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
