"""A receiver, or whatever answers at its address, that speaks nonsense."""

from __future__ import annotations

import secrets
import socket
import threading
from collections.abc import Iterator

import pytest

from tests.batches import Agent
from tests.running import collector
from tests.unit.output_site import Site, numbers, shell
from tests.webhook_receiver import Receiver, listening, secret_file


@pytest.mark.parametrize("said", [
    b"", b"\0" * 100, b"HTTP/1.1 200 OK\r\n" * 1000, b"HTTP/1.1 999999 \xff\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
    b"HTTP/1.1 500 no\r\ntransfer-encoding: chunked\r\n\r\nffffffffff\r\n" + b"A" * 300_000,
    b"HTTP/1.1 503 no\r\nset-cookie: " + b"a=b;" * 5000 + b"\r\nretry-after: " + b"9" * 400 + b"\r\ncontent-length: 0\r\n\r\n",
    b"HTTP/1.1 500 no\r\ncontent-encoding: gzip\r\ncontent-length: 4\r\n\r\n\x1f\x8b\xff\xff",
])
def test_nonsense_from_the_receivers_address_is_a_failed_try_and_no_more(said: bytes, nonsense: tuple[Site, list[bytes]]) -> None:
    site, answers = nonsense
    answers[:] = [said] * 2
    name = f"nonsense {secrets.token_hex(4)}"
    site.send(shell(name))
    site.receiver.wait(lambda r: site.id_of(name) in r.ids)
    assert len(site.collector.children("modelward_collector.outputs")) == 1


@pytest.fixture(scope="module")
def nonsense(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, list[bytes]]]:
    """A receiver behind a door that answers nonsense itself, as long as there is some in the list."""
    folder, answers = tmp_path_factory.mktemp("nonsense"), list[bytes]()
    with listening(Receiver()) as receiver, socket.create_server(("127.0.0.1", 0)) as door:
        threading.Thread(target=_guard, args=(door, receiver.port, answers), daemon=True).start()
        url = f"http://127.0.0.1:{door.getsockname()[1]}/hook"
        with collector(folder, webhook_url=url, webhook_secret_file=secret_file(folder)) as made:
            made.wait_log("an output begins")
            with Agent(made.grpc_address) as agent:
                agent.wait_welcome()
                yield Site(made, receiver, agent, numbers()), answers


def _guard(door: socket.socket, port: int, answers: list[bytes]) -> None:
    while True:
        try:
            client, _ = door.accept()
        except OSError:
            return
        threading.Thread(target=_one, args=(client, port, answers), daemon=True).start()


def _one(client: socket.socket, port: int, answers: list[bytes]) -> None:
    """One request, as it fits into one connection: the client opens another when this one is closed."""
    try:
        with client:
            client.settimeout(5)
            request = _request(client)
            if answers:
                client.sendall(answers.pop())
                return
            with socket.create_connection(("127.0.0.1", port)) as real:
                real.sendall(request)
                real.settimeout(5)
                client.sendall(real.recv(65536))
    except OSError:
        return


def _request(client: socket.socket) -> bytes:
    found = b""
    while b"\r\n\r\n" not in found:
        found += client.recv(65536)
    head, _, body = found.partition(b"\r\n\r\n")
    length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length"))
    while len(body) < length:
        piece = client.recv(65536)
        body += piece
        found += piece
    return found
