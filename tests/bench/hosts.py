"""A folder, processes, and a collector and an agent in it that a part of the benchmark starts."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from deploy.demo.processes import Processes
from deploy.demo.stack import Stack


@dataclass(frozen=True)
class Fresh:
    """Where nothing was before; all of it is ended and removed when the context is left."""

    folder: Path
    processes: Processes
    stack: Stack
    opened: ExitStack
    """for what else is to be ended then, first"""


@contextmanager
def fresh() -> Iterator[Fresh]:
    with ExitStack() as opened:
        folder = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="modelward-bench-")))
        processes = Processes(folder / "logs")
        opened.callback(processes.close)
        stack = Stack(processes, folder)
        opened.callback(stack.close)
        yield Fresh(folder, processes, stack, opened)
