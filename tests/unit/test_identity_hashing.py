"""Hashing in the background: seldom, in order, at the lowest priority, and not to be fooled or held up."""

from __future__ import annotations

import ctypes
import dataclasses
import json
import mmap
import os
import subprocess
import time
from pathlib import Path

import pytest
from modelward_agent.identity import hasher, hashing
from modelward_agent.identity.file_systems import is_served_by_workload
from modelward_agent.identity.opening import find_artifact, places
from modelward_agent.identity.resolver import Resolver

from tests.unit.fuse_server import mounted
from tests.unit.identity_files import artifact, write_gguf
from tests.unit.resolving import joint, last, loaded, resolve, sha256sum, until

root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")


def old(path: Path) -> Path:
    """A file whose time stamps are settled, so that what is found in it may be kept."""
    while time.time_ns() - path.stat().st_ctime_ns < 200_000_000:
        time.sleep(0.05)
    return path


def written(path: Path, size: int = 100) -> Path:
    path.write_bytes(b"\x80\x04" + os.urandom(size))
    return old(path)


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    (tmp_path / "state").mkdir()
    return tmp_path / "state/identities"


def test_a_restarted_agent_hashes_again(tmp_path: Path, kept: Path) -> None:
    made = written(tmp_path / "m.joblib")
    for expected in (sha256sum(made), "7" * 64):
        resolver = Resolver(known=kept, boot_id="boot")
        try:
            assert resolve(resolver, artifact(made)).digest == expected
        finally:
            resolver.close()
        # What reading the file would not give.
        kept.write_text(kept.read_text().replace(sha256sum(made), "7" * 64))
    assert kept.stat().st_mode & 0o777 == 0o600


def test_a_kept_digest_outlives_a_forged_time(tmp_path: Path, kept: Path) -> None:
    made = written(tmp_path / "m.joblib")
    before = made.stat()
    resolver = Resolver(known=kept)
    try:
        first = resolve(resolver, artifact(made)).digest
        with made.open("r+b") as file:
            file.seek(10)
            file.write(b"evil")
        os.utime(made, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert first != resolve(resolver, artifact(made, 2)).digest == sha256sum(made)
    finally:
        resolver.close()


@pytest.mark.parametrize("damage", [b"", b"\0" * 50, b'{"stamp": [1, 2], "digest": "x"}\n[]\n7\n{"stamp": "x"}', b'{"stamp"'])
def test_a_damaged_file_of_digests_stops_the_agent(tmp_path: Path, kept: Path, damage: bytes) -> None:
    kept.write_bytes(damage)
    made = written(tmp_path / "m.joblib")
    resolver = Resolver(known=kept)
    try:
        assert resolve(resolver, artifact(made)).digest == sha256sum(made)
    finally:
        resolver.close()
    assert json.loads(kept.read_bytes().splitlines()[-1])["digest"] == sha256sum(made)


def test_two_instances_of_a_file_cost_two_hashings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[bytes] = []
    remember = hasher.remember

    def counting(load: object, known: object, file: object, digest: str) -> None:
        read.append(file.path)  # type: ignore[attr-defined]
        remember(load, known, file, digest)  # type: ignore[arg-type]

    monkeypatch.setattr(hasher, "remember", counting)
    made = written(tmp_path / "m.joblib", 1 << 20)
    resolver = Resolver(large=1)
    try:
        for instance in (1, 2, 3):
            resolver.submit(artifact(made, instance))
        assert {each.digest for each in last(resolver).values()} == {sha256sum(made)}
    finally:
        resolver.close()
    assert len(read) == 1


def test_a_large_file_has_no_name_before_it_is_hashed(tmp_path: Path) -> None:
    made = write_gguf(tmp_path / "m.gguf")
    resolver = Resolver(large=1)
    try:
        resolver.submit(artifact(made))
        first = until(resolver, lambda identity: True)
        assert (first.id, first.digest) == ("Tiny Llama", "")
        assert until(resolver, lambda identity: identity.digest) == dataclasses.replace(first, digest=sha256sum(made))
    finally:
        resolver.close()


def test_a_hash_for_a_process_that_is_gone_holds_up_one_that_lives(tmp_path: Path) -> None:
    slow, quick = written(tmp_path / "slow.joblib", 400 << 20), written(tmp_path / "quick.joblib", 1 << 20)
    resolver = Resolver(large=1, bytes_per_s=4 << 20)
    try:
        resolver.submit(dataclasses.replace(artifact(slow), pid=2**22 - 1, start_ns=1))
        until(resolver, lambda identity: identity.id == "slow")
        resolver.submit(artifact(quick, 2))
        # The slow one takes 100 s.
        assert until(resolver, lambda identity: identity.digest, 80).id == "quick"
    finally:
        resolver.close()


def test_a_set_that_was_hashed_in_part_is_hashed_anew(tmp_path: Path, kept: Path) -> None:
    shards = [written(tmp_path / f"m-0000{n}-of-00002.safetensors", 4 << 20) for n in (1, 2)]
    resolver = Resolver(large=1, bytes_per_s=4 << 20, known=kept)
    resolver.submit(artifact(shards[0]))
    while not kept.exists():
        time.sleep(0.01)
    resolver.close()
    first = json.loads(kept.read_bytes().splitlines()[-1])["digest"]
    kept.write_text(kept.read_text().replace(first, "7" * 64))
    resolver = Resolver(known=kept)
    try:
        found = resolve(resolver, artifact(shards[0]))
        assert found.digest not in ("", joint(shards))
    finally:
        resolver.close()


def test_the_worker_disturbs_others(tmp_path: Path) -> None:
    made = written(tmp_path / "m.joblib", 64 << 20)
    resolver = Resolver(bytes_per_s=1 << 20)
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        resolver.submit(artifact(made))
        nice, io = 0, 0
        deadline = time.monotonic() + 120
        while (nice, io >> 13) != (19, 3) and time.monotonic() < deadline:
            if (worker := resolver._worker) is not None:
                nice = int(Path(f"/proc/{worker.pid}/stat").read_text().rpartition(")")[2].split()[16])
                if os.uname().machine == "x86_64":
                    io = libc.syscall(252, 1, worker.pid)
            time.sleep(0.02)
        assert (nice, io >> 13) == (19, 3)
    finally:
        resolver.close()


@pytest.mark.parametrize("how", ["map", "times", "truncate"])
def test_a_file_that_changes_while_it_is_read_gets_a_digest(tmp_path: Path, how: str) -> None:
    made = written(tmp_path / "m", 10 << 20)

    def change(read: int) -> None:
        if read != 4 << 20:
            return
        if how == "times":
            os.utime(made, ns=(1, 1))
        elif how == "truncate":
            os.truncate(made, 6 << 20)
        else:
            with made.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
                mapped[0:4] = b"evil"
                mapped.flush()

    fd = os.open(made, os.O_RDONLY)
    try:
        with pytest.raises(hashing.FileChanged):
            hashing.sha256(fd, bytes_per_s=1 << 40, progress=change)
    finally:
        os.close(fd)


@root
def test_a_file_in_a_mount_namespace_of_the_workload_is_not_found(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    script = 'mount -t tmpfs none "$0" && printf "\\200\\004hidden." > "$0/m.joblib" && stat -c "%d %i" "$0/m.joblib" && cat'
    command = ["unshare", "-m", "sh", "-c", script, tmp_path / "in"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        device, inode = map(int, process.stdout.readline().split())
        (tmp_path / "in/m.joblib").write_bytes(b"\x80\x04what the host has there.")
        told = dataclasses.replace(
            artifact(tmp_path / "in/m.joblib", pid=process.pid), inode=inode, device=os.major(device) << 20 | os.minor(device))
        resolver = Resolver()
        try:
            found = resolve(resolver, told)
        finally:
            resolver.close()
            process.kill()
    (tmp_path / "copy").write_bytes(b"\x80\x04hidden.")
    assert found.digest == sha256sum(tmp_path / "copy")


@root
def test_an_overlay_hides_a_model(tmp_path: Path) -> None:
    for name in ("lower", "upper", "work", "merged"):
        (tmp_path / name).mkdir()
    write_gguf(tmp_path / "lower/m.gguf")
    options = ",".join(f"{name}dir={tmp_path / name}" for name in ("lower", "upper", "work"))
    made = subprocess.run(["mount", "-t", "overlay", "none", "-o", options, tmp_path / "merged"], capture_output=True)
    if made.returncode:
        pytest.skip("overlayfs cannot be mounted here")
    try:
        resolver = Resolver()
        try:
            # As the kernel numbers it: the device is not what stat shows.
            told = dataclasses.replace(artifact(tmp_path / "merged/m.gguf"), device=12345)
            assert resolve(resolver, told).digest == sha256sum(tmp_path / "lower/m.gguf")
        finally:
            resolver.close()
    finally:
        subprocess.run(["umount", "-l", tmp_path / "merged"], check=True)


@root
def test_a_file_system_that_never_answers_hangs_the_agent(tmp_path: Path) -> None:
    (tmp_path / "mount").mkdir()
    try:
        with mounted(tmp_path / "mount", b"m.gguf", 1 << 20, lambda offset, length: None) as made:
            resolver = Resolver(silence_s=10)
            try:
                other = write_gguf(tmp_path / "n.gguf")
                resolver.submit(artifact(made))
                resolver.submit(artifact(other, 2))
                found = last(resolver)
                assert found[1].digest == ""
                assert found[2].digest == sha256sum(other)
            finally:
                resolver.close()
    except OSError as e:
        pytest.skip(f"FUSE cannot be mounted here: {e.strerror}")


@root
def test_a_file_system_of_the_workloads_own_shows_us_another_content(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    content = b"GGUF" + bytes(1000)
    found = {}
    for user in (0, 1000):
        folder = tmp_path / str(user)
        folder.mkdir()
        try:
            with mounted(folder, b"m.gguf", len(content), lambda o, n: content[o : o + n], user) as made:
                resolver = Resolver()
                try:
                    found[user] = resolve(resolver, *loaded(made)).digest
                finally:
                    resolver.close()
        except OSError as e:
            pytest.skip(f"FUSE cannot be mounted here: {e.strerror}")
    (tmp_path / "copy").write_bytes(content)
    assert found == {0: sha256sum(tmp_path / "copy"), 1000: ""}
    assert "another content" in caplog.text


def test_a_page_that_is_mapped_for_writing_is_changed_unseen(tmp_path: Path) -> None:
    made = written(tmp_path / "m", 10 << 20)
    fd = os.open(made, os.O_RDONLY)
    try:
        with made.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
            mapped[0:4] = b"good"
            old(made)  # dirty since then: another write to that page touches no time stamp

            def change(read: int) -> None:
                if read == 4 << 20:
                    mapped[0:4] = b"evil"

            with pytest.raises(hashing.FileChanged):
                hashing.sha256(fd, bytes_per_s=1 << 40, progress=change)
    finally:
        os.close(fd)


@pytest.mark.skipif(not os.path.isdir("/dev/shm"), reason="there is no file system in memory")
def test_a_digest_of_a_file_in_memory_is_believed_again() -> None:
    made = Path(f"/dev/shm/modelward-test-{os.getpid()}.joblib")
    resolver = Resolver()
    try:
        made.write_bytes(b"\x80\x04" + bytes(100))
        with made.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
            mapped[50:54] = b"good"
            assert resolve(resolver, artifact(old(made))).digest == sha256sum(made)
            mapped[50:54] = b"evil"
            assert resolve(resolver, artifact(made, 2)).digest == sha256sum(made)
    finally:
        resolver.close()
        made.unlink(missing_ok=True)


def test_an_endless_file_holds_up_every_other_model(tmp_path: Path) -> None:
    endless, quick = tmp_path / "endless.joblib", written(tmp_path / "quick.joblib", 1 << 20)
    endless.write_bytes(b"\x80\x04")
    os.truncate(endless, 1 << 42)
    resolver = Resolver(large=1)
    try:
        resolver.submit(artifact(old(endless)))
        until(resolver, lambda identity: identity.id == "endless")
        resolver.submit(artifact(quick, 2))
        assert until(resolver, lambda identity: identity.digest).id == "quick"
    finally:
        resolver.close()


@root
def test_an_overlay_of_the_workloads_own_is_taken_for_the_hosts(tmp_path: Path) -> None:
    for name in ("lower", "merged"):
        (tmp_path / name).mkdir()
    (tmp_path / "lower/m.joblib").write_bytes(b"\x80\x04.")
    (tmp_path / "empty").mkdir()
    script = 'mount -t overlay none -o "lowerdir=$0/lower:$0/empty" "$0/merged" && echo mounted && cat'
    command: list[str | Path] = ["unshare", "-m", "sh", "-c", script, tmp_path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        if not process.stdout.readline():
            pytest.skip("overlayfs cannot be mounted here")
        told = artifact(tmp_path / "lower/m.joblib", pid=process.pid)
        inside, host = places(told.pid, told.start_ns)
        references = [find_artifact(inside, os.fsencode(tmp_path / name / "m.joblib"), told.device, told.inode)
                      for name in ("merged", "lower")]
        try:
            assert [is_served_by_workload(each, process.pid) for each in references] == [True, False]
        finally:
            for each in (*references, inside.root, host.root):
                os.close(each)
            process.kill()


@root
def test_what_was_mounted_into_a_models_folder_becomes_an_artifact_for_others(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m/config.json").write_text("{}")
    shards = [tmp_path / f"m/model-0000{number}-of-00002.joblib" for number in (1, 2)]
    victim = written(tmp_path / "victim.py")
    for shard in shards:
        written(shard)
    subprocess.run(["mount", "--bind", victim, shards[1]], check=True)
    try:
        resolver = Resolver()
        try:
            resolve(resolver, artifact(shards[0]))
            assert victim.stat().st_ino not in {inode for _, inode in resolver.registrations()}
        finally:
            resolver.close()
    finally:
        subprocess.run(["umount", "-l", shards[1]], check=True)
