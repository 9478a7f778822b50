"""``modelward-agent``: watch this host (``run``), or say what could be watched here (``check``)."""

from __future__ import annotations

import argparse
import logging
import os
import resource
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from modelward_proto import __version__
from modelward_proto.logs import configure
from modelward_proto.notify import notify
from modelward_proto.settings import add_flags, load

from modelward_agent.settings import PREFIX, AgentSettings

EXIT_USAGE = 2
EXIT_HOST = 3
EXIT_STATE = 4

_EPILOG = """\
exit codes:
  0  stopped as asked (run); every effect is watched and proven (check)
  1  check: some effect cannot be seen here, or no probe proved it; run: unexpected error
  2  a wrong flag, setting or certificate
  3  this host cannot be watched: no root, no BTF, or the kernel refuses
  4  the state folder is in use by another agent, or cannot be written

The agent needs root. It sends to a collector on this host in plaintext, and to any other only with --tls-ca,
--tls-cert and --tls-key. Events that the collector does not have yet wait in STATE/spool and survive a crash.
Each setting is also a variable (MODELWARD_AGENT_COLLECTOR) and a key of the TOML file (collector = "...").
"""

log = logging.getLogger("modelward_agent")


def parser() -> argparse.ArgumentParser:
    """All commands and flags."""
    top = argparse.ArgumentParser(
        prog="modelward-agent", epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Watches what model servers do to this host, and streams it to a Modelward collector.",
    )
    top.add_argument("--version", action="version", version=f"modelward-agent {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    run = commands.add_parser(
        "run", help="watch this host until stopped", epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Watch this host and stream what model servers do. Stop it with SIGTERM or Ctrl-C.",
    )
    add_flags(run, AgentSettings, PREFIX)
    check = commands.add_parser(
        "check", help="say what this host offers and what cannot be seen here", epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Try every hook, take the best one for each effect, and prove it by provoking the effect.",
    )
    check.add_argument("--json", action="store_true", help="for programs")
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of the command. Returns the exit code."""
    parsed = parser().parse_args(arguments)
    if parsed.command == "check":
        from modelward_agent.check import check

        return check(as_json=parsed.json)
    try:
        settings = load(AgentSettings, PREFIX, parsed)
        configure(settings.log_level, settings.log_format)
    except ValueError as e:
        return _fail(EXIT_USAGE, str(e))
    return run(settings)


def run(settings: AgentSettings) -> int:
    """Watch until SIGTERM or SIGINT."""
    # Before numpy comes: its linear algebra, which nobody uses here, would start a thread per core.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from modelward_agent.drainer import Drainer
    from modelward_agent.sensor import records
    from modelward_agent.sensor.errors import SensorError
    from modelward_agent.sensor.sensor import Sensor
    from modelward_agent.sensor.servers import WatchError, lists
    from modelward_agent.spool.batch import Layout
    from modelward_agent.spool.folder import SpoolError, random_id
    from modelward_agent.spool.writer import SpoolWriter
    from modelward_agent.supervise import SenderProcess, StateError, StateLock
    from modelward_agent.transport.target import Target, TargetError

    os.umask(0o077)
    stopped: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, frame: stopped.append(number))
    state = Path(settings.state)
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    try:
        lists(settings.watch)
        Target.parse(settings.collector, settings.tls_ca, settings.tls_cert, settings.tls_key).check_pair()
        lock = StateLock(state)
        agent_id = random_id(state / "agent.id")
        layout = Layout(records.SMALL, records.LARGE)
        writer = SpoolWriter(state / "spool", layout, limit_bytes=settings.spool_max_bytes, boot_id=boot_id)
        allow_locked_memory()
        sensor = Sensor.open(watch=settings.watch, exclude_pids=(os.getpid(),))
    except (TargetError, WatchError) as e:
        return _fail(EXIT_USAGE, str(e))
    except SensorError as e:
        return _fail(EXIT_HOST, str(e))
    except (StateError, SpoolError) as e:
        return _fail(EXIT_STATE, str(e))
    begin = {
        "settings": asdict(settings), "agent_id": agent_id.hex(), "epoch": writer.folder.epoch.hex(),
        "spool": str(writer.folder.path), "boot_id": boot_id,
    }
    sender = SenderProcess(begin)
    drainer = Drainer(sensor, writer, sender)
    begin["status"] = drainer.status()
    notify("READY=1")
    log.info("watching", extra={"agent_id": agent_id.hex(), "collector": settings.collector, "state": str(state)})
    try:
        drainer.run(lambda: bool(stopped))
    finally:
        notify("STOPPING=1")
        sensor.close()
        lock.release()
    log.info("stopped")
    return 0


def allow_locked_memory() -> None:
    """Kernels before 5.11 charge BPF maps against RLIMIT_MEMLOCK."""
    try:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    except (OSError, ValueError):
        log.debug("RLIMIT_MEMLOCK cannot be raised")


def _fail(code: int, reason: str) -> int:
    print(f"modelward-agent: {reason}", file=sys.stderr)
    return code


if __name__ == "__main__":
    raise SystemExit(main())
