"""The hint socket: what is heard, of whom, and what is not. Real sockets and processes; the listener is a list."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelward_agent.hints.hint import Hint, parse
from modelward_agent.hints.listening import Hints
from modelward_proto.fields import PHASES

MODULE = Path(__file__).parents[2] / "agent" / "modelward_hint.py"
DIGEST = "0123456789abcdef" * 4


class Heard(list[Hint]):
    """Listens (:class:`modelward_agent.hints.listening.Listener`)."""

    def declare(self, hint: Hint) -> None:
        self.append(hint)


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "run" / "hint.sock")


@pytest.fixture
def hints(path: str) -> Iterator[Hints]:
    made = Hints(path)
    yield made
    made.close()


def said(hints: Hints) -> Heard:
    heard = Heard()
    hints.deliver(heard)
    return heard


def send(path: str, message: bytes, ancillary: list[tuple[int, int, bytes]] | None = None) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.sendmsg([message], ancillary or [], 0, path)


def run(code: str, path: str, *, python: str = sys.executable) -> None:
    code = f"import sys; sys.path.insert(0, {str(MODULE.parent)!r}); import modelward_hint as hint\n{code}"
    subprocess.run([python, "-c", code], env=os.environ | {"MODELWARD_HINT_SOCKET": path}, check=True, timeout=30)


def test_the_modules_words_are_not_heard(hints: Hints, path: str) -> None:
    run(f"with hint.load('resnet50', digest={DIGEST!r}): pass\nhint.serving()\nhint.stopping()", path)
    heard = said(hints)
    assert [PHASES[hint.phase] for hint in heard] == ["load", "warmup", "serve", "stop"]
    assert heard[0].detail == b"resnet50@0123456789ab"
    assert len({hint.pid for hint in heard}) == 1
    assert heard[0].pid == heard[0].thread


def test_a_load_that_raises_is_not_over(hints: Hints, path: str) -> None:
    run("try:\n    with hint.load('x'): raise KeyError\nexcept KeyError: pass", path)
    assert [PHASES[hint.phase] for hint in said(hints)] == ["load", "warmup"]


def test_a_thread_speaks_for_another(hints: Hints, path: str) -> None:
    run("import threading\nt = threading.Thread(target=hint.serving); t.start(); t.join()", path)
    (hint,) = said(hints)
    assert hint.thread not in (0, hint.pid)


def test_a_server_without_an_agent_fails(path: str) -> None:
    run("hint.serving()\nwith hint.load(object()): pass", path)


def test_a_server_whose_agent_hangs_fails(hints: Hints, path: str) -> None:
    run("for _ in range(50): hint.serving()", path)
    assert said(hints)


def test_a_name_writes_lines_of_its_own(hints: Hints, path: str) -> None:
    run(r"hint.warmup('x\nPHASE=load\nTHREAD=1')", path)
    (hint,) = said(hints)
    assert PHASES[hint.phase] == "warmup"


def test_an_old_python_cannot_read_the_module() -> None:
    compile(MODULE.read_text(), str(MODULE), "exec", dont_inherit=True)
    import ast

    ast.parse(MODULE.read_text(), feature_version=(3, 8))


@pytest.mark.skipif(os.geteuid() != 0, reason="naming another process wants CAP_SYS_ADMIN")
def test_who_said_it_is_taken_from_the_text(hints: Hints, path: str) -> None:
    send(path, b"PHASE=serve\nPID=1\nMAINPID=1")
    assert [hint.pid for hint in said(hints)] == [os.getpid()]


def test_descriptors_that_somebody_sends_along_stay_open(hints: Hints, path: str) -> None:
    before = len(os.listdir("/proc/self/fd"))
    fds = struct.pack("=8i", *[0] * 8)
    for _ in range(4):
        send(path, b"PHASE=serve", [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
    assert len(said(hints)) == 4
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_flood_is_handed_on(hints: Hints, path: str) -> None:
    heard, until, sent = Heard(), time.monotonic() + 1.2, 0
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.setblocking(False)
        while time.monotonic() < until:
            try:
                end.sendto(b"PHASE=serve", path)
                sent += 1
            except BlockingIOError:
                hints.deliver(heard)
    hints.deliver(heard)
    assert len(heard) + hints.dropped == sent > 100
    assert len(heard) <= 60
    assert f"{hints.dropped} were dropped" in hints.doors()[0].reason


def test_a_flood_of_one_process_drowns_what_another_says(hints: Hints, path: str) -> None:
    heard = Heard()
    for _ in range(200):
        send(path, b"PHASE=serve")
        hints.deliver(heard)
    other = os.fork()
    if not other:
        try:
            send(path, b"PHASE=stop")
        finally:
            os._exit(0)
    os.waitpid(other, 0)
    hints.deliver(heard)
    assert heard[-1].pid == other


def test_a_long_datagram_is_cut_and_believed(hints: Hints, path: str) -> None:
    send(path, b"PHASE=serve\nMODEL=" + b"x" * 5000)
    assert said(hints) == []
    assert hints.dropped == 1


def test_the_time_of_sending_is_that_of_reading(hints: Hints, path: str) -> None:
    before = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    send(path, b"PHASE=serve")
    after = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    time.sleep(0.3)
    (hint,) = said(hints)
    assert before - 50_000_000 < hint.sent_ns < after + 50_000_000


def test_a_second_agent_takes_the_socket_of_the_first(hints: Hints, path: str) -> None:
    other = Hints(path)
    assert other.doors()[0].door == "none"
    assert "another agent listens there" in other.doors()[0].reason
    other.close()
    send(path, b"PHASE=serve")
    assert len(said(hints)) == 1


def test_the_socket_of_an_agent_that_was_killed_is_in_the_way(path: str) -> None:
    Path(path).parent.mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind(path)
    made = Hints(path)
    send(path, b"PHASE=serve")
    assert len(said(made)) == 1
    made.close()
    assert not os.path.exists(path)


def test_a_file_in_its_place_is_removed(path: str) -> None:
    Path(path).parent.mkdir()
    Path(path).write_text("precious")
    made = Hints(path)
    made.close()
    assert "something else than a socket" in made.doors()[0].reason
    assert Path(path).read_text() == "precious"


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_other_users_are_not_heard() -> None:
    with tempfile.TemporaryDirectory(prefix="modelward-hint-") as folder:
        os.chmod(folder, 0o711)
        path = os.path.join(folder, "run", "hint.sock")
        hints = Hints(path)
        child = os.fork()
        if not child:
            try:
                os.setgid(65534)
                os.setuid(65534)
                send(path, b"PHASE=serve")
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        assert [hint.pid for hint in said(hints)] == [child]
        hints.close()


def test_an_agent_that_listens_nowhere_says_that_it_does() -> None:
    assert Hints("").doors() == []


def test_nothing_said_is_waited_for(hints: Hints) -> None:
    thread = threading.Thread(target=hints.deliver, args=(Heard(),), daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()


@given(st.binary(max_size=400))
def test_hostile_bytes_raise(raw: bytes) -> None:
    for text in (raw, b"PHASE=load\n" + raw, b"PHASE=serve\nMODEL=" + raw, b"PHASE=stop\nTHREAD=" + raw):
        hint = parse(text, 1, 1)
        assert hint is None or (len(hint.detail) <= 63 and b"\0" not in hint.detail)
