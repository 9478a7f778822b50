"""Servers that call frameworks' functions. The libraries are fakes that have the real names: ``tests/fake_frameworks.c`` and
``tests/fake_cuda.c``."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from modelward_agent.sensor.constants import Trigger

from .conftest import Event, Host, of

TESTS = Path(__file__).resolve().parents[1]
SERVER = """
import ctypes, mmap, os, socket, subprocess, sys, threading, time
artifact, *libraries = sys.argv[1:]
loaded = [ctypes.CDLL(path) for path in libraries]
lib = loaded[0] if loaded else None
path = os.fsencode(artifact)
memory = ctypes.create_string_buffer(64)

def function(name, library=None):
    found = getattr(library or lib, name)
    found.restype = ctypes.c_void_p
    return found

def call(name, *arguments):
    return function(name)(*[ctypes.c_void_p(a) if isinstance(a, int) else a for a in arguments])

def run(name):
    subprocess.run(["/bin/true", name])

def probed(name, library=None):
    "Whether a breakpoint stands at a function's first byte."
    return ctypes.string_at(ctypes.cast(function(name, library), ctypes.c_void_p).value, 1) == b"\\xcc"

def wait(name, wanted=True, library=None):
    end = time.monotonic() + 120
    while probed(name, library) != wanted:
        assert time.monotonic() < end, f"{name} is {'not ' if wanted else ''}probed for two minutes"
        time.sleep(0.02)
"""
"""How a provoking program begins: its arguments are an artifact and libraries, of which it calls functions by name."""

LOAD, SPLITS, FREE, DECODE = "llama_model_load_from_file", "llama_model_load_from_splits", "llama_model_free", "llama_decode"
LOAD_MODEL, START_LOOP = "_ZN14server_context10load_modelER13common_params", "_ZN14server_context10start_loopEv"
OPEN_READER = "_ZN6caffe29serialize19PyTorchStreamReaderC1ERKNSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE"
CLOSE_READER = "_ZN6caffe29serialize19PyTorchStreamReaderD1Ev"
LINEAR = "_ZN2at4_ops6linear4callERKNS_6TensorES4_RKSt8optionalIS2_E"
TRITON_LOAD = "TRITONSERVER_ServerLoadModel"


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("gcc") is None:
        pytest.skip("fake libraries are built with gcc")
    folder = tmp_path_factory.mktemp("fakes")
    for source in ("fake_frameworks", "fake_cuda"):
        subprocess.run(["gcc", "-O1", "-fPIC", "-shared", "-fno-optimize-sibling-calls", "-o", folder / source,
                        TESTS / f"{source}.c"], check=True)
    return folder


Library = Callable[..., Path]
Server = Callable[..., list[Event]]


@pytest.fixture
def library(built: Path, tmp_path: Path) -> Library:
    """A copy of a fake under the name of a real library: a file of its own."""
    def make(name: str, source: str = "fake_frameworks", folder: str = "lib") -> Path:
        path = tmp_path / folder / name
        path.parent.mkdir(exist_ok=True)
        shutil.copy(built / source, path)
        return path

    return make


@pytest.fixture
def server(host: Host, artifact: Path, tmp_path: Path) -> Server:
    """Runs a program that is tracked from its start."""
    def run(body: str, *libraries: Path, name: str = "watched-server") -> list[Event]:
        script = tmp_path / name
        script.write_text(SERVER + body)
        process = subprocess.Popen([sys.executable, "-S", script, artifact, *libraries])
        code = host.finish(process, timeout=150)
        assert code == 0, f"the provoking program failed with {code}"
        return host.events(process.pid)

    return run


def transitions(events: list[Event], *triggers: Trigger) -> list[Event]:
    """Of the lifecycle, those of some triggers."""
    return [e for e in of(events, "lifecycle") if e.trigger in triggers]


def marked(events: list[Event], name: str) -> Event:
    """The program that ``run(name)`` started."""
    [event] = [e for e in of(events, "exec") if e.args[-1] == name.encode()]
    return event
