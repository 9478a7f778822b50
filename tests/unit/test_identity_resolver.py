"""Identities found in the background by real workers."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import logging
import mmap
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import joblib
import pytest
from modelward_agent.identity import hashing
from modelward_agent.identity.artifact import Artifact, Identity
from modelward_agent.identity.resolver import Resolver

from tests.unit.identity_files import artifact, write_gguf, write_safetensors


@pytest.fixture
def resolver() -> Iterator[Resolver]:
    found = Resolver(silence_s=10)
    yield found
    found.close()


def wait(resolver: Resolver, count: int = 1, seconds: float = 120) -> list[tuple[Artifact, Identity]]:
    found: list[tuple[Artifact, Identity]] = []
    until = time.monotonic() + seconds
    while len(found) < count and time.monotonic() < until:
        found += resolver.results()
        time.sleep(0.01)
    return found


def identify(resolver: Resolver, what: Artifact) -> Identity:
    resolver.submit(what)
    ((of, identity),) = wait(resolver)
    assert of is what
    return identity


def sha256sum(path: Path) -> str:
    return subprocess.check_output(["sha256sum", path]).split()[0].lstrip(b"\\").decode()


def test_a_gguf_file_is_not_named_by_its_metadata(resolver: Resolver, tmp_path: Path) -> None:
    made = write_gguf(tmp_path / "m.gguf")
    assert identify(resolver, artifact(made)) == Identity(
        id="Tiny Llama", revision="v7", digest=sha256sum(made), format="gguf", source="file",
        architecture="llama", path=str(made),
    )  # fmt: skip


def test_a_joblib_file_is_not_named_by_its_stem(resolver: Resolver, tmp_path: Path) -> None:
    made = tmp_path / "fraud.joblib"
    joblib.dump([1, 2, 3], made)
    found = identify(resolver, artifact(made))
    assert (found.id, found.format, found.source, found.digest) == (
        "fraud",
        "joblib",
        "file",
        sha256sum(made),
    )


def test_a_hugging_face_model_is_not_named_by_its_repository(resolver: Resolver, tmp_path: Path) -> None:
    repository = tmp_path / "hub/models--acme--tiny"
    (repository / "blobs").mkdir(parents=True)
    made = write_safetensors(repository / "blobs/x", name="something else")
    digest = sha256sum(made)
    blob = made.rename(repository / "blobs" / digest)
    snapshot = repository / "snapshots/abc123/model.safetensors"
    snapshot.parent.mkdir(parents=True)
    snapshot.symlink_to(f"../../blobs/{digest}")
    found = identify(resolver, artifact(blob, asked=os.fsencode(snapshot)))
    assert found == Identity("acme/tiny", "abc123", digest, "safetensors", "hf_cache", quantization="F32", path=str(blob))


def forged_blob(folder: Path) -> Path:
    blob = folder / "models--acme--tiny/blobs" / ("a" * 64)
    blob.parent.mkdir(parents=True)
    return write_safetensors(blob)


@pytest.mark.parametrize("large", [1, 1 << 20])
def test_a_forged_blob_is_never_told_by_the_digest_it_is_named_after(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, large: int
) -> None:
    blob = forged_blob(tmp_path)
    resolver = Resolver(silence_s=10, large=large)
    try:
        resolver.submit(artifact(blob))
        told: list[str] = []
        while sha256sum(blob) not in told:
            told += [identity.digest for _, identity in wait(resolver)]
        # Hashed in the background it is named first, without a digest.
        assert told == ([sha256sum(blob)] if large > 1 else ["", sha256sum(blob)])
        assert "artifact is not what its cache says" in caplog.text
        assert [problem.partition(", ")[0] for problem in resolver.problems()] == [
            "1 loads of files that lie in a cache under the sha256 of other content"]
    finally:
        resolver.close()


def test_a_second_load_of_a_forged_blob_is_told_as_false_too(resolver: Resolver, tmp_path: Path) -> None:
    blob = forged_blob(tmp_path)
    time.sleep(0.15)  # until its stamp stands for its content
    for instance in (1, 2):
        assert identify(resolver, artifact(blob, instance)).digest == sha256sum(blob)
    assert resolver.false_names == 2


def test_a_true_blob_is_no_problem(resolver: Resolver, tmp_path: Path) -> None:
    forged = forged_blob(tmp_path)
    blob = forged.rename(forged.with_name(sha256sum(forged)))
    assert identify(resolver, artifact(blob)).digest == blob.name
    assert resolver.problems() == []


def test_a_second_load_reads_the_file_again(resolver: Resolver, tmp_path: Path) -> None:
    made = write_gguf(tmp_path / "m.gguf")
    time.sleep(0.15)  # until its stamp stands for its content
    first = identify(resolver, artifact(made, 1))
    ((_, known),) = resolver._known._contents.items()
    known.digest = "7" * 64  # which reading the file would not give
    second = identify(resolver, artifact(made, 2))
    assert second == dataclasses.replace(first, digest="7" * 64)


def test_a_changed_file_keeps_the_digest_of_its_old_content(resolver: Resolver, tmp_path: Path) -> None:
    made = tmp_path / "m.joblib"
    made.write_bytes(b"\x80\x04one.")
    first = identify(resolver, artifact(made))
    old = made.stat()
    made.write_bytes(b"\x80\x04two.")
    os.utime(made, ns=(old.st_atime_ns, old.st_mtime_ns))
    second = identify(resolver, artifact(made, 2))
    assert first.digest != second.digest == sha256sum(made)


def test_a_swapped_file_is_hashed_as_the_model(resolver: Resolver, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made = tmp_path / "m.joblib"
    made.write_bytes(b"\x80\x04one.")
    told = artifact(made)
    (tmp_path / "evil").write_bytes(b"evil")
    os.replace(tmp_path / "evil", made)
    found = identify(resolver, told)
    assert (found.id, found.digest, found.format) == ("m", "", "joblib")
    assert "is another file by now" in caplog.text


def test_a_missing_file_has_no_identity(resolver: Resolver, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made = tmp_path / "gone.gguf"
    made.write_bytes(b"GGUF")
    told = artifact(made)
    made.unlink()
    found = identify(resolver, told)
    assert (found.id, found.digest, found.format, found.source) == ("gone", "", "gguf", "file")
    assert "artifact identified in part" in caplog.text


def test_a_file_unlinked_while_open_has_no_digest(resolver: Resolver, tmp_path: Path) -> None:
    made = write_gguf(tmp_path / "m.gguf")
    told, digest = artifact(made), sha256sum(made)
    with made.open("rb"):
        made.unlink()
        assert identify(resolver, told).digest == digest


def test_a_file_replaced_while_mapped_has_no_digest(resolver: Resolver, tmp_path: Path) -> None:
    made = write_gguf(tmp_path / "m.gguf")
    told, digest = artifact(made), sha256sum(made)
    with made.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    # Python's mmap keeps a descriptor of its own; what is left then is the mapping alone.
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/self/fd/{name}") == str(made):
                os.close(int(name))
    write_gguf(tmp_path / "n.gguf", name="other").rename(made)
    assert identify(resolver, told).digest == digest
    with contextlib.suppress(OSError):
        mapped.close()


def test_a_corrupt_file_has_no_digest(resolver: Resolver, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made = tmp_path / "m.gguf"
    made.write_bytes(b"GGUF\x03\0\0\0" + b"\xff" * 64)
    found = identify(resolver, artifact(made))
    assert (found.id, found.format, found.digest) == ("m", "gguf", sha256sum(made))
    assert "artifact identified in part" in caplog.text


def test_a_fifo_stops_the_identification_of_all_later_files(resolver: Resolver, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "m.gguf")
    resolver.submit(artifact(tmp_path / "m.gguf"))
    resolver.submit(artifact(write_gguf(tmp_path / "n.gguf"), 2))
    found = {of.instance: identity for of, identity in wait(resolver, 2)}
    assert found[1].digest == ""
    assert found[2].digest == sha256sum(tmp_path / "n.gguf")


def test_a_silent_worker_stops_the_identification_of_all_later_files(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    slow = tmp_path / "slow.bin"
    slow.write_bytes(bytes(20 << 20))
    # A budget so small that the worker sleeps for longer than it may be silent.
    resolver = Resolver(silence_s=8, bytes_per_s=1 << 18)
    try:
        found = identify(resolver, artifact(slow))
        assert found.digest == ""
        assert "nothing came for 8 s" in caplog.text
        assert identify(resolver, artifact(write_gguf(tmp_path / "n.gguf"), 2)).digest
    finally:
        resolver.close()


def test_a_file_that_is_read_too_slowly_to_be_named_at_once_gets_its_digest_later(tmp_path: Path) -> None:
    slow = tmp_path / "slow.bin"
    slow.write_bytes(bytes(60 << 20))
    # It says how far it is every second.
    resolver = Resolver(deadline_s=10, bytes_per_s=4 << 20)
    try:
        assert identify(resolver, artifact(slow)).digest == ""
        ((_, identity),) = wait(resolver)
        assert identity.digest == sha256sum(slow)
    finally:
        resolver.close()


def test_a_model_of_a_process_that_is_gone_is_not_found(resolver: Resolver, tmp_path: Path) -> None:
    made = write_gguf(tmp_path / "m.gguf")
    told = dataclasses.replace(artifact(made), pid=2**22 - 1, start_ns=1)
    assert identify(resolver, told).digest == sha256sum(made)


def test_a_disk_that_hangs_holds_up_the_sender_or_a_name(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    resolver = Resolver(known=tmp_path / "state/known")
    os.mkfifo(tmp_path / "state/known")  # opening it waits for a reader
    made = write_gguf(tmp_path / "m.gguf")
    time.sleep(0.15)  # until its stamp stands for its content
    found: list[tuple[Artifact, Identity]] = []

    def ask() -> None:
        resolver.submit(artifact(made))
        found.extend(wait(resolver))
        while not resolver._known._writing.locked():
            time.sleep(0.01)
        resolver.submit(artifact(made, 2))
        resolver.results()

    sender = threading.Thread(target=ask, daemon=True)
    sender.start()
    sender.join(60)
    held_up = sender.is_alive()
    reader = os.open(tmp_path / "state/known", os.O_RDONLY | os.O_NONBLOCK)
    resolver.close()
    os.close(reader)
    assert not held_up
    assert [identity.digest for _, identity in found] == [sha256sum(made)]


def test_a_path_with_hostile_bytes_is_not_inert(resolver: Resolver, tmp_path: Path) -> None:
    made = Path(os.fsdecode(os.fsencode(tmp_path) + b"/m\n<b>\x1b[31m\xff'\".gguf"))
    shutil.copy(write_gguf(tmp_path / "m.gguf", name="evil\x1b[2J\u202ename"), made)
    found = identify(resolver, artifact(made))
    assert found.path.endswith("/m\\x0a<b>\\x1b[31m\\xff'\".gguf")
    assert found.id == "evil\\x1b[2J\\xe2\\x80\\xaename"
    assert found.digest == sha256sum(made)


def test_closing_waits_for_a_long_hash(tmp_path: Path) -> None:
    large = tmp_path / "large.bin"
    large.write_bytes(bytes(8 << 20))
    resolver = Resolver(bytes_per_s=1 << 16)
    resolver.submit(artifact(large))
    while resolver._worker is None:
        time.sleep(0.01)
    resolver.close()
    assert not any(thread.name == "identity" and thread.is_alive() for thread in threading.enumerate())


def test_a_full_queue_blocks_the_sender(tmp_path: Path) -> None:
    large = tmp_path / "large.bin"
    large.write_bytes(bytes(8 << 20))
    resolver = Resolver(bytes_per_s=1 << 16)
    try:
        for instance in range(1200):
            resolver.submit(artifact(large, instance))
        # One may have been taken out of the line meanwhile.
        assert resolver.refused + len(resolver._waiting) in (1199, 1200)
        assert len(resolver._waiting) == 256
        assert all(identity.id == "large" for _, identity in resolver.results())
    finally:
        resolver.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has privileges to give up")
def test_the_worker_keeps_its_privileges_while_it_reads(tmp_path: Path) -> None:
    made = tmp_path / "m.bin"
    made.write_bytes(bytes(8 << 20))
    made.chmod(0o600)
    resolver = Resolver(bytes_per_s=1 << 20)
    try:
        resolver.submit(artifact(made))
        status = ""
        until = time.monotonic() + 120
        while not ("\nUid:\t65534" in status and "\nNoNewPrivs:\t1" in status) and time.monotonic() < until:
            if resolver._worker is not None:
                status = Path(f"/proc/{resolver._worker.pid}/status").read_text()
            time.sleep(0.02)
        lines = dict(line.split(":\t", 1) for line in status.splitlines())
        assert set(lines["Uid"].split()) == set(lines["Gid"].split()) == {"65534"}
        assert lines["Groups"].strip() == ""
        assert [int(lines[f"Cap{name}"], 16) for name in ("Inh", "Prm", "Eff", "Bnd", "Amb")] == [0] * 5
        assert lines["NoNewPrivs"] == "1"
        assert resolver._worker is not None
        own = Path(f"/proc/{resolver._worker.pid}")
        held = {os.readlink(entry) for entry in (own / "fd").iterdir() if int(entry.name) > 2}
        assert held == {str(made)}
        limits = (own / "limits").read_text()
        assert re.search(r"Max file size +0 ", limits)
        assert re.search(r"Max processes +0 ", limits)
    finally:
        resolver.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has privileges to give up")
def test_a_worker_that_keeps_its_privileges_reads_the_file(tmp_path: Path) -> None:
    made = tmp_path / "m.gguf"
    made.write_bytes(b"GGUF")
    about = made.stat()
    device = os.major(about.st_dev) << 20 | os.minor(about.st_dev)
    job = {
        "pid": 0, "start_ns": 0, "proc": "/proc", "bytes_per_s": 1 << 20, "neighbours": True, "also": [],
        "artifacts": [{"path": os.fsencode(made).hex(), "asked": "", "device": device, "inode": about.st_ino}],
    }  # fmt: skip
    code = (
        "import os\n"
        "def refuse(*_):\n    raise PermissionError(1, 'Operation not permitted')\n"
        "os.setresuid = refuse\n"
        "from modelward_agent.identity import worker\n"
        "worker.main()\n"
    )
    command = [sys.executable, "-c", code]
    said = json.dumps(job) + '\n{"open": [0]}\n{"hash": [0]}\n'
    done = subprocess.run(command, input=said.encode(), capture_output=True, timeout=120, check=True)
    *found, answer = map(json.loads, done.stdout.splitlines())
    assert [set(each) for each in found] == [{"file"}, {"found"}]
    assert set(answer) == {"failed"}
    assert "privileges" in answer["failed"]


def test_a_digest_differs_from_sha256sum(tmp_path: Path) -> None:
    for size in (0, 1, (4 << 20) - 1, 4 << 20, (4 << 20) + 1):
        made = tmp_path / "m"
        made.write_bytes(os.urandom(size))
        fd = os.open(made, os.O_RDONLY)
        assert hashing.sha256(fd, bytes_per_s=1 << 40) == hashlib.sha256(made.read_bytes()).hexdigest()
        os.close(fd)


def test_a_file_written_while_it_is_read_gets_a_digest(tmp_path: Path) -> None:
    made = tmp_path / "m"
    made.write_bytes(bytes(10 << 20))
    fd = os.open(made, os.O_RDONLY)

    def write(read: int) -> None:
        if read == 4 << 20:
            with open(made, "r+b") as file:
                file.write(b"x")

    with pytest.raises(hashing.FileChanged):
        hashing.sha256(fd, bytes_per_s=1 << 40, progress=write)
    os.close(fd)


def test_the_worker_loads_what_it_does_not_need() -> None:
    script = "import sys, modelward_agent.identity.worker; print(*sys.modules)"
    loaded = subprocess.check_output([sys.executable, "-c", script], text=True).split()
    assert not {"numpy", "pyarrow", "grpc"} & set(loaded)


def test_logs_show_raw_bytes_of_a_path(resolver: Resolver, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        made = Path(os.fsdecode(os.fsencode(tmp_path) + b"/m\x1b.gguf"))
        made.write_bytes(b"GGUF")
        identify(resolver, artifact(made))
    assert all("\x1b" not in str(vars(entry)) for entry in caplog.records)
