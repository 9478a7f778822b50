"""What a thread borrows or gives up for a while, and what a process gives up for good before it reads what a workload wrote. Each
in a process of its own, which asks the kernel."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from modelward_agent.privileges import DRAINER, DRAINER_AT_WORK, PROBES, SENDER, Cap

root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has privileges to give up")

_REPORT = """
import ctypes, json, os, resource, subprocess, sys, threading
from modelward_agent import privileges
from modelward_agent.confinement import confine, end_with_starter
from modelward_agent.privileges import DRAINER, DRAINER_AT_WORK, PROBES, SENDER, Cap

def effective():
    for line in open(f"/proc/self/task/{threading.get_native_id()}/status"):
        if line.startswith("CapEff"):
            return int(line.split()[1], 16)

def status():
    # Of a process that cannot be dumped only root may see more than this.
    lines = (line.split(":", 1) for line in open("/proc/self/status"))
    return {name: value.split() for name, value in lines}

def attempt(what, *given):
    try:
        what(*given)
    except OSError as e:
        return e.errno
    return 0

def in_thread(what):
    found = []
    thread = threading.Thread(target=lambda: found.append(what()))
    thread.start(); thread.join()
    return found[0]

def say(**found):
    print(json.dumps(found), flush=True)
"""


def report(code: str) -> dict[str, Any]:
    done = subprocess.run([sys.executable, "-c", _REPORT + code], capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def mask(*caps: Cap) -> int:
    held = int(re.search(r"CapPrm:\s+(\w+)", Path("/proc/self/status").read_text())[1], 16)  # type: ignore[index]
    return sum(1 << cap for cap in caps) & held


# privileges.borrowed


@root
def test_what_is_borrowed_is_in_force_within_beside_what_was_and_gone_after() -> None:
    found = report(
        "privileges.keep(DRAINER, DRAINER_AT_WORK)\n"
        "before = effective()\n"
        "with privileges.borrowed(PROBES):\n"
        "    within = effective()\n"
        "say(before=before, within=within, after=effective())")
    assert found["before"] == found["after"] == mask(*DRAINER_AT_WORK)
    assert found["within"] == mask(*DRAINER_AT_WORK, *PROBES)


@root
def test_what_is_borrowed_is_given_back_when_the_borrower_fails() -> None:
    found = report(
        "privileges.keep(DRAINER, DRAINER_AT_WORK)\n"
        "try:\n"
        "    with privileges.borrowed(PROBES):\n"
        "        raise KeyError\n"
        "except KeyError:\n"
        "    say(after=effective())")
    assert found["after"] == mask(*DRAINER_AT_WORK)


@root
def test_what_is_not_permitted_cannot_be_borrowed() -> None:
    found = report(
        "privileges.keep({Cap.KILL, Cap.SETUID}, {Cap.SETUID})\n"
        "with privileges.borrowed({Cap.KILL, Cap.BPF, Cap.SYS_ADMIN}):\n"
        "    say(within=effective())")
    assert found["within"] == mask(Cap.KILL, Cap.SETUID)


@root
def test_one_thread_borrows_for_itself_alone() -> None:
    found = report(
        "privileges.keep(DRAINER, DRAINER_AT_WORK)\n"
        "borrowed, looked = threading.Event(), threading.Event()\n"
        "def borrow():\n"
        "    with privileges.borrowed(PROBES):\n"
        "        borrowed.set(); looked.wait(20)\n"
        "thread = threading.Thread(target=borrow); thread.start(); borrowed.wait(20)\n"
        "other = effective(); looked.set(); thread.join()\n"
        "say(other=other)")
    assert found["other"] == mask(*DRAINER_AT_WORK)


@root
def test_borrowing_what_is_in_force_already_takes_nothing_away_after() -> None:
    found = report(
        "privileges.keep(SENDER, SENDER)\n"
        "with privileges.borrowed({Cap.KILL}):\n"
        "    pass\n"
        "say(after=effective())")
    assert found["after"] == mask(*SENDER)


# privileges.lower


@root
def test_a_thread_that_was_started_while_all_was_in_force_lowers_itself_and_no_other() -> None:
    found = report(
        "privileges.keep(DRAINER, DRAINER_AT_WORK)\n"
        "def lowered():\n"
        "    before = effective(); privileges.lower(DRAINER_AT_WORK); return before, effective()\n"
        "with privileges.raised(after=DRAINER_AT_WORK):\n"
        "    before, after = in_thread(lowered)\n"
        "    starter = effective()\n"
        "say(before=before, after=after, starter=starter)")
    assert found["before"] == found["starter"] == mask(*DRAINER)
    assert found["after"] == mask(*DRAINER_AT_WORK)


@root
def test_what_was_lowered_stays_permitted_and_can_be_borrowed_again() -> None:
    found = report(
        "privileges.keep(DRAINER, DRAINER)\n"
        "privileges.lower(())\n"
        "none, permitted = effective(), int(status()['CapPrm'][0], 16)\n"
        "with privileges.borrowed(PROBES):\n"
        "    again = effective()\n"
        "say(none=none, permitted=permitted, again=again)")
    assert (found["none"], found["permitted"], found["again"]) == (0, mask(*DRAINER), mask(*PROBES))


@root
def test_lowering_to_what_is_not_permitted_gives_nothing() -> None:
    found = report(
        "privileges.keep({Cap.KILL}, {Cap.KILL})\n"
        "privileges.lower({Cap.BPF, Cap.SYS_ADMIN})\n"
        "say(after=effective())")
    assert found["after"] == 0


# confinement.confine


@root
def test_a_confined_process_has_no_user_group_or_capability_of_the_host() -> None:
    found = report("confine([], memory=1 << 30, cpu_s=30)\nsay(**status())")
    assert set(found["Uid"]) == set(found["Gid"]) == {"65534"}
    assert found["Groups"] == []
    assert [int(found[f"Cap{name}"][0], 16) for name in ("Inh", "Prm", "Eff", "Bnd", "Amb")] == [0] * 5
    assert found["NoNewPrivs"] == ["1"]


@root
def test_a_confined_process_cannot_get_anything_back() -> None:
    found = report(
        "confine([], memory=1 << 30, cpu_s=30)\n"
        "say(root=attempt(os.setuid, 0), group=attempt(os.setgid, 0), caps=attempt(privileges._set, range(41), range(41)),\n"
        "    signal=attempt(os.kill, 1, 0), fork=attempt(os.fork),\n"
        "    secret=attempt(lambda: open('/etc/shadow', 'rb').read()))")
    assert found == {"root": 1, "group": 1, "caps": 1, "signal": 1, "fork": 11, "secret": 13}


def test_only_the_files_that_are_read_stay_open(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a", "b", "c", "d", "e")]
    for path in paths:
        path.write_text(path.name)
    found = report(
        f"fds = [os.open(path, os.O_RDONLY) for path in {[str(path) for path in paths]}]\n"
        "confine([fds[1], fds[3]], memory=1 << 30, cpu_s=30)\n"
        "def is_open(fd):\n"
        "    return attempt(os.fstat, fd) == 0\n"
        "say(open=[is_open(fd) for fd in fds], read=[os.read(fds[1], 9).decode(), os.read(fds[3], 9).decode()],\n"
        "    others=[fd for fd in range(3, 200) if is_open(fd) and fd not in fds])")
    assert found == {"open": [False, True, False, True, False], "read": ["b", "d"], "others": []}


def test_what_only_its_owner_may_read_is_read_by_what_was_opened_before(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("model")
    secret.chmod(0o600)
    found = report(
        f"fd = os.open({str(secret)!r}, os.O_RDONLY)\n"
        "confine([fd], memory=1 << 30, cpu_s=30)\n"
        f"say(read=os.read(fd, 9).decode(), again=attempt(os.open, {str(secret)!r}, os.O_RDONLY))")
    assert found == {"read": "model", "again": 13 if os.geteuid() == 0 else 0}


def test_memory_time_files_and_core_of_a_confined_process_are_bounded() -> None:
    found = report(
        "confine([], memory=300 << 20, cpu_s=7)\n"
        "names = ('AS', 'CPU', 'CORE', 'FSIZE', 'NOFILE')\n"
        "limits = {name: resource.getrlimit(getattr(resource, 'RLIMIT_' + name)) for name in names}\n"
        "try:\n    bytes(400 << 20); memory = 'had'\nexcept MemoryError:\n    memory = 'refused'\n"
        "say(limits=limits, memory=memory)")
    assert found["limits"] == {"AS": [300 << 20] * 2, "CPU": [7, 7], "CORE": [0, 0], "FSIZE": [0, 0], "NOFILE": [18, 18]}
    assert found["memory"] == "refused"


def test_a_confined_process_that_computes_for_too_long_is_ended() -> None:
    code = _REPORT + "confine([], memory=1 << 30, cpu_s=1)\nwhile True: pass"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == -signal.SIGKILL


@root
def test_who_cannot_give_up_its_privileges_is_told_so() -> None:
    found = report(
        "def refuse(*_):\n    raise PermissionError(1, 'no')\n"
        "os.setresuid = refuse\n"
        "say(errno=attempt(lambda: confine([], memory=1 << 30, cpu_s=30)))")
    assert found["errno"] == 1


@pytest.mark.parametrize("how", ["end_with_starter()", "confine([], memory=1 << 30, cpu_s=30)"])
def test_a_process_that_hangs_ends_when_its_starter_is_killed(how: str) -> None:
    child = f"{how}; print(os.getpid(), flush=True); threading.Event().wait(60)"
    code = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', sys.argv[1]]).wait()"
    with subprocess.Popen([sys.executable, "-c", code, _REPORT + child], stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        pid = int(starter.stdout.readline())
        starter.kill()
        starter.wait()
    until = time.monotonic() + 30
    while runs(pid) and time.monotonic() < until:
        time.sleep(0.01)
    assert not runs(pid)


def runs(pid: int) -> bool:
    """Whether it runs still; a zombie, whom nobody fetched yet, does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
