"""Others who watch the opens of one process: bcc and bpftrace, on the tracepoint sys_enter_openat."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench.processes import cpu_s

_HERE = Path(__file__).parent
_SYSTEM_PYTHON = "/usr/bin/python3"
_READY_S = 30.0

# bcc compiles on the host and wants the kernel's headers. Debian has them for its own kernel only; these records need no more
# of them than types, so its headers stand in for this kernel's, in a mount namespace that ends with the consumer.
_WITH_HEADERS = """
mount -t debugfs nodev /sys/kernel/debug 2>/dev/null
if [ ! -e "/lib/modules/$(uname -r)/build" ]; then
    build=$(ls -d /usr/src/linux-headers-*-amd64 | grep -v cloud | tail -1)
    mount -t tmpfs nodev /lib/modules && mkdir "/lib/modules/$(uname -r)"
    ln -s "$build" "/lib/modules/$(uname -r)/build"
    ln -s "${build%-amd64}-common" "/lib/modules/$(uname -r)/source"
fi
exec "$@"
"""

_BPFTRACE = """tracepoint:syscalls:sys_enter_openat /pid == WATCHED/ {
    printf("open %llu %d %d %s\\n", nsecs, tid, args->flags, str(args->filename));
}
interval:ms:200 { printf("ready\\n"); }"""


class PeerError(Exception):
    """A peer cannot run here; the message says why."""


@dataclass(slots=True)
class Seen:
    """What a consumer received of what happened."""

    received: int = 0
    lost: int = 0
    cpu_s: float = 0.0


@contextmanager
def bcc(pid: int) -> Iterator[Seen]:
    """Watch a process; what was seen is known when the context is left."""
    command = ["unshare", "-m", "sh", "-c", _WITH_HEADERS, "sh", _SYSTEM_PYTHON, str(_HERE / "bcc_opens.py"),
               str(_HERE / "opens.bcc.c"), str(pid)]
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, text=True)
        assert process.stdin is not None
        assert process.stdout is not None
        seen = Seen()
        try:
            if process.stdout.readline() != "ready\n":
                process.wait(_READY_S)
                said.seek(0)
                raise PeerError("bcc: " + (said.read().strip().splitlines() or ["it ended"])[-1])
            yield seen
            process.stdin.close()
            counted = json.loads(process.stdout.readline())
            seen.received, seen.lost, seen.cpu_s = counted["received"], counted["lost"], counted["cpu_s"]
        finally:
            process.kill()
            process.wait()


@contextmanager
def bpftrace(pid: int) -> Iterator[Seen]:
    """The same. Its buffer is as large as ours, and what it prints goes to a file."""
    environment = os.environ | {"BPFTRACE_PERF_RB_PAGES": "4096", "BPFTRACE_STRLEN": "200"}
    with tempfile.TemporaryDirectory() as folder:
        printed, said = Path(folder) / "printed", Path(folder) / "said"
        with printed.open("w") as out, said.open("w") as errors:
            process = subprocess.Popen(["bpftrace", "-e", _BPFTRACE.replace("WATCHED", str(pid))],
                                       env=environment, stdout=out, stderr=errors)
        seen = Seen()
        try:
            until = time.monotonic() + _READY_S
            while "ready" not in printed.read_text():
                if process.poll() is not None or time.monotonic() > until:
                    raise PeerError("bpftrace: " + (said.read_text().strip().splitlines() or ["it did not start"])[-1])
                time.sleep(0.05)
            before = cpu_s(process.pid)
            yield seen
            # The text grows for ever: "ready" is printed again and again.
            count = -1
            while count != (count := _opens(printed)):
                time.sleep(0.3)
            seen.cpu_s = cpu_s(process.pid) - before
            process.terminate()  # as SIGINT, which is ignored where a shell started us in the background
            process.wait(_READY_S)
            seen.received = _opens(printed)
            seen.lost = sum(int(n) for n in re.findall(r"Lost (\d+) events", printed.read_text() + said.read_text()))
        finally:
            process.kill()
            process.wait()


def _opens(printed: Path) -> int:
    text = printed.read_bytes()
    return text.count(b"\nopen ") + text.startswith(b"open ")
