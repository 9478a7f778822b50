"""Environments of servers: a failed installation is told and leaves nothing that looks whole."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.phases import report
from tests.phases.environments import NoEnvironment, python_of


def test_no_requirements_are_the_environment_of_the_project() -> None:
    assert python_of(()) == Path(sys.executable)


def test_a_failed_installation_says_what_failed_and_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                                  capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("MODELWARD_PHASES_CACHE", str(tmp_path / "cache"))
    missing = str(tmp_path / "no-such-package")
    for _ in range(2):
        with pytest.raises(NoEnvironment, match="could not be installed"):
            python_of((missing,))
        assert f"installing {missing}" in capfd.readouterr().out
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".log"]


def test_a_server_that_could_not_run_makes_the_command_fail(capfd: pytest.CaptureFixture[str], tmp_path: Path,
                                                            monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report.Report, "write", lambda self: tmp_path)
    assert report.show([], {"triton": "could not be installed"}, whole=False) == 1
    assert "not run: could not be installed" in capfd.readouterr().out
