"""To which collector an agent speaks: its address, the files of certificates, and TLS against a real gRPC server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
from modelward_agent.transport.target import Target, TargetError

from tests.certificates import Authority, Pair
from tests.unit.stream_client import Batches, Client, connect
from tests.unit.stream_server import StreamServer

__all__ = ["connect"]


@pytest.mark.parametrize("address", ["192.0.2.7:4460", "collector.invalid:4460", "[2001:db8::1]:4460", "0.0.0.0:4460"])
def test_plaintext_off_this_host_is_refused(address: str) -> None:
    with pytest.raises(TargetError, match="--tls-ca, --tls-cert and --tls-key"):
        Target.parse(address)


@pytest.mark.parametrize("address", ["127.0.0.1:4460", "127.9.9.9:1", "[::1]:4460", "localhost:4460"])
def test_plaintext_on_this_host_is_allowed(address: str) -> None:
    assert Target.parse(address).address == address


@pytest.mark.parametrize(
    "address", ["", "collector", "host:", ":4460", "host:port", "host:0", "host:70000", "::1:4460", "host:²"]
)
def test_wrong_address_is_a_clear_error(address: str) -> None:
    with pytest.raises(TargetError, match=r"HOST:PORT|brackets"):
        Target.parse(address)


def test_missing_certificate_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match=r"not set: --tls-key"):
        Target.parse("192.0.2.7:4460", "ca.pem", "cert.pem", "")
    with pytest.raises(TargetError, match=r"ca\.pem: No such file"):
        Target.parse("192.0.2.7:4460", str(tmp_path / "ca.pem"), "cert.pem", "key.pem")
    (tmp_path / "ca.pem").write_text("no certificate")
    with pytest.raises(TargetError, match=r"ca\.pem: not a PEM file"):
        Target.parse("192.0.2.7:4460", str(tmp_path / "ca.pem"), "cert.pem", "key.pem")


def test_a_key_of_another_certificate_is_named_before_anything_runs(tmp_path: Path) -> None:
    ours = Authority(tmp_path / "ours", "ours")
    (cert, key), (_, other) = ours.sign("gpu-1", "DNS:gpu-1"), ours.sign("gpu-2", "DNS:gpu-2")
    Target.parse("192.0.2.7:4460", str(ours.certificate), str(cert), str(key)).check_pair()
    with pytest.raises(TargetError, match=r"gpu-2\.pem\.key are no certificate and its key"):
        Target.parse("192.0.2.7:4460", str(ours.certificate), str(cert), str(other)).check_pair()


def secure_server(authority: Authority, certificate: Pair) -> StreamServer:
    pem, key = certificate
    return StreamServer(credentials=grpc.ssl_server_credentials(
        [(key.read_bytes(), pem.read_bytes())], authority.certificate.read_bytes(), require_client_auth=True
    )).start()


def target_of(server: StreamServer, authority: Authority, of_agent: Pair) -> Target:
    return Target.parse(f"127.0.0.1:{server.port}", str(authority.certificate), str(of_agent.certificate), str(of_agent.key))


def test_mutual_tls_carries_batches(tmp_path: Path, connect: Callable[..., Client]) -> None:
    ours = Authority(tmp_path / "ours", "ours")
    server = secure_server(ours, ours.sign("collector", "DNS:localhost", "IP:127.0.0.1"))
    source = Batches([1])
    connect(server, source, target_of(server, ours, ours.sign("gpu-17", "DNS:gpu-17")))
    server.wait_for(lambda: source.is_stored == [1])
    server.cut()


def test_collector_of_a_foreign_authority_gets_nothing(tmp_path: Path, connect: Callable[..., Client]) -> None:
    ours, foreign = Authority(tmp_path / "ours", "ours"), Authority(tmp_path / "foreign", "foreign")
    server = secure_server(ours, foreign.sign("collector", "IP:127.0.0.1"))
    client = connect(server, Batches([1]), target_of(server, ours, ours.sign("gpu-17", "DNS:gpu-17")))
    server.wait_for(lambda: bool(client.problems))
    assert server.hellos == []
    server.cut()


def test_collector_of_another_name_gets_nothing(tmp_path: Path, connect: Callable[..., Client]) -> None:
    ours = Authority(tmp_path / "ours", "ours")
    server = secure_server(ours, ours.sign("collector", "DNS:collector.example"))
    client = connect(server, Batches([1]), target_of(server, ours, ours.sign("gpu-17", "DNS:gpu-17")))
    server.wait_for(lambda: bool(client.problems))
    assert server.hellos == []
    server.cut()


def test_renewed_certificate_counts_from_the_next_connection_on(tmp_path: Path, connect: Callable[..., Client]) -> None:
    ours, foreign = Authority(tmp_path / "ours", "ours"), Authority(tmp_path / "foreign", "foreign")
    server = secure_server(ours, ours.sign("collector", "IP:127.0.0.1"))
    pair = foreign.sign("gpu-17", "DNS:gpu-17")
    client = connect(server, Batches([1]), target_of(server, ours, pair))
    server.wait_for(lambda: bool(client.problems))
    for old, new in zip(pair, ours.sign("gpu-17", "DNS:gpu-17"), strict=True):
        new.replace(old)
    server.wait_for(lambda: client.source.is_stored == [1])
    server.cut()
