"""What processes may still do after they gave up the rest: asked of the kernel, by a process that really gave it up."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from modelward_agent.privileges import DRAINER, DRAINER_AT_WORK, SENDER, Cap

pytestmark = pytest.mark.kernel

_REPORT = """
import ctypes, json, os, subprocess, sys, threading
from modelward_agent import privileges
from modelward_agent.privileges import *

def status(of="self"):
    lines = (line.split(":", 1) for line in open(f"/proc/{of}/status"))
    return {name: value.split()[0] for name, value in lines if name.startswith("Cap") or name == "NoNewPrivs"}

def attempt(what):
    try:
        what()
    except OSError as e:
        return e.errno
    return 0

def say(**found):
    print(json.dumps(found))
"""


def report(code: str) -> dict[str, Any]:
    done = subprocess.run([sys.executable, "-c", _REPORT + code], capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def mask(caps: frozenset[Cap]) -> int:
    held = int(re.search(r"CapPrm:\s+(\w+)", Path("/proc/self/status").read_text())[1], 16)  # type: ignore[index]
    return sum(1 << cap for cap in caps) & held


def test_sender_has_no_right_to_bpf_network_or_system() -> None:
    assert not SENDER & {Cap.BPF, Cap.PERFMON, Cap.NET_ADMIN, Cap.SYS_ADMIN}


def test_what_is_given_up_is_gone_for_good_and_for_children_too() -> None:
    found = report(
        "privileges.keep(SENDER, SENDER)\n"
        "again = attempt(lambda: privileges._set(range(41), range(41)))\n"
        "text = subprocess.run(['cat', '/proc/self/status'], capture_output=True, text=True).stdout\n"
        "child = {l.split(':')[0]: l.split()[1] for l in text.splitlines() if l.startswith(('Cap', 'NoNewPrivs'))}\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "mounted = libc.mount(b'nodev', b'/mnt', b'tmpfs', 0, None)\n"
        "bpf = libc.syscall(321, 0, ctypes.create_string_buffer(120), 120)\n"
        "dumpable = libc.prctl(3, 0, 0, 0, 0)\n"
        "say(own=status(), child=child, again=again, mounted=mounted, bpf=bpf, dumpable=dumpable)"
    )
    for who in ("own", "child"):
        assert int(found[who]["CapPrm"], 16) == int(found[who]["CapEff"], 16) == int(found[who]["CapBnd"], 16) == mask(SENDER)
        assert int(found[who]["CapInh"], 16) == int(found[who]["CapAmb"], 16) == 0
        assert found[who]["NoNewPrivs"] == "1"
    assert (found["again"], found["mounted"], found["bpf"], found["dumpable"]) == (1, -1, -1, 0)


def test_drainer_has_in_force_only_what_it_uses_and_can_raise_the_rest_for_a_moment() -> None:
    found = report(
        "privileges.keep(DRAINER, DRAINER_AT_WORK)\n"
        "before = status()\n"
        "with privileges.raised(after=DRAINER_AT_WORK):\n"
        "    within = status()\n"
        "thread = threading.Thread(target=lambda: seen.append(status(f'self/task/{threading.get_native_id()}')))\n"
        "seen = []; thread.start(); thread.join()\n"
        "say(before=before, within=within, after=status(), thread=seen[0])"
    )
    assert int(found["before"]["CapPrm"], 16) == mask(DRAINER)
    assert int(found["before"]["CapEff"], 16) == mask(DRAINER_AT_WORK)
    assert int(found["within"]["CapEff"], 16) == mask(DRAINER)
    assert found["after"] == found["before"] == found["thread"]


def test_sensor_opens_and_works_with_what_the_drainer_keeps() -> None:
    """Without CAP_SYS_ADMIN: a host's other users of that right stay apart from what watches them."""
    found = report(
        "from modelward_agent.sensor import mounts\n"
        "mounts.prepare()\n"
        "privileges.keep(DRAINER, DRAINER_AT_WORK)\n"
        "from modelward_agent.sensor.sensor import Sensor\n"
        "with privileges.raised(after=DRAINER_AT_WORK):\n"
        "    sensor = Sensor.open(exclude_pids=(os.getpid(),))\n"
        "sensor.tick(); sensor.drain(); sensor.swap_repeats(); sensor.counters()\n"
        "say(doors={door.effect: door.door for door in sensor.doors()})\n"
        "sensor.close()"
    )
    assert found["doors"]["connect"].startswith("cgroup/")
    assert "none" not in found["doors"].values()


def test_process_without_root_can_still_close_the_way_back() -> None:
    found = report(
        "os.setgroups([]); os.setresuid(65534, 65534, 65534)\n"
        "privileges.keep(SENDER, SENDER)\n"
        "say(own=status(), shed=attempt(privileges.shed_all))"
    )
    assert int(found["own"]["CapPrm"], 16) == 0
    assert found["own"]["NoNewPrivs"] == "1"
    assert found["shed"] == 0
    assert os.geteuid() == 0
