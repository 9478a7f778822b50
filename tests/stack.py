"""The whole of Modelward for tests: a real collector, a real agent, and a place with models and servers."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from deploy.demo.console import Console, Detection
from deploy.demo.expect import Expected
from deploy.demo.place import ModelServer, Place
from deploy.demo.processes import Processes
from deploy.demo.stack import Stack
from deploy.demo.watch import Watch


@dataclass(frozen=True)
class Whole:
    """Everything that runs, and the folder it runs in."""

    folder: Path
    processes: Processes
    stack: Stack
    place: Place
    watch: Watch

    @property
    def console(self) -> Console:
        return self.stack.console

    def detects(self, server: ModelServer, *expected: Expected) -> None:
        """Stop ``server``; its workload must have been detected exactly so, from its start to its end."""
        server.stop()
        # A model gets its name at the lowest priority: on a busy machine that takes a while.
        outcome = self.watch.wait(server.pid, expected, timeout_s=90)
        found = "\n".join(map(_shown, self.watch.of(server.pid)))
        assert not outcome.missing, f"not detected: {[e.words() for e in outcome.missing]}; detected:\n{found}"
        assert not outcome.other, f"more than expected was detected:\n{found}"


def _shown(detection: Detection) -> str:
    names = f"model {detection.model!r}, origin {detection.origin_model!r}"
    what = f"[{detection.chain}] {detection.command} {detection.file}"
    return f"  {detection.rule} in {detection.phase}, {names}, {what}"


@contextmanager
def running(*, applications: Sequence[Path] = (), rules: Sequence[Path] = ()) -> Iterator[Whole]:
    """Start everything in a new folder; stop it and remove the folder at the end."""
    with ExitStack() as opened:
        folder = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="modelward-test-")))
        processes = Processes(folder / "logs")
        opened.callback(processes.close)
        stack = Stack(processes, folder, rules=rules)
        opened.callback(stack.close)
        stack.start()
        watch = Watch(stack.console.url, folder, every_s=2)
        opened.callback(watch.close)
        yield Whole(folder, processes, stack, Place(processes, folder, applications), watch)
