"""What ``modelward-agent support`` collects, part by part: plain values, which are made inert where they are written."""

from __future__ import annotations

import contextlib
import gzip
import importlib.metadata
import json
import os
import platform
import re
import stat
import subprocess
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from modelward_proto import __version__

from modelward_agent.enrich.redact import redact
from modelward_agent.settings import AgentSettings
from modelward_agent.spool.folder import BatchFile
from modelward_agent.state_folder import PAUSED, StateFolder

CHECK_S = 90.0
LOG_LINES = 400
LOG_BYTES = 256 << 10
UNIT = "modelward-agent.service"

_CONFIG = re.compile(
    rb"CONFIG_(?:BPF\w*|CGROUP_BPF|DEBUG_INFO_BTF\w*|FTRACE\w*|KPROBES|UPROBES|TRACEPOINTS|LSM|SECURITY_LOCKDOWN\w*|IO_URING|"
    rb"PREEMPT\w*|HZ|MODULES|NET_CLS_BPF)=.*"
)
_SYSCTLS = (
    "kernel/unprivileged_bpf_disabled", "kernel/bpf_stats_enabled", "kernel/perf_event_paranoid", "kernel/kptr_restrict",
    "net/core/bpf_jit_enable", "net/core/bpf_jit_limit", "kernel/yama/ptrace_scope", "kernel/io_uring_disabled",
)
_STATUS = re.compile(r"(?:State|PPid|Uid|Threads|VmRSS|VmSwap|CapPrm|CapEff|CapBnd|NoNewPrivs|Seccomp):")
_KERNEL_TYPES = ("bpf", "tracefs", "debugfs", "securityfs", "cgroup", "cgroup2")


def host() -> dict[str, Any]:
    """The machine, as far as it decides what the agent can see."""
    uname = os.uname()
    return {
        "agent_version": __version__,
        "host_name": uname.nodename, "kernel_release": uname.release, "kernel_version": uname.version, "machine": uname.machine,
        "system": _lines(Path("/etc/os-release"), "PRETTY_NAME="), "python": platform.python_version(),
        "processors": os.cpu_count(), "memory": _lines(Path("/proc/meminfo"), "MemTotal:", "MemAvailable:"),
        "uptime": _word(Path("/proc/uptime")), "load": _word(Path("/proc/loadavg")),
        "libraries": {name: _version(name) for name in ("numpy", "pyarrow", "grpcio", "protobuf")},
        "btf_bytes": _size(Path("/sys/kernel/btf/vmlinux")),
        "security_modules": _word(Path("/sys/kernel/security/lsm")), "lockdown": _word(Path("/sys/kernel/security/lockdown")),
        "sysctls": {name: _word(Path("/proc/sys", name)) for name in _SYSCTLS},
        "kernel_config": _kernel_config(uname.release),
    }


def settings(values: AgentSettings) -> dict[str, Any]:
    """Settings; files of keys and certificates are nobody's business."""
    return {name: ("set" if value else "") if name.startswith("tls_") else value for name, value in asdict(values).items()}


def agent(folder: StateFolder) -> dict[str, Any]:
    """Pause, crashes and mode, and the processes of an agent that runs with this state folder."""
    pid = folder.holder()
    pause, standing = folder.paused(), folder.standing()
    return {
        "running": pid is not None,
        "paused": asdict(pause) if pause else None,
        "standing": asdict(standing) if standing else None,
        "crashes": folder.crashes(),
        "processes": [_process(each) for each in _family(pid)] if pid else [],
    }


def check(folder: StateFolder) -> dict[str, Any]:
    """Doors, as the check proves them now. It attaches hooks for a moment, so a pause keeps it from running."""
    if folder.paused() is not None:
        return {"problem": f"not run: the agent is {PAUSED}"}
    done = subprocess.run(
        [sys.executable, "-P", "-m", "modelward_agent.cli", "check", "--json"],
        stdin=subprocess.DEVNULL, capture_output=True, timeout=CHECK_S, check=False,
    )
    return {"status": done.returncode, "said": done.stderr[-2000:], "result": json.loads(done.stdout or b"{}")}


def spool(path: Path) -> dict[str, Any]:
    """How many batches wait, and of what sort; never what is in them."""
    counts: Counter[str] = Counter()
    total = events = 0
    numbers: list[int] = []
    oldest = newest = 0.0
    with os.scandir(path) as entries:
        for entry in entries:
            batch = BatchFile.parse(entry.name)
            if batch is None:
                counts["other files"] += 1
                continue
            about = entry.stat(follow_symlinks=False)
            counts[f"{'late' if batch.late else 'live'} {'low' if batch.low else 'high'} {batch.state}"] += 1
            total, events = total + about.st_size, events + batch.events
            numbers.append(batch.number)
            oldest = min(oldest or about.st_mtime, about.st_mtime)
            newest = max(newest, about.st_mtime)
    room = os.statvfs(path)
    state = _state(path)
    return {
        "files": dict(counts), "bytes": total, "events": events,
        "first": min(numbers, default=0), "last": max(numbers, default=0),
        "oldest": oldest, "newest": newest, "set_aside": len(os.listdir(path / "corrupt")),
        "disk_free_bytes": room.f_bavail * room.f_frsize, "disk_free_inodes": room.f_favail,
        "state": {name: state.get(name) for name in ("version", "clean", "last_number", "reserved")},
    }


def ledger(path: Path) -> list[Any]:
    """Rows of (hop, kind, count), up to a second old."""
    return list(_state(path).get("ledger", ()))


def kernel(values: AgentSettings) -> dict[str, Any]:
    """Pins of this agent, and the file systems of the kernel that are mounted."""
    from modelward_agent.sensor import pins

    root = Path(values.pins) if values.pins else pins.folder_of(Path(values.state))
    pinned = [str(path) for path in sorted(root.rglob("*"))[:500]] if root.is_dir() else []
    mounts = [line.split()[:4] for line in Path("/proc/self/mounts").read_text().splitlines()]
    return {"folder": str(root), "pinned": pinned, "mounts": [mount for mount in mounts if mount[2] in _KERNEL_TYPES]}


def log_lines(folder: StateFolder) -> list[bytes]:
    """The end of the file that a running agent logs to, else of the journal of its unit."""
    pid = folder.holder()
    lines: list[bytes] = []
    if pid:
        with contextlib.suppress(OSError):
            # The file itself, not its name: another may stand there by now.
            log = Path(f"/proc/{pid}/fd/2")
            if stat.S_ISREG(log.stat().st_mode):
                with log.open("rb") as file:
                    file.seek(max(0, os.fstat(file.fileno()).st_size - LOG_BYTES))
                    lines = file.read(LOG_BYTES).splitlines()
    if not lines:
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            lines = subprocess.run(
                ["journalctl", "--no-pager", "--output=cat", f"--lines={LOG_LINES}", f"--unit={_unit(pid)}"],
                stdin=subprocess.DEVNULL, capture_output=True, timeout=30, check=False,
            ).stdout[-LOG_BYTES:].splitlines()
    return lines[-LOG_LINES:] or [b"no log was found: neither a file nor a journal"]


def _unit(pid: int | None) -> str:
    """The service that a process belongs to."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
            name = line.rpartition("/")[2]
            if re.fullmatch(r"[\w@.-]{1,200}\.service", name):
                return name
    return UNIT


def _family(pid: int) -> list[int]:
    """The agent's processes: the drainer, and what descends from it."""
    parents: dict[int, int] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError, IndexError, ValueError):
                parents[int(entry)] = int(Path("/proc", entry, "stat").read_bytes().rpartition(b")")[2].split()[1])
    found = [pid]
    for each in found:
        found += [child for child, parent in parents.items() if parent == each]
    return found[:50]


def _process(pid: int) -> dict[str, Any]:
    own = Path("/proc", str(pid))
    with contextlib.suppress(OSError):
        arguments = (own / "cmdline").read_bytes().rstrip(b"\0").split(b"\0")
        return {
            "pid": pid, "arguments": redact(arguments), "descriptors": len(os.listdir(own / "fd")),
            "status": [" ".join(line.split()) for line in (own / "status").read_text().splitlines() if _STATUS.match(line)],
        }
    return {"pid": pid, "problem": "it ended meanwhile"}


def _state(path: Path) -> dict[str, Any]:
    values = json.loads((path / "state.json").read_bytes())
    return values if isinstance(values, dict) else {}


def _kernel_config(release: str) -> list[str]:
    """Lines on BPF and tracing, from wherever this distribution keeps its configuration."""
    for path, opened in (("/proc/config.gz", gzip.open), (f"/boot/config-{release}", open)):
        with contextlib.suppress(OSError), opened(path, "rb") as file:
            return [line.decode("ascii", "replace") for line in _CONFIG.findall(file.read(1 << 20))]
    return []


def _lines(path: Path, *beginnings: str) -> list[str]:
    return [line for line in _read(path).splitlines() if line.startswith(beginnings)]


def _word(path: Path) -> str:
    return _read(path).strip()


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(1 << 16).decode("utf-8", "replace")
    except OSError as e:
        return f"({e.strerror})"


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""
