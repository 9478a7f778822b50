"""Opens: which file it really was, and how it was opened."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from modelward_agent.sensor import canary_child
from modelward_agent.sensor.constants import Flag, Outcome, Ring

from .conftest import Host, of

pytestmark = pytest.mark.kernel

_TRACKED = "import os, sys; os.close(os.open(sys.argv[1], os.O_RDONLY)); os.chdir(sys.argv[2])\n"


def _opens(host: Host, program: str, artifact: Path, folder: Path):  # type: ignore[no-untyped-def]
    return of(host.run(_TRACKED + program, str(artifact), str(folder)), "file_open")


def test_relative_open_is_resolved_and_keeps_the_name_asked_for(host: Host, artifact: Path, tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"x")
    (tmp_path / "link").symlink_to("data")
    events = _opens(host, "os.close(os.open('./link', os.O_RDONLY))", artifact, tmp_path)
    [event] = [e for e in events if e.asked == b"./link"]
    status = (tmp_path / "data").stat()
    assert event.path == bytes(tmp_path / "data")
    assert (event.inode, event.links, event.access) == (status.st_ino, 1, 1)
    assert (event.device >> 20, event.device & 0xFFFFF) == (os.major(status.st_dev), os.minor(status.st_dev))


def test_an_absolute_path_that_is_the_file_is_sent_once(host: Host, artifact: Path, tmp_path: Path) -> None:
    path = tmp_path / "plain-file"
    path.write_bytes(b"x")
    events = _opens(host, f"os.close(os.open({str(path)!r}, os.O_RDONLY))", artifact, tmp_path)
    [event] = [e for e in events if e.path == bytes(path)]
    assert event.asked == b""


@pytest.mark.parametrize(
    ("flags", "access"),
    [("os.O_RDONLY", 1), ("os.O_WRONLY | os.O_CREAT", 2), ("os.O_RDWR | os.O_CREAT", 3), ("os.O_PATH", 0)],
)
def test_access_mode_of_an_open(host: Host, artifact: Path, tmp_path: Path, flags: str, access: int) -> None:
    (tmp_path / "file").write_bytes(b"x")
    events = _opens(host, f"os.close(os.open('file', {flags}))", artifact, tmp_path)
    found = [e.access for e in events if e.path == bytes(tmp_path / "file")]
    # A descriptor that only names a file passes no check of the file, where that is the door.
    assert found == ([access] if access or host.opens_by_call else [])


@pytest.mark.parametrize("call", ["open", "creat", "openat", "openat2"])
def test_each_call_that_opens_is_seen(host: Host, artifact: Path, tmp_path: Path, call: str) -> None:
    (tmp_path / "file").write_bytes(b"x")
    program = f"""
import ctypes, struct
syscall = ctypes.CDLL(None).syscall
name = b"file"
how = struct.pack("=QQQ", os.O_RDONLY, 0, 0)
fd = {{
    "open": lambda: syscall(2, name, os.O_RDONLY, 0),
    "creat": lambda: syscall(85, name, 0o600),
    "openat": lambda: syscall(257, -100, name, os.O_RDONLY, 0),
    "openat2": lambda: syscall(437, -100, name, how, 24),
}}[{call!r}]()
assert fd >= 0
"""
    events = _opens(host, program, artifact, tmp_path)
    [event] = [e for e in events if e.path == bytes(tmp_path / "file")]
    assert event.asked == b"file"
    assert event.access == (2 if call == "creat" else 1)


def test_failed_opens_are_not_told(host: Host, artifact: Path, tmp_path: Path) -> None:
    events = _opens(host, """
try: os.open("missing", os.O_RDONLY)
except OSError: pass
""", artifact, tmp_path)
    assert not [e for e in events if e.asked == b"missing"]


def test_long_path_goes_out_whole_in_a_large_record(host: Host, artifact: Path, tmp_path: Path) -> None:
    folder = tmp_path
    for _ in range(8):
        folder = folder / ("d" * 200)
    folder.mkdir(parents=True)
    (folder / "deep").write_bytes(b"x")
    events = _opens(host, f"os.close(os.open({str(folder / 'deep')!r}, os.O_RDONLY))", artifact, tmp_path)
    [event] = [e for e in events if e.path.endswith(b"/deep")]
    assert event.path == bytes(folder / "deep")
    assert event.ring == Ring.EVENTS_LARGE
    assert not event.flags & Flag.TRUNCATED


def test_path_longer_than_the_kernels_limit_is_cut_and_says_so(host: Host, artifact: Path, tmp_path: Path) -> None:
    program = """
for _ in range(25):
    os.mkdir("d" * 200); os.chdir("d" * 200)
os.close(os.open("deep", os.O_WRONLY | os.O_CREAT))
"""
    events = _opens(host, program, artifact, tmp_path)
    [event] = [e for e in events if e.asked == b"deep"]
    assert event.flags & Flag.TRUNCATED
    assert event.path.endswith(b"/deep")
    assert len(event.path) > 3800


def test_hostile_names_come_through_byte_by_byte(host: Host, artifact: Path, tmp_path: Path) -> None:
    name = b"new\nline \"quote\" <b> \x1b[31m \xff\xfe"
    program = f"os.close(os.open({name!r}, os.O_WRONLY | os.O_CREAT))"
    events = _opens(host, program, artifact, tmp_path)
    assert [e for e in events if e.path == bytes(tmp_path) + b"/" + name and e.asked == name]


def test_a_file_across_bind_mounts_has_the_path_it_was_reached_by(host: Host, artifact: Path, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file").write_bytes(b"x")
    (tmp_path / "here").mkdir()
    program = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
assert libc.unshare(0x20000) == 0
assert libc.mount(b"none", b"/", None, 0x44000, None) == 0  # private
assert libc.mount(b"there", b"here", None, 0x1000, None) == 0  # bind
os.close(os.open("here/file", os.O_RDONLY))
"""
    events = _opens(host, program, artifact, tmp_path)
    [event] = [e for e in events if e.asked == b"here/file"]
    assert event.path == bytes(tmp_path / "here" / "file")


def test_unlinked_file_is_told(host: Host, artifact: Path, tmp_path: Path) -> None:
    program = """
fd = os.open(".", os.O_TMPFILE | os.O_RDWR)
fd = os.open("gone", os.O_CREAT | os.O_RDWR); os.unlink("gone")
os.open(f"/proc/self/fd/{fd}", os.O_RDONLY)
"""
    events = _opens(host, program, artifact, tmp_path)
    [temporary] = [e for e in events if e.asked == b"."]
    [reopened] = [e for e in events if e.asked.startswith(b"/proc/self/fd/")]
    assert temporary.flags & Flag.UNLINKED
    assert reopened.flags & Flag.UNLINKED
    assert reopened.links == 0


def test_file_outside_the_process_root_is_told(host: Host, artifact: Path, tmp_path: Path) -> None:
    (tmp_path / "jail").mkdir()
    (tmp_path / "outside").write_bytes(b"x")
    (tmp_path / "jail" / "inside").write_bytes(b"x")
    program = """
folder = os.open(".", os.O_RDONLY)
os.chroot("jail")
os.open("outside", os.O_RDONLY, dir_fd=folder)
os.open("/inside", os.O_RDONLY)
"""
    events = _opens(host, program, artifact, tmp_path)
    [outside] = [e for e in events if e.asked == b"outside"]
    [inside] = [e for e in events if e.asked == b"/inside"]
    assert outside.flags & Flag.OUTSIDE_ROOT
    assert not inside.flags & Flag.OUTSIDE_ROOT
    assert outside.path == bytes(tmp_path / "outside")
    assert inside.path == bytes(tmp_path / "jail" / "inside")


def test_credential_opens_are_never_merged_and_have_the_control_ring(host: Host, artifact: Path, tmp_path: Path) -> None:
    (tmp_path / "id_rsa").write_bytes(b"x")
    events = _opens(host, "[os.close(os.open('id_rsa', os.O_RDONLY)) for _ in range(50)]", artifact, tmp_path)
    secrets = [e for e in events if e.path == bytes(tmp_path / "id_rsa")]
    assert len(secrets) == 50
    assert {e.ring for e in secrets} == {Ring.CONTROL}
    assert all(e.count == 1 for e in secrets)


def test_a_descriptor_swapped_during_the_open_is_told_as_raced(host: Host, artifact: Path, tmp_path: Path) -> None:
    (tmp_path / "decoy").write_bytes(b"x")
    (tmp_path / "target").write_bytes(b"x")
    # The swap is provoked without a race: a thread shares the descriptors, and the name is a link to another
    # file.
    (tmp_path / "alias").symlink_to("target")
    program = """
import threading
stop = threading.Event()
threading.Thread(target=stop.wait).start()
os.open("alias", os.O_RDONLY)
os.open("decoy", os.O_RDONLY)
stop.set()
"""
    events = _opens(host, program, artifact, tmp_path)
    [alias] = [e for e in events if e.asked == b"alias"]
    [decoy] = [e for e in events if e.asked == b"decoy"]
    assert bool(alias.flags & Flag.RACED) == host.opens_by_call
    assert not decoy.flags & Flag.RACED


def test_raced_opens_of_one_file_by_different_names_are_not_merged(host: Host, artifact: Path, tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"x")
    for name in ("one", "two"):
        (tmp_path / name).symlink_to("target")
    program = """
import threading
stop = threading.Event()
threading.Thread(target=stop.wait).start()
for _ in range(10):
    os.open("one", os.O_RDONLY)
    os.open("two", os.O_RDONLY)
stop.set()
"""
    events = _opens(host, program, artifact, tmp_path)
    raced = [e for e in events if e.path == bytes(tmp_path / "target")]
    counts = {e.asked: sum(x.count for x in raced if x.asked == e.asked) for e in raced}
    assert counts == ({b"one": 10, b"two": 10} if host.opens_by_call else {b"one": 20})


def test_an_open_by_io_uring_is_told_by_the_name_asked_for_or_by_its_file(host: Host, artifact: Path, tmp_path: Path) -> None:
    (tmp_path / "id_rsa").write_bytes(b"x")
    folder = Path(canary_child.__file__).parent
    program = f"""
sys.path.insert(0, {str(folder)!r})
from canary_child import open_by_uring
assert open_by_uring({bytes(tmp_path / 'id_rsa')!r}) >= 0
assert open_by_uring(b"id_rsa") >= 0
"""
    events = _opens(host, program, artifact, tmp_path)
    if not host.opens_by_call:
        opened = [e for e in events if e.path == bytes(tmp_path / "id_rsa")]
        assert [(e.outcome, e.access, e.ring) for e in opened] == [(Outcome.SUCCESS, 1, Ring.CONTROL)] * 2
        return
    absolute, relative = [e for e in events if e.outcome == Outcome.ATTEMPTED]
    assert (absolute.path, absolute.access, absolute.ring) == (bytes(tmp_path / "id_rsa"), 1, Ring.CONTROL)
    assert (relative.path, relative.asked) == (b"", b"id_rsa")
