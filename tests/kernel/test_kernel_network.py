"""Connects and listening sockets, through both doors."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from modelward_agent.sensor import Sensor
from modelward_agent.sensor.constants import Outcome

from .conftest import Host, of

pytestmark = pytest.mark.kernel

_TRACKED = "import os, socket, sys; os.close(os.open(sys.argv[1], os.O_RDONLY)); port = int(sys.argv[2])\n"


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True, backlog=64) as server:
        yield server


@pytest.fixture(scope="module")
def other_door() -> Iterator[Host]:
    sensor = Sensor.open(without=["connect4", "connect6", "on_socket_connect", "on_connecting"])
    yield Host(sensor)
    sensor.close()


def _run(host: Host, body: str, artifact: Path, listener: socket.socket):  # type: ignore[no-untyped-def]
    return host.run(_TRACKED + body, str(artifact), str(listener.getsockname()[1]))


def test_connect_by_ipv4_names_address_and_port(host: Host, artifact: Path, listener: socket.socket) -> None:
    [event] = of(_run(host, "socket.create_connection(('127.0.0.1', port))", artifact, listener), "connect")
    assert bytes(event.address[:4]) == socket.inet_aton("127.0.0.1")
    assert (event.family, event.port, event.transport) == (socket.AF_INET, listener.getsockname()[1], 1)
    assert event.outcome == Outcome.ATTEMPTED


def test_connect_by_ipv6_names_address_and_port(host: Host, artifact: Path, listener: socket.socket) -> None:
    [event] = of(_run(host, "socket.create_connection(('::1', port))", artifact, listener), "connect")
    assert bytes(event.address) == socket.inet_pton(socket.AF_INET6, "::1")
    assert (event.family, event.port, event.transport) == (socket.AF_INET6, listener.getsockname()[1], 1)


def test_connect_of_a_datagram_socket_is_udp(host: Host, artifact: Path, listener: socket.socket) -> None:
    [event] = of(_run(host, "socket.socket(type=socket.SOCK_DGRAM).connect(('127.0.0.9', 53))", artifact, listener), "connect")
    assert (bytes(event.address[:4]), event.port, event.transport) == (b"\x7f\0\0\x09", 53, 2)


def test_a_connect_that_fails_is_told_as_attempted(host: Host, artifact: Path, listener: socket.socket) -> None:
    [event] = of(_run(host, "socket.socket().connect_ex(('127.0.0.1', 1))", artifact, listener), "connect")
    assert event.outcome == Outcome.ATTEMPTED


def test_connects_to_one_endpoint_are_counted(host: Host, artifact: Path, listener: socket.socket) -> None:
    body = "[socket.socket(type=socket.SOCK_DGRAM).connect(('127.0.0.1', 99)) for _ in range(1000)]"
    events = _run(host, body, artifact, listener)
    connects = of(events, "connect")
    assert sum(e.count for e in connects) == 1000
    assert len(connects) < 10


def test_listen_names_address_and_port(host: Host, artifact: Path, listener: socket.socket) -> None:
    body = """
s = socket.socket(); s.bind(("127.0.0.1", 0)); s.listen()
print(s.getsockname()[1], flush=True)
"""
    [event] = of(_run(host, body, artifact, listener), "listen")
    assert bytes(event.address[:4]) == socket.inet_aton("127.0.0.1")
    assert event.port > 0
    assert event.transport == 1


def test_without_the_cgroup_door_connect_is_seen_at_the_system_call(
    other_door: Host, artifact: Path, listener: socket.socket
) -> None:
    body = """
socket.create_connection(("127.0.0.1", port))
socket.create_connection(("::1", port))
socket.socket().connect_ex(("127.0.0.1", 1))
"""
    four, six, refused = of(_run(other_door, body, artifact, listener), "connect")
    assert (bytes(four.address[:4]), four.port, four.transport, four.outcome) == (
        b"\x7f\0\0\x01", listener.getsockname()[1], 1, Outcome.SUCCESS)
    assert (bytes(six.address), six.family, six.outcome) == (b"\0" * 15 + b"\x01", socket.AF_INET6, Outcome.SUCCESS)
    assert refused.outcome == Outcome.FAILURE


def test_a_door_that_was_left_out_is_reported_with_the_reason(other_door: Host) -> None:
    [report] = [r for r in other_door.sensor.doors() if r.effect == "connect"]
    assert report.door == "tracepoint/syscalls/sys_exit_connect"
    assert "left out" in report.reason
