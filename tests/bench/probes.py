"""(h) CPU time of a call that is probed, by what the probe means, and of an open with and without tags. Interleaved, medians."""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from modelward_agent.sensor.sensor import Sensor

from deploy.demo.report import Report
from tests.bench.progress import say

ROUNDS = 7
CALLS = 20_000
OPENS = 20_000
_FAKES = Path(__file__).resolve().parents[1]
_SERVER = "probed-server"

# A call through ctypes costs more than the probe: the difference to the same call unprobed, in the same process, is what counts.
_CHILD = """
import ctypes, os, sys, time
artifact, folder, calls, opens = sys.argv[1:5]
libraries = sys.argv[5:]
calls, opens = int(calls), int(opens)
loaded = [ctypes.CDLL(path) for path in libraries]

def address(lib, name):
    return ctypes.cast(getattr(lib, name), ctypes.c_void_p).value

def wait(lib, name, wanted=True):
    end = time.monotonic() + 60
    while (ctypes.string_at(address(lib, name), 1) == b"\\xcc") != wanted:
        if time.monotonic() > end:
            sys.exit(f"{name}: no probe")
        time.sleep(0.01)

def timed(lib, name, *arguments):
    function = getattr(lib, name)
    begun = time.thread_time_ns()
    for _ in range(calls):
        function(*arguments)
    return (time.thread_time_ns() - begun) / calls

def timed_opens():
    names = [f"{folder}/{n}" for n in range(opens)]
    begun = time.thread_time_ns()
    for name in names:
        os.close(os.open(name, os.O_RDONLY))
    return (time.thread_time_ns() - begun) / opens

def load():
    os.close(os.open(artifact, os.O_RDONLY))

exec(sys.stdin.read())
"""


def measure(report: Report) -> None:
    """Adds the rows of this part."""
    if shutil.which("gcc") is None:
        raise RuntimeError("the fake libraries are built with gcc")
    with tempfile.TemporaryDirectory() as scratch:
        place = _Place(Path(scratch))
        costs: dict[str, list[float]] = {}
        sensor = Sensor.open(watch=[_SERVER])
        try:
            for turn in range(ROUNDS):
                say(f"round {turn + 1} of {ROUNDS}: {CALLS:,} calls and {OPENS:,} opens of each sort")
                for sort, (tracked, body) in _SORTS.items():
                    costs.setdefault(sort, []).append(place.run(sensor, tracked, body))
        finally:
            sensor.close()
    bare = statistics.median(costs[_BARE])
    for sort, values in costs.items():
        if sort not in _OPEN_SORTS:
            report.add(sort, statistics.median(values) - (0.0 if sort == _BARE else bare), "ns", "", True,
                       spread=f"{min(values):,.0f} to {max(values):,.0f} with the call itself",
                       counted=f"medians of {ROUNDS} rounds of {CALLS:,} calls through ctypes"
                               + ("" if sort == _BARE else ", less one that is not probed"))
    untracked = statistics.median(costs[_OPEN_SORTS[0]])
    for sort in _OPEN_SORTS:
        values = costs[sort]
        report.add(sort, statistics.median(values), "ns", "", True, peer="untracked process", peer_value=untracked,
                   ratio=statistics.median(values) / untracked, spread=f"{min(values):,.0f} to {max(values):,.0f}",
                   counted=f"medians of {ROUNDS} rounds of {OPENS:,} opens of distinct files")


_BARE = "a call that is not probed"
class _Place:
    """Fake libraries, files to open and an artifact."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._libraries = [folder / "libllama.so", folder / "libcuda.so.1"]
        for path, source in zip(self._libraries, ("fake_frameworks.c", "fake_cuda.c"), strict=True):
            subprocess.run(["gcc", "-O1", "-fPIC", "-shared", "-o", path, _FAKES / source], check=True)
        self._artifact = folder / "weights.gguf"
        self._artifact.write_bytes(b"GGUF")
        self._files = folder / "files"
        self._files.mkdir()
        for number in range(OPENS):
            (self._files / str(number)).touch()

    def run(self, sensor: Sensor, tracked: bool, body: str) -> float:
        """What the child measured, while the sensor is drained."""
        script = self._folder / (_SERVER if tracked else "other")
        script.write_text(_CHILD)
        child = subprocess.Popen(
            [sys.executable, "-S", script, self._artifact, self._files, str(CALLS), str(OPENS), *self._libraries],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert child.stdin
        assert child.stdout
        child.stdin.write(body)
        child.stdin.close()
        while child.poll() is None:
            sensor.tick()
            sensor.commit(sensor.drain().positions)
            time.sleep(0.01)
        said = child.stdout.read()
        child.stdout.close()
        if child.returncode:
            raise RuntimeError(f"the measured process failed: {body}")
        return float(said)


_INIT = "lib = loaded[1]; wait(lib, 'cuInit'); "
_OPEN_SORTS = ("open by an untracked process", "open by a tracked process in no load", "open by a tracked process in a load")
_SORTS: dict[str, tuple[bool, str]] = {
    _BARE: (True, "wait(loaded[1], 'cuInit'); print(timed(loaded[1], 'cuDriverGetVersion', 0))"),
    "entry, device already told": (True, _INIT + "lib.cuInit(0); print(timed(lib, 'cuInit', 0))"),
    "entry, in a process that is not tracked": (False, _INIT + "print(timed(lib, 'cuInit', 0))"),
    "entry and return of a load that fails at once": (True, "wait(loaded[0], 'llama_model_load_from_file'); "
                                                            "print(timed(loaded[0], 'llama_model_load_from_file', b'/no/such'))"),
    "launch, after its probe was given up": (True, "lib = loaded[1]; wait(lib, 'cuLaunchKernel'); lib.cuLaunchKernel(0); "
                                                   "wait(lib, 'cuLaunchKernel', False); print(timed(lib, 'cuLaunchKernel', 0))"),
    _OPEN_SORTS[0]: (False, "print(timed_opens())"),
    _OPEN_SORTS[1]: (True, "print(timed_opens())"),
    _OPEN_SORTS[2]: (True, "load(); print(timed_opens())"),
}
