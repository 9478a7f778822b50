"""A drainer that is killed with SIGKILL at one point of its work, or stops cleanly when its standard input ends.

Usage: ``python -m tests.kernel.doomed_drainer PINS SPOOL POINT HITS``; prints ``ready`` once it drains. At the HITS-th time it
comes to POINT it is gone; ``never`` is no point.
"""

from __future__ import annotations

import os
import select
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from modelward_agent import drainer as drainer_module
from modelward_agent.drainer import Drainer
from modelward_agent.proving import Proof
from modelward_agent.reading import Reading
from modelward_agent.sensor import Sensor, records
from modelward_agent.sensor.repeats import Repeats
from modelward_agent.spool.batch import Layout
from modelward_agent.spool.writer import SpoolWriter
from modelward_agent.supervise import SenderProcess

POINTS: dict[str, tuple[type, str, bool]] = {
    "drained": (Reading, "drain", False),
    "before spooling": (SpoolWriter, "write", True),
    "spooled": (SpoolWriter, "write", False),
    "kept": (Sensor, "keep", False),
    "committed": (Sensor, "commit", False),
    "repeats read": (Repeats, "_read", False),
    "repeats settled": (Repeats, "settle", False),
    "repeats before emptying": (Repeats, "_empty", True),
}
"""Point to the method at whose beginning (True) or end it lies."""


def doom(point: str, hits: int) -> None:
    """Make this process end at the ``hits``-th time that it comes to a point."""
    owner, name, first = POINTS[point]
    method: Callable[..., Any] = getattr(owner, name)
    left = [hits]

    def deadly(*arguments: Any, **options: Any) -> Any:
        left[0] -= 1
        if first and left[0] <= 0:
            os.kill(os.getpid(), signal.SIGKILL)
        result = method(*arguments, **options)
        if left[0] <= 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, deadly)


def main() -> None:
    pins, spool, point, hits = sys.argv[1:]
    drainer_module.REPEATS_S = 0.05
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    writer = SpoolWriter(Path(spool), Layout(records.SMALL, records.LARGE), limit_bytes=1 << 30, boot_id=boot_id)
    sensor = Sensor.open(pins=Path(pins), exclude_pids=(os.getpid(),))
    sender = SenderProcess({}, command=("-c", "import sys; sys.stdin.read()"))
    drainer = Drainer(sensor, writer, sender, Proof(("true",)))
    print("ready", flush=True)
    if point in POINTS:
        doom(point, int(hits))
    drainer.run(lambda: bool(select.select([sys.stdin], [], [], 0)[0]))
    sensor.close()


if __name__ == "__main__":
    main()
