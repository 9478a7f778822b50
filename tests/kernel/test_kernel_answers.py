"""What counts as an answer, and makes a server serve; and what does not. Each through the best door of this host and through the
last one, which kernels before 6.3 have where they refuse to attach to functions; what cannot be seen there, the door must say."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from modelward_agent.sensor import Sensor
from modelward_agent.sensor.constants import Phase, Scope, Trigger
from modelward_agent.sensor.doors import EFFECTS

from .conftest import Event, Host, answering, of

pytestmark = pytest.mark.kernel

_DOORS = {door.name: door for effect in EFFECTS if effect.name == "answer" for door in effect.doors}
_LAST = "tp_btf/net_dev_queue"


@pytest.fixture(scope="module")
def packets() -> Iterator[Host]:
    """A sensor to which the better doors of answers are refused."""
    better = {program for name, door in _DOORS.items() if name != _LAST for program in door.programs}
    sensor = Sensor.open(without=sorted(better))
    yield Host(sensor)
    sensor.close()


@pytest.fixture(params=["best door", "packets"])
def host(request: pytest.FixtureRequest) -> Iterator[Host]:
    chosen: Host = request.getfixturevalue("shared_host" if request.param == "best door" else "packets")
    chosen.pump()
    chosen.forget()
    yield chosen
    chosen.forget()


def _loses(host: Host, what: str) -> bool:
    """Whether the door of answers says that it cannot see this."""
    [door] = [report for report in host.sensor.doors() if report.effect == "answer"]
    return what in door.loss


_LOADED = """
import subprocess, sys, threading, time
fd = os.open(sys.argv[1], os.O_RDONLY)
os.read(fd, 100)
os.close(fd)
time.sleep(0.35)

def run(name):
    subprocess.run(["/bin/true", name])
"""

_OK = 'b"HTTP/1.1 200 OK\\r\\ncontent-length: 2\\r\\n\\r\\n"'
_BUSY = 'b"HTTP/1.1 503 Service Unavailable\\r\\ncontent-length: 4\\r\\n\\r\\n"'
_MISSING = 'b"HTTP/1.0 404 Not Found\\r\\n\\r\\n"'
_SETTINGS = "bytes([0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 100])"
_PING = "bytes([0, 0, 8, 6, 1, 0, 0, 0, 0]) + bytes(8)"
_HEADERS = "bytes([0, 0, 1, 1, 4, 0, 0, 0, 1, 0x88])"


def _events(host: Host, artifact: Path, body: str) -> list[Event]:
    return host.run(answering() + _LOADED + body + "\nrun('end')", str(artifact))


def _served(events: list[Event]) -> bool:
    end = of(events, "exec")[-1]
    assert end.args[-1] == b"end"
    served = any((e.to_phase, e.trigger) == (Phase.SERVE, Trigger.ANSWER) for e in of(events, "lifecycle"))
    assert (end.phase, end.scope) == ((Phase.SERVE, Scope.NONE) if served else (Phase.LOAD, Scope.TAIL))
    return served


@pytest.mark.parametrize("parts", [
    pytest.param((_BUSY, 'b"busy"'), id="503 and its body"),
    pytest.param((_MISSING,), id="404"),
    pytest.param(('b"HTTP/1.1 100 Continue\\r\\n\\r\\n"',), id="100"),
    pytest.param((_SETTINGS,), id="HTTP2 settings"),
    pytest.param((_SETTINGS, _PING), id="HTTP2 ping"),
    pytest.param((f"{_SETTINGS} + {_PING}",), id="HTTP2 frames in one write"),
])
def test_what_is_no_answer_does_not_make_a_server_serve(host: Host, artifact: Path, parts: tuple[str, ...]) -> None:
    assert not _served(_events(host, artifact, f"answer({', '.join(parts)})"))


@pytest.mark.parametrize("parts", [
    pytest.param((_OK, 'b"ok"'), id="200"),
    pytest.param((_BUSY, 'b"busy"', _OK), id="200 after 503 on one connection"),
    pytest.param((_SETTINGS, _HEADERS), id="HTTP2 headers"),
    pytest.param((f"{_SETTINGS} + {_HEADERS}",), id="HTTP2 settings and headers in one write"),
    pytest.param(('b"\\x17\\x03\\x03\\x00\\x20" + bytes(32)',), id="TLS"),
    pytest.param(('b"x"',), id="a protocol of its own"),
])
def test_an_answer_makes_a_server_serve(host: Host, artifact: Path, parts: tuple[str, ...]) -> None:
    assert _served(_events(host, artifact, f"answer({', '.join(parts)})"))


@pytest.mark.parametrize("call", ["writev(fd, [head, body])", "write(fd, head + body)"])
def test_a_refusal_is_read_whatever_call_sends_it(host: Host, artifact: Path, call: str) -> None:
    body = f"accepted = accept(); fd, head, body = accepted.fileno(), {_BUSY}, b'busy'; os.{call}"
    assert not _served(_events(host, artifact, body))


def test_a_refusal_is_read_from_sendmsg(host: Host, artifact: Path) -> None:
    assert not _served(_events(host, artifact, f"accepted = accept(); accepted.sendmsg([{_BUSY}, b'busy'])"))


_UNIX = """
unix = socket.socket(socket.AF_UNIX)
unix.bind(sys.argv[1] + ".sock")
unix.listen()
"""


def test_an_answer_on_a_unix_socket_makes_a_server_serve(host: Host, artifact: Path) -> None:
    served = _served(_events(host, artifact, _UNIX + f"answer({_OK}, s=unix)"))
    assert served is not _loses(host, "answers on unix sockets")


def test_a_refusal_on_a_unix_socket_is_no_answer(host: Host, artifact: Path) -> None:
    assert not _served(_events(host, artifact, _UNIX + f"answer({_BUSY}, s=unix)"))


def test_talk_on_a_unix_socket_within_the_group_is_no_answer(host: Host, artifact: Path) -> None:
    body = """
if os.fork() == 0:
    client = socket.socket(socket.AF_UNIX)
    client.connect(sys.argv[1] + ".sock")
    client.recv(10)
    os._exit(0)
accepted, _ = unix.accept()
accepted.send(b"x")
os.wait()
"""
    assert _served(_events(host, artifact, _UNIX + body)) is _loses(host, "another of its group on a unix socket")


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "::ffff:127.0.0.1"])
def test_talk_over_tcp_within_the_group_is_no_answer(host: Host, artifact: Path, address: str) -> None:
    body = f"""
server = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
if os.fork() == 0:
    client = socket.create_connection(({address!r}, server.getsockname()[1]))
    client.recv(10)
    os._exit(0)
accepted, _ = server.accept()
accepted.send(b"x")
os.wait()
"""
    assert not _served(_events(host, artifact, body))


def test_a_port_of_the_group_that_is_free_again_is_nobodys(host: Host, artifact: Path) -> None:
    body = """
client = socket.socket()
client.connect(listener.getsockname())
port = client.getsockname()[1]
listener.accept()[0].close()
client.recv(10)
client.close()
print(listener.getsockname()[1], port, flush=True)
listener.accept()[0].send(b"x")
"""
    process = host.start(answering() + _LOADED + body + "\nrun('end')", str(artifact), stdout=subprocess.PIPE)
    assert process.stdout
    server, port = map(int, process.stdout.readline().split())
    with socket.socket() as outside:
        outside.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        outside.bind(("127.0.0.1", port))
        outside.connect(("127.0.0.1", server))
        assert outside.recv(10) == b"x"
        assert host.finish(process) == 0
    assert _served(host.events(process.pid))


def test_a_client_is_no_server_whatever_it_sends(host: Host, artifact: Path) -> None:
    body = """
pair = socket.socketpair()
pair[0].send(b"x")
client = socket.socket()
client.connect(listener.getsockname())
client.send(b"x")
"""
    assert not _served(_events(host, artifact, body))


def test_the_last_door_is_taken_only_where_the_better_ones_are_refused(packets: Host, shared_host: Host) -> None:
    doors = [next(report for report in host.sensor.doors() if report.effect == "answer") for host in (packets, shared_host)]
    assert doors[0].door == _LAST
    assert doors[1].door != _LAST
    assert all(better in doors[0].reason for better in _DOORS if better != _LAST)


@pytest.mark.parametrize("parts", [
    pytest.param((_OK + " + bytes(400_000)",), id="in one call"),
    pytest.param((_OK, "bytes(400_000)"), id="in two calls"),
])
def test_an_answer_of_many_packets_is_one(host: Host, artifact: Path, parts: tuple[str, ...]) -> None:
    events = _events(host, artifact, f"answer({', '.join(parts)})")
    assert _served(events)
    assert len(of(events, "lifecycle", to_phase=Phase.SERVE, scope=Scope.NONE)) == 2, "of its load and of its process"


def test_a_refusal_of_many_packets_is_no_answer(host: Host, artifact: Path) -> None:
    assert not _served(_events(host, artifact, f"answer({_BUSY} + bytes(400_000))"))


def test_an_answer_sent_from_a_file_makes_a_server_serve(host: Host, artifact: Path) -> None:
    body = "accepted = accept(); sent = os.open('/bin/true', os.O_RDONLY); os.sendfile(accepted.fileno(), sent, 0, 1000)"
    assert _served(_events(host, artifact, body)) is not _loses(host, "sendfile")


def test_what_a_client_sends_to_a_server_that_says_nothing_is_no_answer(host: Host, artifact: Path) -> None:
    """The server acknowledges it, and closes: those packets leave it too."""
    body = "print(listener.getsockname()[1], flush=True); accepted = listener.accept()[0]; accepted.recv(10); accepted.close()"
    process = host.start(answering() + _LOADED + body + "\nrun('end')", str(artifact), stdout=subprocess.PIPE)
    assert process.stdout
    with socket.create_connection(("127.0.0.1", int(process.stdout.readline()))) as client:
        client.send(b"x")
        assert not client.recv(10)
    assert host.finish(process) == 0
    assert not _served(host.events(process.pid))
