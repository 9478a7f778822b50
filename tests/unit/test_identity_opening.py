"""Artifacts are opened as the kernel saw them, or not at all."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from modelward_agent.enrich.proc_files import ProcFiles
from modelward_agent.identity.opening import (
    ArtifactChanged,
    ArtifactGone,
    Place,
    find_artifact,
    places,
    readable,
)

OWN = ProcFiles(Path("/proc")).key(os.getpid())


@pytest.fixture
def place() -> Iterator[Place]:
    found = places(*OWN)
    assert len(found) == 2, "the root of a living process and the agent's own"
    yield found[0]
    for one in found:
        one.close()


def numbers(path: Path) -> tuple[int, int]:
    about = path.stat()
    return os.major(about.st_dev) << 20 | os.minor(about.st_dev), about.st_ino


def content(place: Place, path: Path, device: int, inode: int) -> bytes:
    reference = find_artifact(place, os.fsencode(path), device, inode)
    fd = readable(reference)
    try:
        return os.read(fd, 100)
    finally:
        os.close(fd)
        os.close(reference)


def test_an_artifact_cannot_be_read(place: Place, tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(b"model")
    assert content(place, tmp_path / "m", *numbers(tmp_path / "m")) == b"model"


def test_a_link_within_the_root_is_not_followed(place: Place, tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(b"model")
    (tmp_path / "link").symlink_to("m")
    assert content(place, tmp_path / "link", *numbers(tmp_path / "m")) == b"model"


def test_a_swapped_file_is_read(place: Place, tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(b"model")
    told = numbers(tmp_path / "m")
    (tmp_path / "other").write_bytes(b"other")
    os.replace(tmp_path / "other", tmp_path / "m")
    with pytest.raises(ArtifactChanged):
        content(place, tmp_path / "m", *told)


def test_another_device_is_read(place: Place, tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(b"model")
    device, inode = numbers(tmp_path / "m")
    with pytest.raises(ArtifactChanged):
        find_artifact(Place(place.root), os.fsencode(tmp_path / "m"), device + 1, inode)


def test_a_fifo_hangs_the_reader(place: Place, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "m")
    with pytest.raises(ArtifactChanged, match="regular"):
        content(place, tmp_path / "m", *numbers(tmp_path / "m"))
    assert not place.has(os.fsencode(tmp_path / "m"))
    assert place.read(os.fsencode(tmp_path / "m"), 10) == b""


def test_a_device_or_a_socket_or_a_folder_is_opened(place: Place, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.fspath(tmp_path / "s"))
        for path in (Path("/dev/null"), tmp_path / "s", tmp_path):
            with pytest.raises(ArtifactChanged):
                content(place, path, *numbers(path))


def test_a_magic_link_leads_to_a_descriptor_of_the_agent(place: Place, tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(b"model")
    fd = os.open(tmp_path / "m", os.O_RDONLY)
    try:
        (tmp_path / "link").symlink_to(f"/proc/{os.getpid()}/fd/{fd}")
        with pytest.raises(ArtifactGone):
            content(place, tmp_path / "link", *numbers(tmp_path / "m"))
    finally:
        os.close(fd)


def test_a_link_out_of_a_container_reaches_the_host(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"host")
    inside = tmp_path / "container"
    inside.mkdir()
    (inside / "up").symlink_to("../secret")
    (inside / "absolute").symlink_to(tmp_path / "secret")
    root = Place(os.open(inside, os.O_PATH | os.O_DIRECTORY))
    try:
        for path in (b"/up", b"/absolute", b"/../secret"):
            with pytest.raises(ArtifactGone):
                find_artifact(root, path, *numbers(tmp_path / "secret"))
    finally:
        root.close()


@pytest.mark.parametrize("path", [b"/nothing/there", b"/etc/passwd/x", b"", b"/a\0b", b"/" + b"x" * 5000])
def test_a_path_to_nothing_raises_something_else(place: Place, path: bytes) -> None:
    with pytest.raises((ArtifactGone, ArtifactChanged)):
        find_artifact(place, path, 1, 1)


def test_the_root_of_a_process_with_a_reused_pid_is_used() -> None:
    found = places(OWN[0], OWN[1] + 50_000_000)
    try:
        assert len(found) == 1, "the agent's own root alone"
    finally:
        for one in found:
            one.close()
