"""Who holds the other end of a loopback connection: told by its whole address, with real sockets."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest
from modelward_collector.ingest.neighbours import may_speak

STRANGER = """
import os, socket, sys
os.setgroups([]); os.setgid(65534); os.setuid(65534)
own, port = int(sys.argv[1]), int(sys.argv[2])
s = socket.socket()
s.bind(("127.0.0.2", port))
s.connect(("127.0.0.1", own))
if sys.argv[3] == "half":
    s.shutdown(socket.SHUT_WR)
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def test_an_own_connection_may_speak(listener: socket.socket) -> None:
    own = listener.getsockname()[1]
    with socket.create_connection(("127.0.0.1", own)) as client:
        port = client.getsockname()[1]
        assert may_speak("127.0.0.1", port, own)
        assert may_speak("::ffff:127.0.0.1", port, own)
        assert not may_speak("127.0.0.1", own, port)
        assert not may_speak("::1", port, own)


def test_an_own_connection_over_ipv6_may_speak() -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as server:
        own = server.getsockname()[1]
        with socket.create_connection(("::1", own)) as client:
            assert may_speak("::1", client.getsockname()[1], own)
            assert not may_speak("127.0.0.1", client.getsockname()[1], own)


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
@pytest.mark.parametrize("way", ["half", "whole"])
def test_a_stranger_with_the_port_of_an_own_connection_at_another_address_may_not(listener: socket.socket, way: str) -> None:
    own = listener.getsockname()[1]
    with socket.create_connection(("127.0.0.1", own)) as client:
        port = client.getsockname()[1]
        with subprocess.Popen([sys.executable, "-c", STRANGER, str(own), str(port), way], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, text=True) as stranger:
            assert stranger.stdout is not None
            assert stranger.stdout.readline() == "ready\n"
            assert not may_speak("127.0.0.2", port, own)
            assert may_speak("127.0.0.1", port, own)
            stranger.communicate("")


def test_a_connection_that_nobody_accepted_speaks_for_nobody(listener: socket.socket) -> None:
    own = listener.getsockname()[1]
    with socket.create_connection(("127.0.0.1", own)) as client:
        assert not may_speak("127.0.0.1", own, client.getsockname()[1])
