"""Agents on other hosts: only a certificate of our CA is served, and its name is the host's name, whatever Hello says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from modelward_collector.handshakes import Handshakes

from tests.batches import Agent, envelope, events
from tests.certificates import Authority, Pair
from tests.running import Collector, collector
from tests.unit.output_site import eventually


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def running(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    server = authority.sign("collector", "DNS:localhost", "IP:127.0.0.1")
    with collector(tmp_path_factory.mktemp("c"), listen="0.0.0.0:0", tls_cert=server.certificate, tls_key=server.key,
                   tls_client_ca=authority.certificate) as made:
        yield made._replace(grpc_address=made.grpc_address.replace("0.0.0.0", "localhost"))


def credentials(authority: Authority, pair: Pair | None) -> grpc.ChannelCredentials:
    if pair is None:
        return grpc.ssl_channel_credentials(authority.certificate.read_bytes())
    return grpc.ssl_channel_credentials(authority.certificate.read_bytes(), pair.key.read_bytes(), pair.certificate.read_bytes())


def test_the_certificate_names_the_host_and_hello_does_not(running: Collector, authority: Authority) -> None:
    pair = authority.sign("gpu-17.example.org")
    with Agent(running.grpc_address, host="gpu-1", credentials=credentials(authority, pair)) as agent:
        assert agent.wait_welcome().host_name == "gpu-17.example.org"
        agent.send(envelope(1, events(5)))
        agent.wait_answered(1)
    assert running.select("SELECT DISTINCT host_name FROM events") == [{"host_name": "gpu-17.example.org"}]


def test_a_dns_name_serves_where_there_is_no_common_name(running: Collector, authority: Authority) -> None:
    pair = authority.sign("", "DNS:gpu-18")
    with Agent(running.grpc_address, credentials=credentials(authority, pair)) as agent:
        assert agent.wait_welcome().host_name == "gpu-18"


def test_an_agent_cannot_see_or_take_batches_of_another_host(running: Collector, authority: Authority) -> None:
    for name in ("gpu-20", "gpu-21"):
        pair = authority.sign(name)
        with Agent(running.grpc_address, agent_id=b"S" * 16, epoch=b"S" * 16, credentials=credentials(authority, pair)) as agent:
            assert not agent.wait_welcome().held
            agent.send(envelope(1, events(5, seed=len(name)), epoch=b"S" * 16, checksum=int(name[-1]) + 7))
            agent.wait_answered(1)
            assert not agent.quarantined


def refused(running: Collector, given: grpc.ChannelCredentials | None) -> grpc.StatusCode:
    agent = Agent(running.grpc_address, credentials=given)
    agent.wait_for_ready = False
    with agent:
        return agent.wait_ended()


def test_no_certificate_is_refused(running: Collector, authority: Authority) -> None:
    assert refused(running, credentials(authority, None)) == grpc.StatusCode.UNAVAILABLE


def test_a_certificate_of_another_ca_is_refused(running: Collector, authority: Authority, tmp_path: Path) -> None:
    stranger = Authority(tmp_path, "other-ca").sign("gpu-17")
    assert refused(running, credentials(authority, stranger)) == grpc.StatusCode.UNAVAILABLE


def test_plaintext_is_refused(running: Collector) -> None:
    assert refused(running, None) == grpc.StatusCode.UNAVAILABLE


def test_who_was_refused_and_why_is_in_the_log(running: Collector, authority: Authority, tmp_path: Path) -> None:
    strangers = {
        "it shows no certificate": credentials(authority, None),
        "not one of an authority in --tls-client-ca": credentials(authority, Authority(tmp_path, "other-ca").sign("gpu-17")),
        "does not speak TLS": None,
    }
    for said, given in strangers.items():
        refused(running, given)
        line, *_ = eventually(lambda said=said: [line for line in running.log if said in line.get("reason", "")])
        assert line["level"] == "warning"
        assert line["message"] == "an agent was refused before its stream began"
        assert line["peer"].rpartition(":")[0].endswith(("127.0.0.1", "::1", "::1]", "%5B::1%5D"))


def test_grpcs_own_log_is_not_shown(running: Collector) -> None:
    assert not [line for line in running.log if line["level"] == "unparsed"]


def test_what_is_not_grpcs_is_passed_on_as_it_is() -> None:
    reader = Handshakes()
    kept = [b'{"level": "info"}\n', b"Traceback (most recent call last):\n", b"\n", b"src/core/x.cc:68\n", b" shutdown=false\n",
            b"F1125 10:32:53.073766   10154 x.cc:1] Check failed\n", b"E1125 10:32:53.073766   10154 x.cc:1] bad\n"]
    assert [line for line in kept if not reader.take(line)] == kept
