"""Settings, command line and ledger of the agent."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from modelward_agent import exit_codes
from modelward_agent.cli import main, parser
from modelward_agent.control import Channel, ChannelClosed
from modelward_agent.ledger import Ledger
from modelward_agent.settings import PREFIX, AgentSettings
from modelward_agent.supervise import StateLock
from modelward_proto.notify import notify
from modelward_proto.settings import SettingsError, load, unknown_variables


@pytest.fixture(autouse=True)
def _process_as_before() -> Iterator[None]:
    """``main`` makes this process a daemon: logs, signals and umask are given back."""
    root = logging.getLogger()
    handlers, level, umask = root.handlers[:], root.level, os.umask(0o022)
    os.umask(umask)
    signals = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    os.umask(umask)
    for number, handler in signals.items():
        signal.signal(number, handler)
    root.handlers[:] = handlers
    root.setLevel(level)


def settings(*flags: str, **environment: str) -> AgentSettings:
    return load(AgentSettings, PREFIX, parser().parse_args(["run", *flags]), environment)


def test_flag_beats_variable_beats_file(tmp_path: Path) -> None:
    config = tmp_path / "agent.toml"
    config.write_text('collector = "a:1"\nstate = "/file"\nwatch = ["x", "y"]\nspool_max_bytes = 20000000\n')
    found = settings(
        "--config", str(config), "--collector", "c:3",
        MODELWARD_AGENT_COLLECTOR="b:2", MODELWARD_AGENT_STATE="/variable",
    )
    assert (found.collector, found.state, found.watch, found.spool_max_bytes) == ("c:3", "/variable", ("x", "y"), 20_000_000)


def test_watch_may_be_repeated() -> None:
    assert settings("--watch", "one", "--watch", "two").watch == ("one", "two")


def test_misspelt_setting_in_the_file_is_named(tmp_path: Path) -> None:
    config = tmp_path / "agent.toml"
    config.write_text('colector = "a:1"\n')
    with pytest.raises(SettingsError, match="unknown setting 'colector'"):
        settings("--config", str(config))


def test_labels_come_from_flags_variable_or_file(tmp_path: Path) -> None:
    assert settings("--label", "env=prod", "--label", "team=a, b = c").label == ("env=prod", "team=a, b = c")
    assert settings(MODELWARD_AGENT_LABEL="env=prod,team=x").label == ("env=prod", "team=x")
    config = tmp_path / "agent.toml"
    config.write_text('label = ["env=prod"]\n')
    assert settings("--config", str(config)).label == ("env=prod",)


def test_misspelt_variable_is_told() -> None:
    environment = dict.fromkeys(
        ("MODELWARD_AGENT_COLLECTOR", "MODELWARD_AGENT_CONFIG", "MODELWARD_AGENT_COLECTOR", "MODELWARD_AGENTS", "PATH"), "")
    assert unknown_variables(AgentSettings, PREFIX, environment) == ["MODELWARD_AGENT_COLECTOR"]


def test_defaults_name_the_collector_on_this_host() -> None:
    assert settings().collector == "127.0.0.1:4460"
    assert settings().state == "/var/lib/modelward-agent"


@pytest.mark.parametrize(
    ("flags", "code", "said"),
    [
        (["--collector", "192.0.2.1:4460"], exit_codes.USAGE, "never sent in plaintext"),
        (["--collector", "nonsense"], exit_codes.USAGE, "HOST:PORT is wanted"),
        (["--spool-max-bytes", "much"], exit_codes.USAGE, "a whole number is wanted"),
        (["--watch", "/usr/bin/mine"], exit_codes.USAGE, "base name"),
        (["--spool-max-bytes", "100"], exit_codes.USAGE, "at least 16777216 are wanted"),
        (["--log-level", "loud"], exit_codes.USAGE, "log_level: debug"),
        (["--label", "Env=prod"], exit_codes.USAGE, "is not NAME=VALUE"),
        (["--label", "env=prod", "--label", "env=test"], exit_codes.USAGE, "env is given twice"),
        (["--label", "env="], exit_codes.USAGE, "is not NAME=VALUE"),
        (["--label", "env=" + "x" * 64], exit_codes.USAGE, "is not NAME=VALUE"),
        (["--label", "env=\x1b[2J"], exit_codes.USAGE, "is not NAME=VALUE"),
        ([part for n in range(17) for part in ("--label", f"l{n}=x")], exit_codes.USAGE, "at most 16"),
        (["--crash-limit", "-1"], exit_codes.USAGE, "0 or more"),
    ],
)
def test_wrong_setting_ends_with_one_clear_line(
    flags: list[str], code: int, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "--state", str(tmp_path), *flags]) == code
    error = capsys.readouterr().err
    assert said.lower() in error.lower()
    assert error.count("\n") == 1


def test_state_folder_in_use_has_an_exit_code_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lock = StateLock(tmp_path / "state")
    assert main(["run", "--state", str(tmp_path / "state")]) == exit_codes.STATE
    assert "another agent" in capsys.readouterr().err
    lock.release()


def test_without_root_the_agent_says_so(tmp_path: Path) -> None:
    # The interpreter's files may be readable by root alone, so it loads them before it becomes somebody else.
    code = (
        "import os, shutil, sys; from modelward_agent.sensor import records, sensor; import modelward_agent.watching; "
        "from modelward_proto import notify, pem; from modelward_agent.transport import target; import modelward_agent.run; "
        "from modelward_agent.sensor.servers import lists; from modelward_agent.cli import main; "
        "records.SMALL, records.LARGE, lists(()); os.chown(sys.argv[1], 65534, 65534); "
        "os.chdir(sys.argv[1]); os.setuid(65534); sys.exit(main(['run', '--state', '.']))"
    )
    if os.geteuid() != 0:
        code = "import sys; from modelward_agent.cli import main; sys.exit(main(['run', '--state', sys.argv[1]]))"
    ended = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], check=False, capture_output=True, text=True
    )
    assert ended.returncode == exit_codes.HOST, ended.stderr
    assert "root" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_help_teaches_exit_codes_and_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    for flags, said in ((["run", "--help"], "exit codes"), (["--version"], "modelward-agent 0.")):
        with pytest.raises(SystemExit) as ended:
            main(flags)
        assert ended.value.code == 0
        assert said in capsys.readouterr().out


def test_drainer_loads_neither_arrow_nor_grpc() -> None:
    code = (
        "import modelward_agent.drainer, modelward_agent.sensor.sensor, modelward_agent.transport.target, sys; "
        "print(sorted({'pyarrow', 'grpc', 'pandas'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_ledger_follows_the_totals_of_each_set_of_rings() -> None:
    ledger = Ledger([("seen", "exec", 100)])
    for rings, total in (("a", 3), ("a", 7), ("a", 7), ("b", 2)):
        ledger.follow(rings, {("seen", "exec"): total})
    assert ledger.count("seen", "exec") == 100 + 7 + 2


def test_ledger_rows_stand_in_the_order_of_the_data_path() -> None:
    ledger = Ledger()
    for hop in ("stored", "seen", "spooled", "drained"):
        ledger.add(hop, {"exec": 1, "nothing": 0})
    assert [row[0] for row in ledger.rows()] == ["seen", "drained", "spooled", "stored"]


def test_ledger_refuses_an_unknown_hop() -> None:
    with pytest.raises(ValueError, match="no such hop"):
        Ledger().add("speled", {"exec": 1})


def test_word_to_a_full_line_is_kept_in_order_or_lost_as_its_kind_says() -> None:
    ours, theirs = Channel.pair()
    for n in range(20_000):
        ours.tell("must", n)
    ours.mention("may")
    assert ours.backlog > 0
    other, heard = Channel(theirs), []
    while len(heard) < 20_000:
        ours.flush()
        heard += [message[1] for message in other.receive()]
    assert heard == list(range(20_000))
    ours.close()
    with pytest.raises(ChannelClosed):
        other.receive()


def test_last_words_of_a_dead_process_are_heard() -> None:
    ours, theirs = Channel.pair()
    ours.tell("stored", 1, {})
    ours.close()
    other = Channel(theirs)
    assert other.receive() == [["stored", 1, {}]]
    with pytest.raises(ChannelClosed):
        other.receive()


def test_systemd_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        notify("READY=1")
        assert manager.recv(64) == b"READY=1"
    notify("STOPPING=1")
