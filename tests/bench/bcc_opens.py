"""A consumer as bcc's own tools are written. Run by Debian's Python, which has the package bcc: PROGRAM PID.

Says "ready" when it is attached; at the end of its standard input it says what it counted.
"""

import json
import resource
import select
import sys
from typing import Any

from bcc import BPF  # type: ignore[import-not-found]


def main() -> None:
    with open(sys.argv[1]) as program:
        bpf = BPF(text=program.read().replace("WATCHED", str(int(sys.argv[2]))))
    opens = bpf["opens"]
    received = length = 0

    def take(context: Any, data: Any, size: int) -> None:
        nonlocal received, length
        event = opens.event(data)
        received += 1
        length += len(event.path)

    opens.open_ring_buffer(take)
    before = _cpu_s()
    print("ready", flush=True)
    while not select.select([sys.stdin], [], [], 0)[0]:
        bpf.ring_buffer_poll(50)
    bpf.ring_buffer_consume()
    lost = bpf["lost"][0].value
    print(json.dumps({"received": received, "lost": lost, "cpu_s": _cpu_s() - before, "text": length}), flush=True)


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


main()
