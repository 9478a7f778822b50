"""Mounts: what is missing is mounted, and only that is taken away again. In mount namespaces: others use this host."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.kernel

_PRELUDE = """
import os, subprocess
from modelward_agent.sensor import mounts
subprocess.run(["mount", "-t", "tmpfs", "none", "/run"], check=True)
def bare(path):
    while os.path.ismount(path):
        subprocess.run(["umount", "-l", path], check=True)
"""


def _in_a_namespace(program: str) -> None:
    command = ["unshare", "--mount", "--propagation", "private", sys.executable, "-c", _PRELUDE + program]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_what_is_missing_is_mounted_and_taken_away_again() -> None:
    _in_a_namespace("""
bare("/sys/fs/bpf"); bare("/sys/kernel/tracing")
mounts.prepare()
assert mounts.is_bpffs(mounts.BPFFS)
assert (mounts.TRACEFS / "events").is_dir()
removed = mounts.unmount()
assert {"/sys/fs/bpf", "/sys/kernel/tracing"} <= set(removed), removed
assert not mounts.is_bpffs(mounts.BPFFS)
assert mounts.unmount() == []
assert not os.path.exists("/run/modelward/mounts")
""")


def test_mounts_of_others_stay() -> None:
    _in_a_namespace("""
bare("/sys/fs/bpf")
subprocess.run(["mount", "-t", "bpf", "bpf", "/sys/fs/bpf"], check=True)
mounts.prepare()
assert "/sys/fs/bpf" not in mounts.unmount()
assert mounts.is_bpffs(mounts.BPFFS)
""")


def test_a_bpf_file_system_in_which_others_pinned_something_stays() -> None:
    _in_a_namespace("""
bare("/sys/fs/bpf")
mounts.prepare()
os.mkdir("/sys/fs/bpf/of-somebody-else")
assert "/sys/fs/bpf" not in mounts.unmount()
os.rmdir("/sys/fs/bpf/of-somebody-else")
assert "/sys/fs/bpf" in mounts.unmount()
""")


def test_a_list_of_mounts_that_names_something_else_is_not_followed() -> None:
    _in_a_namespace("""
os.mkdir("/run/modelward")
subprocess.run(["mount", "-t", "tmpfs", "none", "/mnt"], check=True)
open("/run/modelward/mounts", "w").write("/mnt\\n/\\n")
assert mounts.unmount() == []
assert os.path.ismount("/mnt")
""")
