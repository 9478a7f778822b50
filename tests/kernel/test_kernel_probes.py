"""What calls of frameworks' functions tell, when probes are attached to them and when they are given up. The libraries are fakes
that have the real names: ``tests/fake_frameworks.c`` and ``tests/fake_cuda.c``."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from modelward_agent.probes.table import FAMILIES
from modelward_agent.sensor import Sensor, uprobes
from modelward_agent.sensor.constants import Evidence, Outcome, Phase, Scope, Trigger

from .conftest import Event, Host, of

pytestmark = pytest.mark.kernel

_TESTS = Path(__file__).resolve().parents[1]

_SERVER = """
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
_LOAD, _SPLITS, _FREE, _DECODE = "llama_model_load_from_file", "llama_model_load_from_splits", "llama_model_free", "llama_decode"
_LOAD_MODEL, _START_LOOP = "_ZN14server_context10load_modelER13common_params", "_ZN14server_context10start_loopEv"
_OPEN_READER = "_ZN6caffe29serialize19PyTorchStreamReaderC1ERKNSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE"
_CLOSE_READER = "_ZN6caffe29serialize19PyTorchStreamReaderD1Ev"
_LINEAR = "_ZN2at4_ops6linear4callERKNS_6TensorES4_RKSt8optionalIS2_E"
_TRITON_LOAD, _TRITON_UNLOAD = "TRITONSERVER_ServerLoadModel", "TRITONSERVER_ServerUnloadModel"


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("gcc") is None:
        pytest.skip("fake libraries are built with gcc")
    folder = tmp_path_factory.mktemp("fakes")
    for source in ("fake_frameworks", "fake_cuda"):
        subprocess.run(["gcc", "-O1", "-fPIC", "-shared", "-fno-optimize-sibling-calls", "-o", folder / source,
                        _TESTS / f"{source}.c"], check=True)
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
        script.write_text(_SERVER + body)
        process = subprocess.Popen([sys.executable, "-S", script, artifact, *libraries])
        code = host.finish(process, timeout=150)
        assert code == 0, f"the provoking program failed with {code}"
        return host.events(process.pid)

    return run


def _report(sensor: Sensor, family: str) -> str:
    [report] = [report for report in sensor.doors() if report.effect == f"probe:{family}"]
    return f"{report.door}; {report.reason}"


def _told(events: list[Event], *triggers: Trigger) -> list[Event]:
    return [e for e in of(events, "lifecycle") if e.trigger in triggers]


def _marked(events: list[Event], name: str) -> Event:
    [event] = [e for e in of(events, "exec") if e.args[-1] == name.encode()]
    return event


def test_a_library_that_is_mapped_is_told_with_its_path(server: Server, library: Library) -> None:
    path = library("libllama.so.0")
    [event] = of(server("", path), "library")
    assert event.path == bytes(path)
    assert event.artifact_inode == path.stat().st_ino
    assert event.phase == Phase.START


def test_a_load_lasts_from_the_call_to_the_return(server: Server, library: Library) -> None:
    events = server(f"wait('{_LOAD}'); call('{_LOAD}', path); run('after')", library("libllama.so"))
    first, last = _told(events, Trigger.PROBE_ENTER, Trigger.PROBE_RETURN)
    assert (first.trigger, first.to_phase, first.asked) == (Trigger.PROBE_ENTER, Phase.LOAD, _LOAD.encode())
    assert (last.trigger, last.outcome, last.instance) == (Trigger.PROBE_RETURN, Outcome.SUCCESS, first.instance)
    [opened] = [e for e in of(events, "file_open") if e.path.endswith(b"model.gguf")]
    assert (opened.phase, opened.scope, opened.instance) == (Phase.LOAD, Scope.OPEN, first.instance)
    after = _marked(events, "after")
    assert (after.phase, after.scope, after.evidence) == (Phase.WARMUP, Scope.NONE, Evidence.OBSERVED)


def test_loads_within_a_load_are_one(server: Server, library: Library) -> None:
    body = f"wait('{_LOAD}'); call('{_SPLITS}', (ctypes.c_char_p * 3)(path, path, path), 3)"
    first, last = _told(server(body, library("libllama.so")), Trigger.PROBE_ENTER, Trigger.PROBE_RETURN)
    assert (first.asked, last.asked) == (_SPLITS.encode(), _SPLITS.encode())
    assert first.instance == last.instance


def test_a_load_that_returns_nothing_has_failed(server: Server, library: Library) -> None:
    events = server(f"wait('{_LOAD}'); call('{_LOAD}', b'/nothing/there.gguf'); run('after')", library("libllama.so"))
    [last] = _told(events, Trigger.PROBE_RETURN)
    assert last.outcome == Outcome.FAILURE
    assert _marked(events, "after").instance == 0


def test_a_load_that_is_left_by_a_jump_has_failed_once_the_thread_loads_again(server: Server, library: Library) -> None:
    body = f"wait('{_LOAD}'); assert call('load_and_leave_deeper', 5); call('{_LOAD}', path)"
    events = server(body, library("libllama.so"))
    shown = [(e.trigger, e.outcome) for e in _told(events, Trigger.PROBE_ENTER, Trigger.PROBE_RETURN)]
    assert shown == [(Trigger.PROBE_ENTER, Outcome.SUCCESS), (Trigger.PROBE_RETURN, Outcome.FAILURE),
                     (Trigger.PROBE_ENTER, Outcome.SUCCESS), (Trigger.PROBE_RETURN, Outcome.SUCCESS)]


def test_a_load_of_a_server_lasts_until_it_starts_to_serve(server: Server, library: Library) -> None:
    body = f"""
wait('{_LOAD_MODEL}')
call('{_LOAD_MODEL}', memory, path)
run('between')
call('{_START_LOOP}', memory)
run('after')
"""
    events = server(body, library("xllamacpp.abi3.so"))
    assert [e.asked for e in _told(events, Trigger.PROBE_ENTER, Trigger.PROBE_RETURN)] == [
        b"server_context::load_model", b"server_context::start_loop"]
    assert (_marked(events, "between").phase, _marked(events, "between").scope) == (Phase.LOAD, Scope.OPEN)
    assert _marked(events, "after").scope == Scope.NONE


def test_a_reader_of_torch_brackets_a_load(server: Server, library: Library) -> None:
    body = f"""
wait('{_CLOSE_READER}')
call('{_OPEN_READER}', memory, path)
run('inside')
call('{_CLOSE_READER}', memory)
run('after')
"""
    events = server(body, library("libtorch_cpu.so"))
    assert [e.asked for e in _told(events, Trigger.PROBE_ENTER, Trigger.PROBE_RETURN)] == [
        b"PyTorchStreamReader(file)", b"~PyTorchStreamReader"]
    inside, after = _marked(events, "inside"), _marked(events, "after")
    assert (inside.phase, inside.scope) == (Phase.LOAD, Scope.OPEN)
    assert (after.phase, after.scope) == (Phase.WARMUP, Scope.NONE)


def test_an_end_of_another_object_ends_no_load(server: Server, library: Library) -> None:
    body = f"""
wait('{_CLOSE_READER}')
call('{_OPEN_READER}', memory, path)
call('{_CLOSE_READER}', ctypes.create_string_buffer(64))
run('inside')
"""
    events = server(body, library("libtorch_cpu.so"))
    assert _marked(events, "inside").scope == Scope.OPEN
    assert not _told(events, Trigger.PROBE_RETURN)


def test_loads_of_two_threads_are_two(server: Server, library: Library) -> None:
    body = f"""
wait('{_CLOSE_READER}')
def load(n):
    own = ctypes.create_string_buffer(64)
    call('{_OPEN_READER}', own, path)
    both.wait()
    call('{_CLOSE_READER}', own)
both = threading.Barrier(2)
threads = [threading.Thread(target=load, args=(n,)) for n in range(2)]
[t.start() for t in threads]
[t.join() for t in threads]
"""
    events = server(body, library("libtorch_cpu.so"))
    begun, ended = _told(events, Trigger.PROBE_ENTER), _told(events, Trigger.PROBE_RETURN)
    assert len({e.instance for e in begun}) == 2
    assert {(e.instance, e.tid) for e in begun} == {(e.instance, e.tid) for e in ended}


def test_inference_ends_the_tail_and_its_probe_is_given_up(server: Server, library: Library) -> None:
    body = f"""
wait('{_LINEAR}')
os.close(os.open(path, os.O_RDONLY))
time.sleep(0.4)
run('tail')
call('{_LINEAR}')
run('inferred')
wait('{_LINEAR}', False)
"""
    events = server(body, library("libtorch_cpu.so"))
    assert _marked(events, "tail").scope == Scope.TAIL
    [told, *_] = _told(events, Trigger.INFERENCE)
    assert told.asked == b"at::_ops::linear"
    # Nobody listens: there will be no answer to tell that it serves.
    assert (_marked(events, "inferred").phase, _marked(events, "inferred").scope) == (Phase.SERVE, Scope.NONE)


def test_a_probe_on_inference_comes_back_with_the_next_load(server: Server, library: Library) -> None:
    body = f"""
def load():
    os.close(os.open(path, os.O_RDONLY))
    time.sleep(0.4)
wait('{_LINEAR}')
load()
call('{_LINEAR}')
wait('{_LINEAR}', False)
threading.Thread(target=load).start()
wait('{_LINEAR}')
"""
    server(body, library("libtorch_cpu.so"))


def test_the_trial_within_a_load_is_no_inference(server: Server, library: Library) -> None:
    body = f"wait('{_DECODE}'); call('{_LOAD_MODEL}', memory, path); run('between')"
    events = server(body, library("libllama.so"))
    assert not _told(events, Trigger.INFERENCE)
    assert _marked(events, "between").scope == Scope.OPEN


def test_a_model_by_name_is_in_the_detail_and_an_error_is_a_failure(server: Server, library: Library) -> None:
    body = f"""
wait('{_TRITON_LOAD}')
call('{_TRITON_LOAD}', memory, path)
call('{_TRITON_LOAD}', memory, b'/nothing/there')
"""
    events = server(body, library("libtritonserver-0a1b2c3d.so"))
    begun, ended = _told(events, Trigger.PROBE_ENTER), _told(events, Trigger.PROBE_RETURN)
    assert begun[1].asked == b"TRITONSERVER_ServerLoadModel /nothing/there"
    assert begun[0].asked.startswith(b"TRITONSERVER_ServerLoadModel /")
    assert [e.outcome for e in ended] == [Outcome.SUCCESS, Outcome.FAILURE]


_STUB = """
wait('{_TRITON_LOAD}')
os.mkfifo(path + b'.fifo')
ready, go = os.pipe()
end, ended = os.pipe()
sibling = os.fork()
if sibling == 0:
    os.read(end, 1)
    run('after')
    os._exit(0)
stub = os.fork()
if stub == 0:
    {before}
    os.read(ready, 1)
    {opens}
    os._exit(0)
time.sleep({pause})
call_of_server = threading.Thread(target=call, args=('{_TRITON_LOAD}', memory, path + b'.fifo'))
call_of_server.start()
time.sleep(0.3)
os.write(go, b'x')
os.waitpid(stub, 0)
with open(path + b'.fifo', 'wb') as fifo:
    fifo.write(b'x')
call_of_server.join()
os.write(ended, b'x')
os.waitpid(sibling, 0)
"""


@pytest.mark.parametrize("opens", [
    pytest.param("os.close(os.open(path, os.O_RDONLY))", id="forked"),
    pytest.param("subprocess.run([sys.executable, '-S', '-c', 'import os, sys; os.open(sys.argv[1], os.O_RDONLY)', path])",
                 id="another program"),
])
def test_the_file_that_another_process_opens_for_a_call_names_its_load(
    server: Server, library: Library, artifact: Path, opens: str
) -> None:
    body = _STUB.format(_TRITON_LOAD=_TRITON_LOAD, before="pass", opens=opens, pause=0)
    events = server(body, library("libtritonserver-0a1b2c3d.so"))
    [begun] = _told(events, Trigger.PROBE_ENTER)
    [opened] = [e for e in of(events, "file_open") if e.path == bytes(artifact)]
    assert (opened.instance, opened.phase) == (begun.instance, Phase.LOAD)
    # The model is the server's and its group's, and does not go with the process that opened it.
    assert _marked(events, "after").instance == begun.instance


def test_a_process_with_a_model_of_its_own_names_no_other_ones_call(server: Server, library: Library, artifact: Path) -> None:
    other = artifact.with_name("own.gguf")
    other.write_bytes(b"GGUF own")
    load = f"t = threading.Thread(target=os.open, args=({str(other)!r}, 0)); t.start(); t.join()"
    body = _STUB.format(_TRITON_LOAD=_TRITON_LOAD, before=load, opens="os.close(os.open(path, os.O_RDONLY))", pause=0.3)
    events = server(body, library("libtritonserver-0a1b2c3d.so"))
    [begun] = _told(events, Trigger.PROBE_ENTER)
    [opened] = [e for e in of(events, "file_open") if e.path == bytes(artifact)]
    assert opened.instance != begun.instance


def test_a_model_that_is_given_back_is_unloaded(server: Server, library: Library) -> None:
    body = f"""
other = path.replace(b'model.gguf', b'other.gguf')
with open(other, 'wb') as f:
    f.write(b'GGUF other')
wait('{_LOAD}')
first = call('{_LOAD}', path)
second = call('{_LOAD}', other)
call('{_FREE}', first)
"""
    events = server(body, library("libllama.so"))
    [unloaded] = _told(events, Trigger.UNLOAD)
    begun = _told(events, Trigger.PROBE_ENTER)
    assert unloaded.instance == begun[0].instance != begun[1].instance
    assert unloaded.asked == _FREE.encode()


def test_the_device_is_told_once_for_each_use_and_launches_are_let_alone(server: Server, library: Library) -> None:
    body = """
wait('cuLaunchKernel')
call('cuInit', 0)
call('cuInit', 0)
call('cuModuleLoadData', memory, memory)
call('cuModuleLoadDataEx', memory, memory)
for _ in range(5):
    call('cuLaunchKernel', 1)
wait('cuLaunchKernel', False)
assert probed('cuInit')
"""
    events = server(body, library("libcuda.so.1", "fake_cuda"))
    assert [e.asked for e in _told(events, Trigger.DEVICE)] == [b"cuInit", b"cuModuleLoadData", b"cuLaunchKernel"]


def test_a_launch_by_the_runtime_is_told(server: Server, library: Library) -> None:
    body = "wait('cudaLaunchKernel'); call('cudaLaunchKernel', 1); wait('cudaLaunchKernel', False)"
    [event] = _told(server(body, library("libcudart-09529672.so.12.6.77", "fake_cuda")), Trigger.DEVICE)
    assert event.asked == b"cudaLaunchKernel"


def test_every_copy_that_is_mapped_is_probed(server: Server, library: Library) -> None:
    one, other = library("libllama.so", folder="one"), library("libllama-0badc0de.so", folder="other")
    server(f"wait('{_LOAD}'); wait('{_LOAD}', library=loaded[1])", one, other)


def test_a_process_that_becomes_tracked_by_an_artifact_is_probed_then(server: Server, library: Library) -> None:
    body = f"assert not probed('{_LOAD}'); os.close(os.open(path, os.O_RDONLY)); wait('{_LOAD}')"
    server(body, library("libllama.so"), name="unknown-server")


def test_a_program_with_the_library_linked_into_it_is_probed(host: Host, built: Path, artifact: Path, tmp_path: Path) -> None:
    main = tmp_path / "main.c"
    main.write_text("""
#include <unistd.h>
void *llama_model_load_from_file(const char *path);
int main(int argc, char **argv) {
	for (int i = 0; i < 400 && *(volatile unsigned char *)llama_model_load_from_file != 0xcc; i++) usleep(50000);
	return argc > 1 && llama_model_load_from_file(argv[1]) ? 0 : 1;
}""")
    program = tmp_path / "llama-server"
    subprocess.run(["gcc", "-O1", "-static", "-o", program, main, _TESTS / "fake_frameworks.c"], check=True)
    process = subprocess.Popen([program, artifact])
    assert host.finish(process) == 0
    assert [e.asked for e in _told(host.events(process.pid), Trigger.PROBE_ENTER)] == [_LOAD.encode()]


def test_a_library_that_is_none_is_told_and_hurts_nobody(host: Host, server: Server, tmp_path: Path) -> None:
    path = tmp_path / "libcuda.so.1"
    path.write_bytes(b"\x7fELF\x02\x01\x01" + bytes(9) + b"\xff" * 8000)
    body = f"""
fd = os.open({str(path)!r}, os.O_RDONLY)
mapped = mmap.mmap(fd, 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_EXEC)
time.sleep(3)
"""
    assert of(server(body), "library")
    assert "libcuda.so.1" in _report(host.sensor, "cuda")


@pytest.fixture
def another_host(host: Host) -> Iterator[Host]:
    """Where probes are attached one by one, as before Linux 6.6."""
    host.sensor.tick()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(uprobes, "for_many", lambda: False)
        sensor = Sensor.open(watch=["single-server"])
        try:
            yield Host(sensor)
        finally:
            sensor.close()


def test_probes_work_one_by_one_too(
    another_host: Host, library: Library, artifact: Path, tmp_path: Path,
) -> None:
    script = tmp_path / "single-server"
    script.write_text(_SERVER + f"wait('{_LOAD}'); wait('{_LINEAR}', library=loaded[1]); call('{_LOAD}', path); run('after')")
    process = subprocess.Popen([sys.executable, "-S", script, artifact, library("libllama.so"), library("libtorch_cpu.so")])
    code = another_host.finish(process, timeout=150)
    assert code == 0, [report for report in another_host.sensor.doors() if report.effect.startswith("probe:")]
    events = another_host.events(process.pid)
    assert [e.asked for e in _told(events, Trigger.PROBE_ENTER, Trigger.PROBE_RETURN)] == [_LOAD.encode()] * 2
    assert _marked(events, "after").scope == Scope.NONE


def test_a_server_that_runs_already_is_probed(library: Library, artifact: Path, tmp_path: Path) -> None:
    script = tmp_path / "earlier-server"
    script.write_text(_SERVER + f"sys.stdout.write('ready\\n'); sys.stdout.flush(); wait('{_LOAD}'); call('{_LOAD}', path)")
    process = subprocess.Popen([sys.executable, "-S", script, artifact, library("libllama.so")], stdout=subprocess.PIPE)
    assert process.stdout
    assert process.stdout.readline() == b"ready\n"
    sensor = Sensor.open(watch=["earlier-server"])
    try:
        late = Host(sensor)
        assert late.finish(process, timeout=150) == 0
        assert [e.asked for e in _told(late.events(process.pid), Trigger.PROBE_ENTER)] == [_LOAD.encode()]
    finally:
        process.stdout.close()
        sensor.close()


def test_probes_end_with_the_sensor(library: Library, artifact: Path, tmp_path: Path) -> None:
    script = tmp_path / "last-server"
    script.write_text(_SERVER + f"wait('{_LOAD}'); sys.stdout.write('probed\\n'); sys.stdout.flush(); wait('{_LOAD}', False)")
    sensor = Sensor.open(watch=["last-server"])
    process = subprocess.Popen([sys.executable, "-S", script, artifact, library("libllama.so")], stdout=subprocess.PIPE)
    assert process.stdout
    try:
        late = Host(sensor)
        for _ in range(4000):
            late.pump()
            if "uprobe:" in _report(sensor, "llama.cpp"):
                break
        assert process.stdout.readline() == b"probed\n"
    finally:
        sensor.close()
    assert process.wait(30) == 0
    process.stdout.close()


@pytest.mark.parametrize("of", ["host", "another_host"])
def test_the_check_proves_probes_of_every_family(request: pytest.FixtureRequest, of: str) -> None:
    told = request.getfixturevalue(of).sensor.prove_probes()
    assert [report.effect for report in told] == [f"probe:{family.name}" for family in FAMILIES]
    assert all(report.proven for report in told), told
    assert all("calls and returns" in report.door for report in told) or uprobes.returns_refused(), told
