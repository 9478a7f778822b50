"""``modelward-agent run``: watch this host until SIGTERM or SIGINT."""

from __future__ import annotations

import logging
import os
import resource
import signal
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from modelward_proto.notify import notify

from modelward_agent import exit_codes
from modelward_agent.exit_codes import fail
from modelward_agent.settings import AgentSettings

if TYPE_CHECKING:
    from modelward_agent.drainer import Source

log = logging.getLogger(__name__)


def run(settings: AgentSettings) -> int:
    """Watch until asked to stop. Returns the exit code."""
    # Before numpy comes: its linear algebra, which nobody uses here, would start a thread per core.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from modelward_agent import privileges
    from modelward_agent.proving import Proof
    from modelward_agent.sensor import mounts, pins, records, uprobes
    from modelward_agent.sensor.errors import SensorError
    from modelward_agent.sensor.sensor import Sensor
    from modelward_agent.sensor.servers import WatchError, lists
    from modelward_agent.spool.batch import Layout
    from modelward_agent.spool.folder import SpoolError, random_id
    from modelward_agent.spool.writer import SpoolWriter
    from modelward_agent.state_folder import StateFolder
    from modelward_agent.supervise import SenderProcess, StateError, StateLock
    from modelward_agent.transport.target import Target, TargetError
    from modelward_agent.watching import Watch

    os.umask(0o077)
    stopped: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, frame: stopped.append(number))
    # Until there is something to try again, a word that asks for it must not end the agent.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    state = Path(settings.state)
    pinned = Path(settings.pins) if settings.pins else pins.folder_of(state)
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    try:
        lists(settings.watch)
        Target.parse(settings.collector, settings.tls_ca, settings.tls_cert, settings.tls_key).check_pair()
        if os.geteuid() != 0:
            return fail(exit_codes.HOST, "watching a host needs root: run it with sudo, or as a service")
        lock = StateLock(state)
        folder = StateFolder(state)
        agent_id = random_id(state / "agent.id")
        crashes = folder.begin_run()
        layout = Layout(records.SMALL, records.LARGE)
        _prepare()
        mounts.prepare()
        kept = privileges.DRAINER if uprobes.for_many() else privileges.DRAINER | privileges.PROBES_ONE_BY_ONE
        privileges.keep(kept, privileges.DRAINER_AT_WORK)
        writer = SpoolWriter(state / "spool", layout, limit_bytes=settings.spool_max_bytes, boot_id=boot_id)
    except (TargetError, WatchError) as e:
        return fail(exit_codes.USAGE, str(e))
    except SensorError as e:
        return fail(exit_codes.HOST, str(e))
    except (StateError, SpoolError) as e:
        return fail(exit_codes.STATE, str(e))

    def open_sensor() -> Source:
        with privileges.raised(after=privileges.DRAINER_AT_WORK):
            return Sensor.open(watch=settings.watch, exclude_pids=(os.getpid(),), pins=pinned)

    proof = Proof()
    watch = Watch(folder, layout, open_sensor, proof, crash_limit=settings.crash_limit, pinned=pinned)
    source = watch.begin(crashes)
    # Servers that run already are not seen before the hooks are there: what they do not need comes after them.
    from modelward_agent.drainer import Drainer
    from modelward_agent.hints.listening import Hints

    signal.signal(signal.SIGHUP, lambda number, frame: watch.hang_up())
    begin = {
        "settings": asdict(settings), "agent_id": agent_id.hex(), "epoch": writer.folder.epoch.hex(),
        "spool": str(writer.folder.path), "boot_id": boot_id,
    }
    hints = Hints(settings.hint_socket)
    drainer = Drainer(source, writer, SenderProcess(begin), proof, watch.mode, watch.reason, hints)
    begin["status"] = drainer.status()
    notify("READY=1")
    log.info("running", extra={
        "mode": watch.mode, "agent_id": agent_id.hex(), "collector": settings.collector, "state": str(state)})

    def stopping() -> bool:
        watch.look(drainer)
        return bool(stopped)

    try:
        drainer.run(stopping, keep_hooks=settings.keep_hooks)
    finally:
        notify("STOPPING=1")
        hints.close()
        watch.end(keep_hooks=settings.keep_hooks)
    folder.end_run()
    lock.release()
    log.info("stopped")
    return exit_codes.OK


def _prepare() -> None:
    """What wants privileges that are given up afterwards."""
    allow_locked_memory()
    try:
        # Before other work on a busy host: a ring lasts 63 ms at a million records a second.
        os.setpriority(os.PRIO_PROCESS, 0, -10)
    except OSError as e:
        log.warning("priority cannot be raised", extra={"reason": e.strerror})


def allow_locked_memory() -> None:
    """Kernels before 5.11 charge BPF maps against RLIMIT_MEMLOCK."""
    try:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    except (OSError, ValueError):
        log.debug("RLIMIT_MEMLOCK cannot be raised")
