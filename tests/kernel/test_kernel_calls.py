"""What calls of frameworks' functions tell."""

from __future__ import annotations

from pathlib import Path

import pytest
from modelward_agent.sensor.constants import Evidence, Outcome, Phase, Scope, Trigger

from .conftest import of
from .frameworks import (
    CLOSE_READER,
    DECODE,
    FREE,
    LINEAR,
    LOAD,
    LOAD_MODEL,
    OPEN_READER,
    SPLITS,
    START_LOOP,
    TRITON_LOAD,
    Library,
    Server,
    built,
    library,
    marked,
    server,
    transitions,
)

__all__ = ["built", "library", "server"]

pytestmark = pytest.mark.kernel


def test_a_library_that_is_mapped_is_told_with_its_path(server: Server, library: Library) -> None:
    path = library("libllama.so.0")
    [event] = of(server("", path), "library")
    assert event.path == bytes(path)
    assert event.artifact_inode == path.stat().st_ino
    assert event.phase == Phase.START


def test_a_load_lasts_from_the_call_to_the_return(server: Server, library: Library) -> None:
    events = server(f"wait('{LOAD}'); call('{LOAD}', path); run('after')", library("libllama.so"))
    first, last = transitions(events, Trigger.PROBE_ENTER, Trigger.PROBE_RETURN)
    assert (first.trigger, first.to_phase, first.asked) == (Trigger.PROBE_ENTER, Phase.LOAD, LOAD.encode())
    assert (last.trigger, last.outcome, last.instance) == (Trigger.PROBE_RETURN, Outcome.SUCCESS, first.instance)
    [opened] = [e for e in of(events, "file_open") if e.path.endswith(b"model.gguf")]
    assert (opened.phase, opened.scope, opened.instance) == (Phase.LOAD, Scope.OPEN, first.instance)
    after = marked(events, "after")
    assert (after.phase, after.scope, after.evidence) == (Phase.WARMUP, Scope.NONE, Evidence.OBSERVED)


def test_loads_within_a_load_are_one(server: Server, library: Library) -> None:
    body = f"wait('{LOAD}'); call('{SPLITS}', (ctypes.c_char_p * 3)(path, path, path), 3)"
    first, last = transitions(server(body, library("libllama.so")), Trigger.PROBE_ENTER, Trigger.PROBE_RETURN)
    assert (first.asked, last.asked) == (SPLITS.encode(), SPLITS.encode())
    assert first.instance == last.instance


def test_a_load_that_returns_nothing_has_failed(server: Server, library: Library) -> None:
    events = server(f"wait('{LOAD}'); call('{LOAD}', b'/nothing/there.gguf'); run('after')", library("libllama.so"))
    [last] = transitions(events, Trigger.PROBE_RETURN)
    assert last.outcome == Outcome.FAILURE
    assert marked(events, "after").instance == 0


def test_a_load_that_is_left_by_a_jump_has_failed_once_the_thread_loads_again(server: Server, library: Library) -> None:
    body = f"wait('{LOAD}'); assert call('load_and_leave_deeper', 5); call('{LOAD}', path)"
    events = server(body, library("libllama.so"))
    shown = [(e.trigger, e.outcome) for e in transitions(events, Trigger.PROBE_ENTER, Trigger.PROBE_RETURN)]
    assert shown == [(Trigger.PROBE_ENTER, Outcome.SUCCESS), (Trigger.PROBE_RETURN, Outcome.FAILURE),
                     (Trigger.PROBE_ENTER, Outcome.SUCCESS), (Trigger.PROBE_RETURN, Outcome.SUCCESS)]


def test_a_load_of_a_server_lasts_until_it_starts_to_serve(server: Server, library: Library) -> None:
    body = f"""
wait('{LOAD_MODEL}')
call('{LOAD_MODEL}', memory, path)
run('between')
call('{START_LOOP}', memory)
run('after')
"""
    events = server(body, library("xllamacpp.abi3.so"))
    assert [e.asked for e in transitions(events, Trigger.PROBE_ENTER, Trigger.PROBE_RETURN)] == [
        b"server_context::load_model", b"server_context::start_loop"]
    assert (marked(events, "between").phase, marked(events, "between").scope) == (Phase.LOAD, Scope.OPEN)
    assert marked(events, "after").scope == Scope.NONE


def test_a_reader_of_torch_brackets_a_load(server: Server, library: Library) -> None:
    body = f"""
wait('{CLOSE_READER}')
call('{OPEN_READER}', memory, path)
run('inside')
call('{CLOSE_READER}', memory)
run('after')
"""
    events = server(body, library("libtorch_cpu.so"))
    assert [e.asked for e in transitions(events, Trigger.PROBE_ENTER, Trigger.PROBE_RETURN)] == [
        b"PyTorchStreamReader(file)", b"~PyTorchStreamReader"]
    inside, after = marked(events, "inside"), marked(events, "after")
    assert (inside.phase, inside.scope) == (Phase.LOAD, Scope.OPEN)
    assert (after.phase, after.scope) == (Phase.WARMUP, Scope.NONE)


def test_an_end_of_another_object_ends_no_load(server: Server, library: Library) -> None:
    body = f"""
wait('{CLOSE_READER}')
call('{OPEN_READER}', memory, path)
call('{CLOSE_READER}', ctypes.create_string_buffer(64))
run('inside')
"""
    events = server(body, library("libtorch_cpu.so"))
    assert marked(events, "inside").scope == Scope.OPEN
    assert not transitions(events, Trigger.PROBE_RETURN)


def test_loads_of_two_threads_are_two(server: Server, library: Library) -> None:
    body = f"""
wait('{CLOSE_READER}')
def load(n):
    own = ctypes.create_string_buffer(64)
    call('{OPEN_READER}', own, path)
    both.wait()
    call('{CLOSE_READER}', own)
both = threading.Barrier(2)
threads = [threading.Thread(target=load, args=(n,)) for n in range(2)]
[t.start() for t in threads]
[t.join() for t in threads]
"""
    events = server(body, library("libtorch_cpu.so"))
    begun, ended = transitions(events, Trigger.PROBE_ENTER), transitions(events, Trigger.PROBE_RETURN)
    assert len({e.instance for e in begun}) == 2
    assert {(e.instance, e.tid) for e in begun} == {(e.instance, e.tid) for e in ended}


def test_inference_ends_the_tail_and_its_probe_is_given_up(server: Server, library: Library) -> None:
    body = f"""
wait('{LINEAR}')
os.close(os.open(path, os.O_RDONLY))
time.sleep(0.4)
run('tail')
call('{LINEAR}')
run('inferred')
wait('{LINEAR}', False)
"""
    events = server(body, library("libtorch_cpu.so"))
    assert marked(events, "tail").scope == Scope.TAIL
    [told, *_] = transitions(events, Trigger.INFERENCE)
    assert told.asked == b"at::_ops::linear"
    # Nobody listens: there will be no answer to tell that it serves.
    assert (marked(events, "inferred").phase, marked(events, "inferred").scope) == (Phase.SERVE, Scope.NONE)


def test_the_trial_within_a_load_is_no_inference(server: Server, library: Library) -> None:
    body = f"wait('{DECODE}'); call('{LOAD_MODEL}', memory, path); run('between')"
    events = server(body, library("libllama.so"))
    assert not transitions(events, Trigger.INFERENCE)
    assert marked(events, "between").scope == Scope.OPEN


def test_a_model_by_name_is_in_the_detail_and_an_error_is_a_failure(server: Server, library: Library) -> None:
    body = f"""
wait('{TRITON_LOAD}')
call('{TRITON_LOAD}', memory, path)
call('{TRITON_LOAD}', memory, b'/nothing/there')
"""
    events = server(body, library("libtritonserver-0a1b2c3d.so"))
    begun, ended = transitions(events, Trigger.PROBE_ENTER), transitions(events, Trigger.PROBE_RETURN)
    assert begun[1].asked == b"TRITONSERVER_ServerLoadModel /nothing/there"
    assert begun[0].asked.startswith(b"TRITONSERVER_ServerLoadModel /")
    assert [e.outcome for e in ended] == [Outcome.SUCCESS, Outcome.FAILURE]


_STUB = """
wait('{TRITON_LOAD}')
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
call_of_server = threading.Thread(target=call, args=('{TRITON_LOAD}', memory, path + b'.fifo'))
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
    body = _STUB.format(TRITON_LOAD=TRITON_LOAD, before="pass", opens=opens, pause=0)
    events = server(body, library("libtritonserver-0a1b2c3d.so"))
    [begun] = transitions(events, Trigger.PROBE_ENTER)
    [opened] = [e for e in of(events, "file_open") if e.path == bytes(artifact)]
    assert (opened.instance, opened.phase) == (begun.instance, Phase.LOAD)
    # The model is the server's and its group's, and does not go with the process that opened it.
    assert marked(events, "after").instance == begun.instance


def test_a_process_that_the_caller_did_not_start_names_no_call_of_it(server: Server, library: Library, artifact: Path) -> None:
    body = f"""
wait('{TRITON_LOAD}')
os.mkfifo(path + b'.fifo')
caller = os.fork()
if caller == 0:
    call('{TRITON_LOAD}', memory, path + b'.fifo')
    os._exit(0)
time.sleep(0.3)
os.close(os.open(path, os.O_RDONLY))
with open(path + b'.fifo', 'wb') as fifo:
    fifo.write(b'x')
os.waitpid(caller, 0)
"""
    events = server(body, library("libtritonserver-0a1b2c3d.so"))
    [begun] = transitions(events, Trigger.PROBE_ENTER)
    [opened] = [e for e in of(events, "file_open") if e.path == bytes(artifact)]
    assert opened.instance != begun.instance


def test_a_process_with_a_model_of_its_own_names_no_other_ones_call(server: Server, library: Library, artifact: Path) -> None:
    other = artifact.with_name("own.gguf")
    other.write_bytes(b"GGUF own")
    load = f"t = threading.Thread(target=os.open, args=({str(other)!r}, 0)); t.start(); t.join()"
    body = _STUB.format(TRITON_LOAD=TRITON_LOAD, before=load, opens="os.close(os.open(path, os.O_RDONLY))", pause=0.3)
    events = server(body, library("libtritonserver-0a1b2c3d.so"))
    [begun] = transitions(events, Trigger.PROBE_ENTER)
    [opened] = [e for e in of(events, "file_open") if e.path == bytes(artifact)]
    assert opened.instance != begun.instance


def test_a_model_that_is_given_back_is_unloaded(server: Server, library: Library) -> None:
    body = f"""
other = path.replace(b'model.gguf', b'other.gguf')
with open(other, 'wb') as f:
    f.write(b'GGUF other')
wait('{LOAD}')
first = call('{LOAD}', path)
second = call('{LOAD}', other)
call('{FREE}', first)
"""
    events = server(body, library("libllama.so"))
    [unloaded] = transitions(events, Trigger.UNLOAD)
    begun = transitions(events, Trigger.PROBE_ENTER)
    assert unloaded.instance == begun[0].instance != begun[1].instance
    assert unloaded.asked == FREE.encode()


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
    assert [e.asked for e in transitions(events, Trigger.DEVICE)] == [b"cuInit", b"cuModuleLoadData", b"cuLaunchKernel"]


def test_a_launch_by_the_runtime_is_told(server: Server, library: Library) -> None:
    body = "wait('cudaLaunchKernel'); call('cudaLaunchKernel', 1); wait('cudaLaunchKernel', False)"
    [event] = transitions(server(body, library("libcudart-09529672.so.12.6.77", "fake_cuda")), Trigger.DEVICE)
    assert event.asked == b"cudaLaunchKernel"
