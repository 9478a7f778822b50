"""What counts as an answer, and makes a server serve; and what does not."""

from __future__ import annotations

from pathlib import Path

import pytest
from modelward_agent.sensor.constants import Phase, Scope, Trigger

from .conftest import Event, Host, answering, of

pytestmark = pytest.mark.kernel

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
    assert _served(_events(host, artifact, _UNIX + f"answer({_OK}, s=unix)"))


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
    assert not _served(_events(host, artifact, _UNIX + body))


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
    import socket
    import subprocess

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
