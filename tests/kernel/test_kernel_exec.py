"""exec, fork and exit: what a record says of a program, and of its end."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from modelward_agent.sensor.constants import Flag

from .conftest import Host, of

pytestmark = pytest.mark.kernel

_TRACKED = "import os, sys; os.close(os.open(sys.argv[1], os.O_RDONLY))\n"


def test_exec_names_program_asked_name_arguments_and_folder(host: Host, artifact: Path, tmp_path: Path) -> None:
    program = _TRACKED + "import subprocess; subprocess.run(['/bin/sh', '-c', 'exit 0', 'two words'], cwd=sys.argv[2])"
    [event] = of(host.run(program, str(artifact), str(tmp_path)), "exec")
    assert event.path == os.path.realpath("/bin/sh").encode()
    assert event.asked == b"/bin/sh"
    assert event.args == [b"/bin/sh", b"-c", b"exit 0", b"two words"]
    assert event.cwd == bytes(tmp_path)
    assert (event.args_count, event.args_length) == (4, len(b"/bin/sh -c exit 0 two words") + 1)
    assert not event.flags & Flag.TRUNCATED
    status = os.stat("/bin/sh")
    assert (event.inode, event.links) == (status.st_ino, status.st_nlink)
    assert event.changed_ns == max(status.st_mtime_ns, status.st_ctime_ns)


def test_exec_of_a_script_names_interpreter_and_script(host: Host, artifact: Path, tmp_path: Path) -> None:
    script = tmp_path / "run.sh"
    script.write_text("#!/bin/sh\nexit 0\n")
    script.chmod(0o755)
    program = _TRACKED + "import subprocess; subprocess.run([sys.argv[2]])"
    [event] = of(host.run(program, str(artifact), str(script)), "exec")
    assert event.path == os.path.realpath("/bin/sh").encode()
    assert event.asked == bytes(script)
    assert event.interpreter == b"/bin/sh"
    assert event.args == [b"/bin/sh", bytes(script)]


def test_exec_with_long_arguments_says_truncated_and_their_true_length(host: Host, artifact: Path) -> None:
    program = _TRACKED + "import subprocess; subprocess.run(['/bin/true', 'x' * 5000, 'end'])"
    [event] = of(host.run(program, str(artifact)), "exec")
    assert event.flags & Flag.TRUNCATED
    assert event.args_count == 3
    assert event.args_length == len(b"/bin/true\0") + 5001 + len(b"end\0")
    assert len(event.argv) == 4096
    assert event.argv.startswith(b"/bin/true\0xxx")


def test_exec_of_a_memfd_is_told(host: Host, artifact: Path) -> None:
    program = _TRACKED + """
fd = os.memfd_create("hidden")
os.write(fd, open("/bin/true", "rb").read())
if os.fork() == 0:
    os.execve(fd, ["innocent"], {})
os.wait()
"""
    [event] = of(host.run(program, str(artifact)), "exec")
    assert event.flags & Flag.MEMFD
    assert event.path == b"memfd:hidden"
    assert event.args == [b"innocent"]


def test_exec_from_tmpfs_of_a_file_newer_than_its_root_is_told(host: Host, artifact: Path) -> None:
    program = _TRACKED + """
import shutil, subprocess, time
time.sleep(0.05)
path = f"/dev/shm/modelward-{os.getpid()}"
shutil.copy("/bin/true", path)
subprocess.run([path])
os.unlink(path)
subprocess.run(["/bin/true"])
"""
    new, old = of(host.run(program, str(artifact)), "exec")
    assert new.flags & Flag.TMPFS
    assert new.flags & Flag.NEWER_THAN_ROOT
    assert not old.flags & (Flag.TMPFS | Flag.NEWER_THAN_ROOT | Flag.UNLINKED | Flag.MEMFD)


def test_exec_with_a_connection_as_standard_input_is_told(host: Host, artifact: Path) -> None:
    """A unix socket is what services under systemd write their logs to."""
    program = _TRACKED + """
import socket, subprocess
listener = socket.create_server(("127.0.0.1", 0))
connection = socket.create_connection(listener.getsockname())
ours, theirs = socket.socketpair()
for stdin in (connection, theirs, None):
    subprocess.run(["/bin/true"], stdin=stdin)
"""
    connected, local, without = of(host.run(program, str(artifact)), "exec")
    assert connected.flags & Flag.STDIO_SOCKET
    assert not (local.flags | without.flags) & Flag.STDIO_SOCKET


def test_exec_by_a_thread_keeps_the_process_tracked(host: Host, artifact: Path) -> None:
    program = _TRACKED + """
import threading
threading.Thread(target=lambda: os.execv("/bin/sh", ["sh", "-c", "/bin/true; exit 0"])).start()
threading.Event().wait()
"""
    events = host.run(program, str(artifact))
    shell, child = of(events, "exec")
    assert shell.tgid == shell.tid == shell.root_tgid
    assert child.parent_tgid == shell.tgid
    assert child.parent_start_ns == shell.start_ns


def test_fork_names_the_child_by_the_key_its_own_events_have(host: Host, artifact: Path) -> None:
    program = _TRACKED + "import subprocess; subprocess.run(['/bin/true'])"
    events = host.run(program, str(artifact))
    [fork], [event] = of(events, "fork"), of(events, "exec")
    assert (fork.child_tgid, fork.child_start_ns) == (event.tgid, event.start_ns)
    assert (event.parent_tgid, event.parent_start_ns) == (fork.tgid, fork.start_ns)


def test_exit_tells_code_and_signal(host: Host, artifact: Path) -> None:
    program = _TRACKED + """
import subprocess
subprocess.run(["/bin/sh", "-c", "exit 7"])
subprocess.run(["/bin/sh", "-c", "kill -9 $$"])
"""
    events = host.run(program, str(artifact))
    by_pid = {e.tgid: (e.exit_code, e.exit_signal) for e in of(events, "exit")}
    assert sorted(by_pid.values()) == [(-1, signal.SIGKILL), (0, 0), (7, 0)]


def test_exit_of_a_process_with_threads_is_told_once(host: Host, artifact: Path) -> None:
    program = _TRACKED + """
import threading
threads = [threading.Thread(target=threading.Event().wait, daemon=True) for _ in range(8)]
[t.start() for t in threads]
os._exit(5)
"""
    process = host.start(program, str(artifact))
    assert host.finish(process) == 5
    [event] = of(host.events(process.pid), "exit")
    assert (event.exit_code, event.exit_signal) == (5, 0)


def test_header_names_user_parent_and_root(host: Host, artifact: Path) -> None:
    program = _TRACKED + """
import subprocess
subprocess.run(["/bin/true"], user=65534)
"""
    [event] = of(host.run(program, str(artifact)), "exec")
    assert event.uid == 65534
    assert event.parent_tgid == event.root_tgid
    assert event.parent_start_ns == event.root_start_ns
    assert event.flags & Flag.LEADER
    assert not event.flags & Flag.ROOT
