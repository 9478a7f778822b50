"""Who becomes tracked, and who never does."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from modelward_agent.sensor import Sensor
from modelward_agent.sensor.constants import Flag
from modelward_agent.sensor.servers import AS_MODULE, AS_PROGRAM, AS_SCRIPT, lists

from .conftest import Host, of

pytestmark = pytest.mark.kernel

_OPEN = "import os, sys; os.close(os.open(sys.argv[1], os.O_RDONLY)); os.close(os.open('/dev/null', os.O_RDONLY))"


def _names(how: int) -> list[str]:
    return sorted(name.decode() for name, value in lists().programs.items() if value & how)


def _exec(host: Host, *command: str) -> int:
    """Exec a command from an untracked program; the pid that it had."""
    process = host.start("import os, sys; os.execv(sys.argv[1], sys.argv[2:])", *command)
    host.finish(process)
    return process.pid


def test_every_listed_program_is_tracked_from_its_exec(host: Host, tmp_path: Path) -> None:
    pids = {}
    for name in _names(AS_PROGRAM):
        program = tmp_path / name
        shutil.copy("/bin/true", program)
        pids[name] = _exec(host, str(program), str(program))
    missing = [name for name, pid in pids.items() if not of(host.events(pid), "exec", flags=_server_flags(host, pid))]
    assert not missing


def _server_flags(host: Host, pid: int) -> int:
    """Flags of the server's exec; 0 when there is none, so that nothing equals them."""
    found = [e.flags for e in of(host.events(pid), "exec") if e.flags & Flag.SERVER]
    return int(found[0]) if found else -1


def test_every_listed_script_is_tracked_from_its_exec(host: Host, tmp_path: Path) -> None:
    missing = []
    for name in _names(AS_SCRIPT):
        script = tmp_path / name
        script.write_text("")
        pid = _exec(host, sys.executable, "python3", "-S", "-W", "ignore", str(script), "--port", "1")
        if _server_flags(host, pid) < 0:
            missing.append(name)
    assert not missing


def test_every_listed_module_is_tracked_from_its_exec(host: Host) -> None:
    missing = []
    for name in _names(AS_MODULE):
        pid = _exec(host, sys.executable, "python3", "-S", "-m", name)  # fails to import: the exec was enough
        if _server_flags(host, pid) < 0:
            missing.append(name)
    assert not missing


def test_a_watched_name_is_tracked_from_its_exec(host: Host, tmp_path: Path) -> None:
    script = tmp_path / "watched-server"
    script.write_text("")
    assert _server_flags(host, _exec(host, sys.executable, "python3", "-S", str(script))) > 0


@pytest.mark.parametrize("arguments", [
    ("-c", "pass", "uvicorn"),
    ("-S", "-c", "pass"),
    ("-S", "{other}", "uvicorn"),
    ("-S", "{other}", "-m", "uvicorn"),
])
def test_a_server_named_elsewhere_on_the_command_line_is_not_one(host: Host, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    other = tmp_path / "other.py"
    other.write_text("")
    pid = _exec(host, sys.executable, "python3", *(a.format(other=other) for a in arguments))
    assert host.events(pid) == []


@pytest.mark.parametrize("name", [
    "model.gguf", "MODEL.GGUF", "weights.safetensors", "net.onnx", "net.pt", "net.pth", "last.ckpt", "net.keras", "net.h5",
    "model.joblib", "model.pkl", "model.pickle", "net.tflite", "saved_model.pb", "trees.ubj", "pytorch_model-00001-of-00002.bin",
    "model.skops", "a.b.c.safetensors",
])
def test_reading_an_artifact_makes_tracked(host: Host, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    assert of(host.run(_OPEN, str(tmp_path / name)), "file_open", path=b"/dev/null")


@pytest.mark.parametrize("name", [
    "notes.txt", "gguf", ".gguf", "model.gguf.txt", "model_id.bin", "data.bin", "site-packages/start.pth",
    "dist-packages/start.pth", "lib2to3/Grammar.pickle", "x.safetensorsandmore", "model.gguf/config",
])
def test_reading_something_else_does_not(host: Host, tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(b"x")
    assert host.run(_OPEN, str(tmp_path / name)) == []


def test_an_artifact_is_known_by_the_name_asked_for(host: Host, tmp_path: Path) -> None:
    # as in the cache of Hugging Face: snapshots/REV/model.safetensors -> blobs/SHA256
    (tmp_path / "blob").write_bytes(b"x")
    (tmp_path / "model.safetensors").symlink_to("blob")
    [event] = [e for e in of(host.run(_OPEN, str(tmp_path / "model.safetensors")), "file_open") if e.flags & Flag.ARTIFACT]
    assert event.path == bytes(tmp_path / "blob")


def test_an_artifact_is_known_by_the_name_of_the_file(host: Host, artifact: Path, tmp_path: Path) -> None:
    (tmp_path / "weights").symlink_to(artifact)
    assert of(host.run(_OPEN, str(tmp_path / "weights")), "file_open", path=bytes(artifact))


@pytest.mark.parametrize("flags", ["os.O_WRONLY", "os.O_RDWR", "os.O_WRONLY | os.O_CREAT | os.O_TRUNC", "os.O_PATH"])
def test_opening_an_artifact_other_than_for_reading_does_not_make_tracked(host: Host, artifact: Path, flags: str) -> None:
    program = f"import os, sys; os.close(os.open(sys.argv[1], {flags})); os.close(os.open('/dev/null', os.O_RDONLY))"
    assert host.run(program, str(artifact)) == []


def test_a_folder_with_an_artifacts_name_does_not_make_tracked(host: Host, tmp_path: Path) -> None:
    (tmp_path / "model.keras").mkdir()
    assert host.run(_OPEN, str(tmp_path / "model.keras")) == []


@pytest.mark.parametrize("name", ["tar", "rsync", "kubelet", "containerd-shim-runc-v2", "sshd"])
def test_an_excluded_program_never_becomes_tracked(host: Host, artifact: Path, tmp_path: Path, name: str) -> None:
    program = tmp_path / name
    shutil.copy("/bin/cat", program)
    assert host.events(_exec(host, str(program), str(program), str(artifact))) == []


def test_what_an_excluded_program_starts_may_become_tracked(host: Host, artifact: Path, tmp_path: Path) -> None:
    shim = tmp_path / "containerd-shim"
    shutil.copy(os.path.realpath("/bin/sh"), shim)
    process = host.start("import os, sys; os.execv(sys.argv[1], sys.argv[1:])", str(shim), "-c", 'cat "$0" > /dev/null; exit 0',
                         str(artifact), stdout=subprocess.DEVNULL)
    host.finish(process)
    roots = {int(r) for part in host.all_records() for r in part["root_tgid"][part["parent_tgid"] == process.pid]}
    assert len(roots) == 1


def test_threads_children_and_their_children_are_tracked(host: Host, artifact: Path) -> None:
    program = """
import os, subprocess, sys, threading
os.close(os.open(sys.argv[1], os.O_RDONLY))
t = threading.Thread(target=lambda: subprocess.run(["/bin/sh", "-c", "/bin/true grandchild; exit 0"]))
t.start(); t.join()
"""
    events = host.run(program, str(artifact))
    assert [e.args[1] for e in of(events, "exec") if e.path.endswith(b"/true")] == [b"grandchild"]


def test_threads_that_were_there_before_the_artifact_was_opened_are_tracked(host: Host, artifact: Path) -> None:
    program = """
import os, subprocess, sys, threading
go = threading.Event()
t = threading.Thread(target=lambda: (go.wait(), subprocess.run(["/bin/true", "old thread"])))
t.start()
os.close(os.open(sys.argv[1], os.O_RDONLY))
go.set()
t.join()
"""
    [event] = of(host.run(program, str(artifact)), "exec")
    assert event.args[-1] == b"old thread"


def test_children_that_were_there_before_the_artifact_was_opened_are_tracked(host: Host, artifact: Path) -> None:
    program = """
import os, subprocess, sys, time
child = os.fork()
if child == 0:
    time.sleep(0.5)
    os.close(os.open("/dev/null", os.O_RDONLY))
    os._exit(0)
os.close(os.open(sys.argv[1], os.O_RDONLY))
os.wait()
"""
    events = host.run(program, str(artifact))
    assert [e for e in of(events, "file_open", path=b"/dev/null") if e.parent_tgid == e.root_tgid]


def test_children_of_an_untracked_parent_are_groups_of_their_own(host: Host, artifact: Path) -> None:
    first, second = host.run(_OPEN, str(artifact)), host.run(_OPEN, str(artifact))
    assert first[0].group != second[0].group
    assert first[0].group != 0


def test_the_agents_own_tree_is_never_tracked(artifact: Path) -> None:
    sensor = Sensor.open(exclude_pids=[os.getpid()])
    try:
        host = Host(sensor)
        assert host.run(_OPEN, str(artifact)) == []
        uvicorn = artifact.with_name("uvicorn")
        uvicorn.write_text("")
        assert host.events(_exec(host, sys.executable, "python3", "-S", str(uvicorn))) == []
    finally:
        sensor.close()


def test_groups_that_ended_leave_their_room_to_new_ones(host: Host, artifact: Path) -> None:
    readers = 1300  # more than there are slots for groups or scopes
    script = f'for i in $(seq {readers}); do /bin/cat "$0" > /dev/null; done'
    process = host.start("import os, sys; os.execv('/bin/sh', sys.argv[1:])", "sh", "-c", script, str(artifact))
    host.finish(process)
    ours = [part[part["parent_tgid"] == process.pid] for part in host.all_records()]
    groups = {int(g) for part in ours for g in part["group"][part["kind"] == 48]}
    assert len(groups) == readers


def test_processes_beyond_the_bound_of_groups_are_counted_as_missed(host: Host, artifact: Path) -> None:
    before = host.sensor.counters().get(("missed", "lifecycle"), 0)
    readers = """
import os, signal, sys
children = []
for _ in range(1030):
    ready, told = os.pipe()
    if (child := os.fork()) == 0:
        os.open(sys.argv[1], os.O_RDONLY)
        os.write(told, b".")
        signal.pause()
    children.append(child)
    os.close(told)
    os.read(ready, 1)
    os.close(ready)
for child in children:
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
"""
    assert host.finish(host.start(readers, str(artifact)), 60) == 0
    assert host.sensor.counters().get(("missed", "lifecycle"), 0) - before >= 6
    assert host.run("import os, sys; os.open(sys.argv[1], os.O_RDONLY)", str(artifact))
