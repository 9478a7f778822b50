"""What the collector refuses before it starts anything, and what it says then."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest
from modelward_collector.data_folder import DataFolder, DataFolderError
from modelward_collector.settings import CollectorSettings
from modelward_proto.settings import SettingsError

from tests.certificates import Authority


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "modelward_collector.cli", *arguments], capture_output=True, text=True,
                          timeout=30, check=False, env=os.environ | environment)


def test_help_teaches_how_to_start_and_what_the_exit_codes_mean() -> None:
    text = run("run", "--help").stdout
    for part in ("--data DIR", "--tls-client-ca", "exit codes", "modelward-collector run --data", "MODELWARD_COLLECTOR_LISTEN"):
        assert part in text
    assert run("--version").stdout.startswith("modelward-collector 0.")


@pytest.mark.parametrize(("settings", "said"), [
    ({"listen": "0.0.0.0:4460"}, "--tls-client-ca"),
    ({"http": "0.0.0.0:4461"}, "--http-token-file"),
    ({"http": "[::]:4461"}, "--http-token-file"),
    ({"listen": "somewhere"}, "HOST:PORT is wanted"),
    ({"listen": "127.0.0.1:99999"}, "HOST:PORT is wanted"),
    ({"tls_cert": Path("/dev/null")}, "belong together"),
    ({"tls_cert": Path("/dev/null"), "tls_key": Path("/dev/null")}, "needs --tls-client-ca"),
    ({"tls_cert": Path("/no/such"), "tls_key": Path("/dev/null"), "tls_client_ca": Path("/dev/null")}, "no such file"),
    ({"tls_cert": Path("/dev/null"), "tls_key": Path("/dev/null"), "tls_client_ca": Path("/dev/null")}, "no certificate and"),
    ({"http_tls_cert": Path("/dev/null"), "http_tls_key": Path("/dev/null")}, "no certificate and its key"),
    ({"http_token_file": Path("/dev/null")}, "is empty"),
    ({"rules": (Path("/no/such"),)}, "no such folder"),
    ({"rules": (Path("/a,b"),)}, "comma"),
    ({"retention_days": 0}, "at least 1"),
    ({"log_level": "loud"}, "debug, info, warning or error"),
])
def test_an_unsafe_or_wrong_setting_is_refused_and_the_way_out_named(settings: dict[str, object], said: str) -> None:
    with pytest.raises(SettingsError, match="^.*" + said.replace("[", r"\[")):
        CollectorSettings(data=Path("/tmp/x"), **settings).check()  # type: ignore[arg-type]


def test_an_authority_that_holds_no_certificate_is_named(tmp_path: Path) -> None:
    pair = Authority(tmp_path).sign("collector")
    given = CollectorSettings(data=Path("/tmp/x"), tls_cert=pair.certificate, tls_key=pair.key, tls_client_ca=pair.certificate)
    given.check()
    with pytest.raises(SettingsError, match=r"\.key holds no certificates to trust"):
        dataclasses.replace(given, tls_client_ca=pair.key).check()


def test_loopback_needs_no_certificate() -> None:
    for host in ("127.0.0.1", "localhost", "[::1]", "127.1.2.3"):
        CollectorSettings(data=Path("/tmp/x"), listen=f"{host}:1", http=f"{host}:2").check()


def test_an_unknown_setting_in_the_file_is_refused_with_its_name(tmp_path: Path) -> None:
    file = tmp_path / "collector.toml"
    file.write_text(f'data = "{tmp_path}"\nlisten_on = "127.0.0.1:1"\n')
    done = run("run", "--config", str(file))
    assert done.returncode == 2
    assert "listen_on" in done.stderr
    assert "Traceback" not in done.stderr


def test_no_data_folder_is_refused_before_anything_starts() -> None:
    done = run("run")
    assert done.returncode == 2
    assert "--data" in done.stderr


def test_settings_reach_the_processes_as_they_were_given() -> None:
    given = CollectorSettings(data=Path("/tmp/x"), rules=(Path("/a"), Path("/b")), silent_after_s=7, receivers=2)
    environment = given.environment()
    assert environment["MODELWARD_COLLECTOR_RULES"] == "/a,/b"
    assert environment["MODELWARD_COLLECTOR_SILENT_AFTER_S"] == "7"
    assert "MODELWARD_COLLECTOR_TLS_CERT" not in environment


def test_a_data_folder_that_cannot_be_used_is_refused_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataFolderError, match="Not a directory"):
        DataFolder(tmp_path / "file" / "data").create()
    with pytest.raises(DataFolderError, match="too long"):
        DataFolder(tmp_path / ("x" * 120)).create()
    folder = DataFolder(tmp_path / "data")
    folder.create()
    with folder.lock(), pytest.raises(DataFolderError, match=f"process {os.getpid()}"):
        folder.lock()
    folder.lock().close()
