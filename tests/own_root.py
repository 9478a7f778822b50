"""A root file system of a test's own with real systemd as its first process: this machine's files, changes kept in memory.

The host's kernel is shared, its files are not touched. It has a loopback of its own and no other network, and process numbers of
its own: the kernel tells the agent in there the host's numbers, so what it reports of processes means nothing. Nothing that the
host starts at boot is started.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

SYSTEMD = Path("/lib/systemd/systemd")

_BEGIN = r"""
set -e
mount --make-rprivate /
mount -t tmpfs -o mode=0755 tmpfs "$1"
cd "$1"
mkdir upper work root cgroup
mount -t cgroup2 cgroup2 cgroup
mkdir -p "cgroup/$2"
echo $$ > "cgroup/$2/cgroup.procs"
mount -t overlay overlay -o "lowerdir=/,upperdir=upper,workdir=work" root
exec unshare --cgroup --net --pid --fork --kill-child --uts --ipc bash -c "$3" boot "$1/root" "$4"
"""

_BOOT = r"""
set -e
ip link set lo up
cd "$1"
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t bpf bpf sys/fs/bpf
mount -t tracefs tracefs sys/kernel/tracing
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=0755 tmpfs run
mount -t tmpfs -o mode=1777 tmpfs tmp
mount -t tmpfs -o mode=0755 tmpfs dev
for device in null zero full random urandom tty; do cp -a "/dev/$device" dev/; done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
mount -t tmpfs -o mode=1777 tmpfs dev/shm
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
if [ -n "$2" ]; then mkdir -p opt/test-packages; mount --bind "$2" opt/test-packages; fi
find etc/systemd/system lib/systemd/system -maxdepth 1 -name '*.wants' -exec rm -rf {} +
printf '[Unit]\nDescription=Nothing but what a test starts\nDefaultDependencies=no\nWants=systemd-journald.socket\n' \
    > etc/systemd/system/own.target
echo 0123456789abcdef0123456789abcdef > etc/machine-id
mkdir .before
pivot_root . .before
umount -l /.before
rmdir /.before
# As systemd itself does outside of containers: credentials of a service reach it by propagation.
mount --make-rshared /
exec env -i container=modelward PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --unit=own.target
"""


class OwnRoot:
    """The root, while its systemd runs."""

    def __init__(self, first: int) -> None:
        self._first = first

    def path(self, inside: str) -> Path:
        """A file in there, as a path out here."""
        return Path(f"/proc/{self._first}/root") / inside.lstrip("/")

    def run(
        self, *command: str, check: bool = True, timeout_s: float = 120, environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in there and return what it said."""
        given = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", **(environment or {})}
        done = subprocess.run(
            ["nsenter", "--target", str(self._first), "--mount", "--pid", "--uts", "--ipc", "--cgroup", "--net", *command],
            env=given, capture_output=True, text=True, timeout=timeout_s, check=False)
        assert not check or done.returncode == 0, f"{' '.join(command)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def log(self, unit: str) -> str:
        """What a unit wrote."""
        return self.run("journalctl", "--no-pager", "--output=cat", "--unit", unit, check=False).stdout


@contextmanager
def own_root(packages: Path | None = None) -> Iterator[OwnRoot]:
    """Boot; end everything at the end. ``packages``: a folder that is found in there as ``/opt/test-packages``."""
    folder = Path(tempfile.mkdtemp(prefix="modelward-root-"))
    group = folder.name
    process = subprocess.Popen(
        ["unshare", "--mount", "bash", "-c", _BEGIN, "begin", str(folder), group, _BOOT, str(packages or "")],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        root = OwnRoot(_first(process))
        _booted(root, process)
        yield root
    finally:
        process.kill()
        process.communicate()
        _remove_group(group)
        shutil.rmtree(folder)


def _first(process: subprocess.Popen[bytes]) -> int:
    """The systemd below ``unshare``, as the host numbers it."""
    until = time.monotonic() + 20
    while time.monotonic() < until and process.poll() is None:
        try:
            for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
                if Path(f"/proc/{child}/comm").read_text() == "systemd\n":
                    return int(child)
        except OSError:
            pass
        time.sleep(0.02)
    raise AssertionError(f"systemd did not start: {_last_words(process)}")


def _booted(root: OwnRoot, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 30
    state = ""
    while time.monotonic() < until and process.poll() is None:
        state = root.run("systemctl", "is-system-running", check=False).stdout.strip()
        if state in ("running", "degraded"):
            return
        time.sleep(0.1)
    raise AssertionError(f"systemd is {state}: {_last_words(process)}")


def _last_words(process: subprocess.Popen[bytes]) -> str:
    process.kill()
    return process.communicate()[1].decode("utf-8", "replace")


def _remove_group(group: str) -> None:
    """Control groups outlive the mount that they were made in."""
    script = 'mount --make-rprivate / && mount -t cgroup2 cgroup2 /mnt && find "/mnt/$0" -depth -type d -exec rmdir {} +'
    for _ in range(50):
        if subprocess.run(["unshare", "--mount", "bash", "-c", script, group], capture_output=True, check=False).returncode == 0:
            return
        time.sleep(0.1)
