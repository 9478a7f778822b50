"""What the agent's commands and a running agent tell each other through the state folder."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from modelward_agent import care as care_module
from modelward_agent import exit_codes, state_folder
from modelward_agent.care import Care
from modelward_agent.state_folder import PAUSED, Pause, StateFolder
from modelward_agent.supervise import StateLock


@pytest.fixture
def folder(tmp_path: Path) -> StateFolder:
    return StateFolder(tmp_path)


def test_pause_says_who_when_and_why(folder: StateFolder) -> None:
    assert folder.paused() is None
    folder.pause(Pause("slow reads", "ada", 1_790_000_000.0))
    pause = folder.paused()
    assert pause is not None
    assert pause.words() == "paused by ada on 2026-09-21 at 14:13 UTC: slow reads"
    assert stat.S_IMODE((folder.path / "paused").stat().st_mode) == 0o600
    assert folder.resume()
    assert folder.paused() is None
    assert not folder.resume()


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[1]", b'{"reason": 5, "at": "x"}', b'{"at": 1e300}', b"\xff" * 70000, b"[" * 60000]
)
def test_pause_without_readable_content_is_a_pause(folder: StateFolder, content: bytes) -> None:
    (folder.path / "paused").write_bytes(content)
    pause = folder.paused()
    assert pause is not None
    assert pause.words().startswith("paused")


def test_pause_is_wanted_even_where_the_disk_has_no_room_for_its_reason(
    folder: StateFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(state_folder, "write_durably", full)
    folder.pause(Pause("r", "b", 1.0))
    assert folder.paused() is not None


def test_only_ends_that_nobody_asked_for_count_as_crashes(folder: StateFolder) -> None:
    assert folder.begin_run() == 0
    folder.end_run()
    assert folder.begin_run() == 0
    assert [folder.begin_run() for _ in range(3)] == [1, 2, 3]
    folder.end_run()
    assert folder.begin_run() == 0


def test_crashes_of_another_hour_or_of_a_clock_that_was_wrong_do_not_count(folder: StateFolder) -> None:
    now = time.time()
    ends = [now - 3600, now - 601, now + 5000, "x", None, now - 30]
    (folder.path / "crashes").write_text(json.dumps({"running": False, "ends": ends}))
    assert folder.begin_run() == 1


@pytest.mark.parametrize("content", ["", "[]", '{"running": 1, "ends": 7}', '{"ends": {"a": 1}}'])
def test_damaged_record_of_crashes_stops_nobody(folder: StateFolder, content: str) -> None:
    (folder.path / "crashes").write_text(content)
    assert folder.begin_run() <= 1
    assert folder.begin_run() >= 1


def test_holder_is_found_by_its_lock_and_named_only_if_it_holds_the_file(folder: StateFolder) -> None:
    assert folder.holder() is None
    lock = StateLock(folder.path)
    assert folder.holder() == os.getpid()
    with subprocess.Popen(["sleep", "60"]) as other:
        (folder.path / "lock").write_text(f"{other.pid}\n")
        assert folder.holder() == 0
        other.kill()
    lock.release()
    assert folder.holder() is None


def test_pause_and_resume_without_an_agent_say_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    care = Care(tmp_path / "state", tmp_path / "pins")
    assert care.pause("  because  ") == exit_codes.OK
    assert "No agent runs" in capsys.readouterr().out
    pause = StateFolder(tmp_path / "state").paused()
    assert pause is not None
    assert pause.reason == "because"
    assert care.resume() == exit_codes.OK
    assert capsys.readouterr().out.startswith("No longer paused")
    assert care.resume() == exit_codes.OK
    assert capsys.readouterr().out.startswith("It was not paused")


def test_agent_that_does_not_answer_a_pause_is_told_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(care_module, "ANSWER_S", 0.2)
    lock = StateLock(tmp_path)
    assert Care(tmp_path, tmp_path / "pins").pause("x") == exit_codes.NOT_DONE
    error = capsys.readouterr().err
    assert f"process {os.getpid()}" in error
    assert "stop it" in error
    lock.release()


def test_word_of_an_agent_that_ended_is_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(care_module, "ANSWER_S", 0.2)
    folder, lock = StateFolder(tmp_path), StateLock(tmp_path)
    (tmp_path / "mode").write_text(json.dumps({"pid": 1, "mode": PAUSED, "reason": ""}))
    assert Care(tmp_path, tmp_path / "pins").pause("x") == exit_codes.NOT_DONE
    folder.stand(PAUSED, "x")
    assert Care(tmp_path, tmp_path / "pins").pause("x") == exit_codes.OK
    lock.release()


def test_uninstall_keeps_away_from_a_running_agent_and_from_files_of_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(care_module.mounts, "unmount", list)
    state = tmp_path / "state"
    lock, care = StateLock(state), Care(state, tmp_path / "pins")
    assert care.uninstall(stop=False, keep_state=False) == exit_codes.STATE
    assert "--stop" in capsys.readouterr().err
    lock.release()
    (state / "spool" / "corrupt").mkdir(parents=True)
    (state / "spool" / "00000000000000000001-live-low-1.new").touch()
    (state / "agent.id").write_text("0" * 32)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    (state / "mode").symlink_to(outside)
    (state / "notes of an admin").touch()
    assert care.uninstall(stop=False, keep_state=True) == exit_codes.OK
    assert (state / "agent.id").exists()
    assert care.uninstall(stop=False, keep_state=False) == exit_codes.OK
    assert [entry.name for entry in state.iterdir()] == ["notes of an admin"]
    assert (outside / "kept").exists()
    assert "it holds notes of an admin" in capsys.readouterr().out
    (state / "notes of an admin").unlink()
    assert care.uninstall(stop=False, keep_state=False) == exit_codes.OK
    assert not state.exists()
    assert care.uninstall(stop=False, keep_state=False) == exit_codes.OK


def test_state_folder_that_others_may_write_to_is_not_removed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tmp_path.chmod(0o777)
    (tmp_path / "agent.id").touch()
    assert Care(tmp_path, tmp_path / "pins").uninstall(stop=False, keep_state=False) == exit_codes.STATE
    assert (tmp_path / "agent.id").exists()
    assert "others may write" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["pause", "resume", "uninstall", "support"])
def test_commands_teach_and_want_root(command: str) -> None:
    helped = subprocess.run(
        [sys.executable, "-m", "modelward_agent.cli", command, "--help"], capture_output=True, text=True, check=True
    )
    assert "exit codes" in helped.stdout
    assert "--state" in helped.stdout
    # The interpreter's files may be readable by root alone, so it loads them before it becomes somebody else.
    code = (
        "import os, sys; from modelward_agent.cli import main, parser; parser(); "
        "os.geteuid() or os.setuid(65534); sys.exit(main(sys.argv[1:]))"
    )
    refused = subprocess.run(
        [sys.executable, "-c", code, command, "--state", "/nonexistent"], capture_output=True, text=True, check=False
    )
    assert refused.returncode == exit_codes.HOST
    assert "needs root" in refused.stderr
