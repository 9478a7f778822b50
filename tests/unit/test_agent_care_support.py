"""The file for support: what must be in it is, and what must not be is nowhere in it."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
from modelward_agent import exit_codes, facts
from modelward_agent.settings import AgentSettings
from modelward_agent.state_folder import Pause, StateFolder
from modelward_agent.support import FOLDER, Inert, support

TOKEN = "hf_" + "Abcd1234" * 5
PASSWORD = "correct-horse-battery"
KEY = "-----BEGIN PRIVATE KEY-----\nMIIEvplantedplantedplanted\n-----END PRIVATE KEY-----\n"
SECRETS = (TOKEN, PASSWORD, "MIIEvplanted", "spooled-command-line", "planted-in-argv", "planted-key.pem")


def unpacked(path: Path) -> dict[str, str]:
    with tarfile.open(path) as archive:
        found = {}
        for member in archive.getmembers():
            assert member.name.startswith(FOLDER + "/")
            assert member.mode == 0o600
            file = archive.extractfile(member)
            assert file is not None
            found[member.name.removeprefix(FOLDER + "/")] = file.read().decode("ascii")
        return found


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AgentSettings:
    """A state folder with secrets wherever one could come to be, and a watched server with one in its arguments."""
    state = tmp_path / "state"
    (state / "spool" / "corrupt").mkdir(parents=True)
    (state / "agent.id").write_text("ab" * 16)
    (state / "spool" / "00000000000000000007-live-high-12.new").write_bytes(b"spooled-command-line " + TOKEN.encode())
    (state / "spool" / "00000000000000000005-late-low-30.sent").write_bytes(b"spooled-command-line")
    (state / "spool" / "state.json").write_text(json.dumps(
        {"version": 1, "clean": False, "last_number": 7, "reserved": 65536, "ledger": [["seen", "exec", 3]]}))
    (tmp_path / "planted-key.pem").write_text(KEY)
    StateFolder(state).pause(Pause(f"the token {TOKEN} leaked", "ada", 1.0))
    lines = [
        b'{"message": "cannot reach https://ada:%s@collector"}' % PASSWORD.encode(),
        b"Authorization: Bearer " + TOKEN.encode(), b"password=" + PASSWORD.encode(), b"\x1b[2J\xff said the workload",
    ]
    monkeypatch.setattr(facts, "log_lines", lambda folder: lines)
    return AgentSettings(
        state=str(state), label=("env=prod", f"token={PASSWORD}"), host_name="gpu-17",
        tls_ca=str(tmp_path / "ca.pem"), tls_cert=str(tmp_path / "cert.pem"), tls_key=str(tmp_path / "planted-key.pem"),
    )


def test_bundle_holds_what_helps_and_no_secret(
    settings: AgentSettings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "for-support.tar.gz"
    watched = subprocess.Popen([sys.executable, "-c", "input()", "--api-key", "planted-in-argv"], stdin=subprocess.PIPE)
    try:
        assert support(settings, output=str(path), hide_host=False) == exit_codes.OK
    finally:
        watched.communicate(b"\n")
    told = capsys.readouterr().out
    parts = unpacked(path)
    for name, text in parts.items():
        assert name in told
        for secret in SECRETS:
            assert secret not in text, name
        assert "\x1b" not in text
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    values: dict[str, Any] = {name: json.loads(text) for name, text in parts.items() if name.endswith(".json")}
    assert values["settings.json"]["tls_key"] == "set"
    assert values["settings.json"]["label"][0] == "env=prod"
    assert values["host.json"]["kernel_release"] == os.uname().release
    assert values["host.json"]["libraries"]["numpy"]
    assert values["spool.json"]["files"] == {"live high new": 1, "late low sent": 1, "other files": 2}
    assert (values["spool.json"]["events"], values["spool.json"]["state"]["last_number"]) == (42, 7)
    assert values["ledger.json"] == [["seen", "exec", 3]]
    assert values["agent.json"]["paused"]["by"] == "ada"
    assert not values["agent.json"]["running"]
    assert "paused" in values["check.json"]["problem"]
    assert "mounts" in values["kernel.json"]
    assert "said the workload" in parts["log.txt"]


def test_host_name_can_be_hidden_everywhere(settings: AgentSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = socket.gethostname()
    monkeypatch.setattr(facts, "log_lines", lambda folder: [f"I am {host}, also gpu-17".encode(), b"gpu-171 is another"])
    path = tmp_path / "hidden.tar.gz"
    assert support(settings, output=str(path), hide_host=True) == exit_codes.OK
    parts = unpacked(path)
    alias = json.loads(parts["settings.json"])["host_name"]
    assert alias.startswith("host-")
    assert alias in parts["log.txt"]
    assert "gpu-171 is another" in parts["log.txt"]
    assert host not in "".join(parts.values()).split()
    assert json.loads(parts["host.json"])["host_name"] != host


def test_part_that_cannot_be_had_says_why_and_the_others_come(tmp_path: Path) -> None:
    path = tmp_path / "bare.tar.gz"
    StateFolder(tmp_path).pause(Pause("", "", 0.0))
    settings = AgentSettings(state=str(tmp_path), pins=str(tmp_path / "pins"))
    assert support(settings, output=str(path), hide_host=True) == exit_codes.OK
    parts = unpacked(path)
    assert "No such file" in parts["spool.json"]
    assert json.loads(parts["host.json"])["agent_version"]


def test_nothing_is_overwritten(settings: AgentSettings, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "target"
    target.write_text("kept")
    link = tmp_path / "link.tar.gz"
    link.symlink_to(target)
    for path in (target, link, tmp_path / "no" / "folder.tar.gz"):
        assert support(settings, output=str(path), hide_host=False) == exit_codes.NOT_DONE
        assert "choose another --output" in capsys.readouterr().err
    assert target.read_text() == "kept"


def test_agent_s_own_processes_are_described_and_its_log_file_found(tmp_path: Path) -> None:
    log = tmp_path / "agent.log"
    code = (
        "import sys; from modelward_agent.supervise import StateLock; from pathlib import Path; "
        "lock = StateLock(Path(sys.argv[1])); "
        "print('line of the log', file=sys.stderr, flush=True); print('ready', flush=True); input()"
    )
    with log.open("wb") as output:
        agent = subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path / "state"), "--token", TOKEN],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=output)
        assert agent.stdout is not None
        agent.stdout.readline()
        folder = StateFolder(tmp_path / "state")
        found, lines = facts.agent(folder), facts.log_lines(folder)
        agent.communicate(b"\n")
    assert lines == [b"line of the log"]
    (process,) = found["processes"]
    assert process["pid"] == agent.pid
    assert any(line.startswith("CapEff:") for line in process["status"])
    assert TOKEN not in Inert({}).text(found)


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ({"api_key": "abc"}, {"api_key": "[redacted]"}),
        ({"nested": [{"password": PASSWORD}]}, {"nested": [{"password": "[redacted]"}]}),
        ({"n": 5, "none": None, "yes": True, "of": 1.5}, {"n": 5, "none": None, "yes": True, "of": 1.5}),
        ({"line": b"\xff" + TOKEN.encode()}, {"line": "\\xff[redacted]"}),
        ({TOKEN: ""}, {"[redacted]": ""}),
        ({"x": "\udcff\u202e"}, {"x": "\\xff\\xe2\\x80\\xae"}),
    ],
)
def test_values_are_made_inert(value: Any, wanted: Any) -> None:
    assert json.loads(Inert({}).text(value)) == wanted
