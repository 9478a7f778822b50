"""What is an artifact: by inode, by first bytes, by companions; and loads that no open tells of."""

from __future__ import annotations

import os
import pickle
import struct
import subprocess
from pathlib import Path

import pytest
from modelward_agent.sensor.constants import Evidence, Flag, Phase, Scope, Trigger

from .conftest import Event, Host, of

pytestmark = pytest.mark.kernel

_PRELUDE = """
import ctypes, mmap, os, subprocess, sys, threading, time
artifact = sys.argv[1]
def run(name):
    subprocess.run(["/bin/true", name])
def begin():
    # tracked from here on, and old enough for the watch on first reads to be on
    os.close(os.open(artifact, os.O_RDONLY))
    time.sleep(0.5)
"""


def _run(host: Host, body: str, artifact: Path, *more: str) -> list[Event]:
    return host.run(_PRELUDE + body, str(artifact), *more)


def _opened(events: list[Event], path: Path) -> Event:
    return next(e for e in of(events, "file_open") if e.path == bytes(path))


def _key(path: Path) -> tuple[int, int]:
    """Device, in the kernel's own form, and inode."""
    stat = path.stat()
    return os.major(stat.st_dev) << 20 | os.minor(stat.st_dev), stat.st_ino


def test_a_hard_link_under_another_name_is_an_artifact(host: Host, artifact: Path) -> None:
    events = _run(host, "begin(); os.link(artifact, artifact + '.x1'); os.open(artifact + '.x1', os.O_RDONLY)", artifact)
    assert _opened(events, Path(f"{artifact}.x1")).flags & Flag.ARTIFACT


def test_an_artifact_that_was_renamed_is_one_still(host: Host, artifact: Path) -> None:
    events = _run(host, "begin(); os.rename(artifact, artifact + '.x2'); os.open(artifact + '.x2', os.O_RDONLY)", artifact)
    assert _opened(events, Path(f"{artifact}.x2")).flags & Flag.ARTIFACT


def test_an_inode_that_is_another_file_by_now_is_no_artifact(host: Host, artifact: Path, tmp_path: Path) -> None:
    device, inode = _key(artifact)
    known = struct.pack("=QII", inode, device, 0)
    host.sensor._kernel.map("artifacts").update(known, struct.pack("=II", 0xABCDEF01, 1))
    plain = tmp_path / "renamed.py"
    artifact.rename(plain)
    other = tmp_path / "other.gguf"
    other.write_bytes(b"x")
    events = _run(host, f"begin(); os.open({str(plain)!r}, os.O_RDONLY)", other)
    assert not _opened(events, plain).flags & Flag.ARTIFACT


def test_a_file_that_user_space_registered_is_an_artifact(host: Host, artifact: Path, tmp_path: Path) -> None:
    external = tmp_path / "weights.part"
    external.write_bytes(bytes(100))
    assert host.sensor.register_artifacts([_key(external)]) == 1
    assert _opened(_run(host, f"begin(); os.open({str(external)!r}, os.O_RDONLY)", artifact), external).flags & Flag.ARTIFACT


def test_a_link_that_one_group_calls_a_model_makes_none_of_the_file_elsewhere(host: Host, artifact: Path, tmp_path: Path) -> None:
    shared, link = tmp_path / "shared.conf", tmp_path / "link.safetensors"
    shared.write_bytes(bytes(100))
    link.symlink_to(shared)
    body = f"begin(); os.open({str(link)!r}, os.O_RDONLY); os.open({str(shared)!r}, os.O_RDONLY)"
    named, again = (e for e in of(_run(host, body, artifact), "file_open") if e.path == bytes(shared))
    assert named.flags & again.flags & Flag.ARTIFACT
    assert not _run(host, f"os.open({str(shared)!r}, os.O_RDONLY)", artifact), "a process became tracked by an ordinary file"
    events = _run(host, f"begin(); os.open({str(shared)!r}, os.O_RDONLY)", artifact)
    assert not _opened(events, shared).flags & Flag.ARTIFACT


_ONNX = b"\x08\x07\x12\x07pytorch" + bytes(100)
_SAFETENSORS = struct.pack("<Q", 60) + b'{"a":{"dtype":"F32"}}'.ljust(60) + bytes(100)


@pytest.mark.parametrize(("content", "how"), [
    pytest.param(b"GGUF" + bytes(100), "os.read(fd, 4)", id="gguf, four bytes"),
    pytest.param(b"\x89HDF\r\n\x1a\n" + bytes(100), "os.read(fd, 100)", id="hdf5"),
    pytest.param(pickle.dumps({"weights": list(range(50))}), "os.read(fd, 100)", id="pickle 4"),
    pytest.param(pickle.dumps({"weights": list(range(50))}, protocol=2), "os.read(fd, 100)", id="pickle 2"),
    pytest.param(_SAFETENSORS, "os.pread(fd, 100, 0)", id="safetensors, pread"),
    pytest.param(_ONNX, "os.readv(fd, [bytearray(50), bytearray(50)])", id="onnx, readv"),
    pytest.param(bytes(4) + b"TFL3" + bytes(100), "os.read(fd, 100)", id="tflite"),
])
def test_first_bytes_of_a_model_begin_a_load(host: Host, artifact: Path, tmp_path: Path, content: bytes, how: str) -> None:
    hidden = tmp_path / "hidden.dat"
    hidden.write_bytes(content)
    body = f"""
go = threading.Event()
def load():
    go.wait()
    fd = os.open({str(hidden)!r}, os.O_RDONLY)
    {how}
    run("inside")
t = threading.Thread(target=load); t.start(); begin(); go.set(); t.join()
"""
    events = _run(host, body, artifact)
    [begun] = of(events, "lifecycle", trigger=Trigger.ARTIFACT_READ)
    assert (begun.path, begun.artifact_inode) == (bytes(hidden), hidden.stat().st_ino)
    inside = of(events, "exec")[-1]
    assert (inside.phase, inside.scope, inside.instance) == (Phase.LOAD, Scope.OPEN, begun.instance)


@pytest.mark.parametrize(("name", "content", "how"), [
    pytest.param("a.dat", b"PK\x03\x04" + bytes(100), "os.read(fd, 50)", id="zip"),
    pytest.param("b.dat", b"\x80\x04 text" + bytes(100), "os.read(fd, 50)", id="almost a pickle"),
    pytest.param("c.dat", bytes(50) + b"GGUF" + bytes(100), "os.pread(fd, 50, 50)", id="not at the beginning"),
    pytest.param("d.dat", struct.pack("<Q", 1 << 40) + b'{"' + bytes(100), "os.read(fd, 50)", id="header longer than the file"),
])
def test_other_first_bytes_begin_nothing(
    host: Host, artifact: Path, tmp_path: Path, name: str, content: bytes, how: str
) -> None:
    other = tmp_path / name
    other.write_bytes(content)
    events = _run(host, f"begin(); fd = os.open({str(other)!r}, os.O_RDONLY); {how}; time.sleep(0.2)", artifact)
    assert not of(events, "lifecycle", trigger=Trigger.ARTIFACT_READ)


def test_a_model_in_memory_alone_begins_a_load(host: Host, artifact: Path) -> None:
    body = """
begin()
fd = os.memfd_create("x")
os.write(fd, b"GGUF" + bytes(100))
again = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY)
os.read(again, 50)
"""
    [begun] = of(_run(host, body, artifact), "lifecycle", trigger=Trigger.ARTIFACT_READ)
    assert begun.flags & Flag.MEMFD


def test_files_beside_the_artifact_keep_its_load_open(host: Host, artifact: Path, tmp_path: Path) -> None:
    (tmp_path / "variables").mkdir()
    (tmp_path / "tokenizer.json").write_text("{}")
    (tmp_path / "variables" / "index").write_text("x" * 20)
    body = f"""
os.close(os.open(artifact, os.O_RDONLY))
for i in range(12):
    time.sleep(0.05)
    os.close(os.open([{str(tmp_path / 'tokenizer.json')!r}, {str(tmp_path / 'variables' / 'index')!r}][i % 2], os.O_RDONLY))
run("inside")
"""
    events = _run(host, body, artifact)
    assert of(events, "exec")[-1].scope == Scope.OPEN
    assert len(of(events, "lifecycle", trigger=Trigger.ARTIFACT_OPEN)) == 1


def test_files_elsewhere_do_not_keep_a_load_open(host: Host, artifact: Path) -> None:
    body = """
os.close(os.open(artifact, os.O_RDONLY))
for _ in range(12):
    time.sleep(0.05)
    os.close(os.open("/etc/hostname", os.O_RDONLY))
run("inside")
"""
    assert of(_run(host, body, artifact), "exec")[-1].scope == Scope.TAIL


def test_another_model_after_a_quiet_tail_is_another_instance(host: Host, artifact: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.onnx"
    other.write_bytes(b"x")
    shards = [tmp_path / f"model-0000{n}-of-00002.safetensors" for n in (1, 2)]
    [shard.write_bytes(b"x") for shard in shards]
    body = f"""
def load(path):
    os.close(os.open(path, os.O_RDONLY))
    time.sleep(0.35)
load(artifact); load({str(other)!r}); load({str(shards[0])!r}); load({str(shards[1])!r})
"""
    events = _run(host, body, artifact)
    opened = [_opened(events, path).instance for path in (artifact, other, *shards)]
    assert len(set(opened)) == 3
    assert opened[2] == opened[3]


def test_all_files_of_a_saved_model_are_one_model(host: Host, artifact: Path, tmp_path: Path) -> None:
    (tmp_path / "variables").mkdir()
    names = ("saved_model.pb", "variables/variables.index", "variables/variables.data-00000-of-00001", "fingerprint.pb")
    files = [tmp_path / name for name in names]
    [file.write_bytes(b"x") for file in files]
    body = f"""
for path in {[str(file) for file in files]!r}:
    os.close(os.open(path, os.O_RDONLY))
    time.sleep(0.35)
"""
    events = _run(host, "begin()" + body, artifact)
    opened = [_opened(events, path) for path in files]
    assert len({event.instance for event in opened if event.flags & Flag.ARTIFACT}) == 1
    assert opened[0].instance != _opened(events, artifact).instance


def test_a_program_that_a_load_starts_has_a_load_of_its_own(host: Host, artifact: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.gguf"
    other.write_bytes(b"GGUF" + bytes(100))
    body = f"""
fd = os.open(artifact, os.O_RDONLY)
subprocess.run([sys.executable, "-S", "-c", "import os, sys; os.open(sys.argv[1], os.O_RDONLY)", {str(other)!r}])
"""
    events = _run(host, body, artifact)
    first, second = (_opened(events, path) for path in (artifact, other))
    assert second.instance != first.instance
    assert (second.origin_instance, second.phase) == (first.instance, Phase.LOAD)


def test_a_process_that_a_load_forks_helps_in_that_load(host: Host, artifact: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.gguf"
    other.write_bytes(b"GGUF" + bytes(100))
    body = f"""
fd = os.open(artifact, os.O_RDONLY)
if os.fork() == 0:
    os.open({str(other)!r}, os.O_RDONLY)
    os._exit(0)
os.wait()
"""
    events = _run(host, body, artifact)
    assert _opened(events, other).instance == _opened(events, artifact).instance


def test_a_thread_that_reads_what_another_opened_is_of_its_load(host: Host, artifact: Path) -> None:
    body = """
fd = None
ready, done = threading.Event(), threading.Event()
def reader():
    ready.wait()
    time.sleep(0.2)
    os.pread(fd, 10, 0)
    run("reader")
    done.set()
threading.Thread(target=reader).start()
time.sleep(0.1)
fd = os.open(artifact, os.O_RDONLY)
ready.set()
while not done.wait(0.02):
    os.pread(fd, 10, 0)
"""
    events = _run(host, body, artifact)
    [begun] = of(events, "lifecycle", trigger=Trigger.ARTIFACT_OPEN)
    reader = of(events, "exec")[-1]
    assert (reader.instance, reader.scope) == (begun.instance, Scope.OPEN)


def test_a_load_that_user_space_found_is_reconstructed(host: Host, artifact: Path, tmp_path: Path) -> None:
    body = """
def loader():
    print(threading.get_native_id(), flush=True)
    sys.stdin.readline()
    run("late")
begin()
t = threading.Thread(target=loader); t.start(); t.join()
"""
    process = host.start(_PRELUDE + body, str(artifact), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin
    assert process.stdout
    host.pump_for(1)
    tid = int(process.stdout.readline())
    assert host.sensor.late_load(process.pid, tid, 77, 4242)
    assert not host.sensor.late_load(process.pid, tid, 77, 4242), "it has that model now"
    process.stdin.close()
    host.finish(process)
    events = host.events(process.pid)
    [begun] = of(events, "lifecycle", trigger=Trigger.LATE)
    assert (begun.artifact_inode, begun.artifact_device, begun.evidence) == (4242, 77, Evidence.RECONSTRUCTED)
    late = of(events, "exec")[-1]
    assert (late.phase, late.instance, late.evidence) == (Phase.LOAD, begun.instance, Evidence.RECONSTRUCTED)


def test_many_late_loads_begin_with_the_next_ticks_on_the_main_thread_where_theirs_has_ended(
    host: Host, artifact: Path, tmp_path: Path
) -> None:
    blob = tmp_path / "blob"
    blob.write_bytes(bytes(100))
    body = f"""
def loader():
    print(threading.get_native_id(), flush=True)
    sys.stdin.readline()
begin()
gone = threading.Thread(target=lambda: print(threading.get_native_id(), flush=True)); gone.start(); gone.join()
t = threading.Thread(target=loader); t.start(); t.join()
os.close(os.open({str(blob)!r}, os.O_RDONLY))
"""
    process = host.start(_PRELUDE + body, str(artifact), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin
    assert process.stdout
    ended, loader = (int(process.stdout.readline()) for _ in range(2))
    host.pump_for(1)
    group = host.events(process.pid)[-1].group
    device, inode = _key(blob)
    found = [(process.pid, ended, 77, 4242, group), (process.pid, loader, 77, 4243, group),
             (process.pid, loader, device, inode, group), (process.pid, loader, 77, 4243, group), (1, 1, 77, 4244, group)]
    assert host.sensor.late_loads(found) == len(found)
    host.pump_for(1)
    process.stdin.close()
    host.finish(process)
    events = host.events(process.pid)
    # Nothing says that the third is of the same model as the one that its thread loads already.
    begun = of(events, "lifecycle", trigger=Trigger.LATE)
    assert {(e.tid, e.artifact_inode) for e in begun} == {(process.pid, 4242), (loader, 4243), (loader, inode)}
    assert len({e.instance for e in begun}) == len(begun) == 3
    # From then on it is known, to its group.
    assert _opened(events, blob).flags & Flag.ARTIFACT
    known = set(host.sensor._kernel.map("artifacts").keys())
    assert struct.pack("=QII", inode, device, group & 0xFFFFFFFF) in known
    assert struct.pack("=QII", inode, device, 0) not in known


def test_a_late_load_takes_no_thread_out_of_the_load_that_it_is_in(host: Host, artifact: Path) -> None:
    body = """
done = threading.Event()
def loader():
    fd = os.open(artifact, os.O_RDONLY)
    print(threading.get_native_id(), flush=True)
    while not done.wait(0.02):
        os.pread(fd, 10, 0)
    run("inside")
t = threading.Thread(target=loader); t.start()
sys.stdin.readline()
done.set()
t.join()
"""
    process = host.start(_PRELUDE + body, str(artifact), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin
    assert process.stdout
    host.pump_for(0.5)
    tid = int(process.stdout.readline())
    host.pump_for(0.3)
    assert host.sensor.late_load(process.pid, tid, 77, 4242)
    host.pump_for(0.5)
    process.stdin.close()
    host.finish(process)
    events = host.events(process.pid)
    [opened] = of(events, "lifecycle", trigger=Trigger.ARTIFACT_OPEN)
    [late] = of(events, "lifecycle", trigger=Trigger.LATE)
    inside = of(events, "exec")[-1]
    assert late.instance != opened.instance == inside.instance
    assert (inside.phase, inside.scope) == (Phase.LOAD, Scope.OPEN)


def test_a_late_load_of_a_stranger_begins_nothing(host: Host) -> None:
    assert not host.sensor.late_load(1, 1, 77, 4242)


def test_a_late_load_of_another_group_than_the_thread_is_in_by_now_begins_nothing(host: Host, artifact: Path) -> None:
    process = host.start(_PRELUDE + "begin(); sys.stdin.readline()", str(artifact), stdin=subprocess.PIPE)
    assert process.stdin
    host.pump_for(1)
    group = host.events(process.pid)[-1].group
    assert host.sensor.late_loads([(process.pid, process.pid, 77, 4242, group + 1)]) == 1
    host.pump_for(0.5)
    assert host.sensor.late_loads([(process.pid, process.pid, 77, 4243, group)]) == 1
    host.pump_for(0.5)
    process.stdin.close()
    host.finish(process)
    [begun] = of(host.events(process.pid), "lifecycle", trigger=Trigger.LATE)
    assert begun.artifact_inode == 4243


def test_a_descriptor_that_is_kept_of_a_second_shard_begins_no_other_load_when_it_is_read_later(
    host: Host, artifact: Path, tmp_path: Path
) -> None:
    shards = [tmp_path / f"model-{number}.safetensors" for number in (1, 2)]
    for shard in shards:
        shard.write_bytes(bytes(5000))
    body = f'''
def load():
    global kept
    os.close(os.open({str(shards[0])!r}, os.O_RDONLY))
    kept = os.open({str(shards[1])!r}, os.O_RDONLY)
def other():
    # While some load goes on, reads are looked at.
    fd = os.open(artifact, os.O_RDONLY)
    for _ in range(20):
        time.sleep(0.05)
        os.pread(fd, 10, 0)
t = threading.Thread(target=load); t.start(); t.join()
worker = os.fork()
if worker == 0:
    # Another one of the same server has the same file.
    load()
    os._exit(0)
os.waitpid(worker, 0)
t = threading.Thread(target=other); t.start()
time.sleep(0.5)
os.pread(kept, 10, 0)
run("reads")
t.join()
'''
    events = _run(host, body, artifact)
    assert not of(events, "lifecycle", trigger=Trigger.ARTIFACT_READ)
    assert of(events, "exec")[-1].scope == Scope.NONE


def test_a_model_that_is_no_longer_mapped_was_unloaded(host: Host, artifact: Path, tmp_path: Path) -> None:
    second = tmp_path / "second.onnx"
    second.write_bytes(bytes(5000))
    body = f"""
def load(path):
    fd = os.open(path, os.O_RDONLY)
    mapped = mmap.mmap(fd, 0, prot=mmap.PROT_READ)
    os.close(fd)
    return mapped
def loads():
    global first, second
    first, = [load(artifact)]
    time.sleep(0.4)
    second = load({str(second)!r})
t = threading.Thread(target=loads); t.start(); t.join()
run("two")
time.sleep(7)
second.close()
time.sleep(3)
run("one")
"""
    events = _run(host, body, artifact)
    first, later = of(events, "lifecycle", trigger=Trigger.ARTIFACT_OPEN)
    [unloaded] = of(events, "lifecycle", trigger=Trigger.UNLOAD)
    assert unloaded.instance == later.instance
    two, one = of(events, "exec")
    assert (two.instance, one.instance) == (0, first.instance)
