"""Emitted = received, by the provoking program's own count."""

from __future__ import annotations

from pathlib import Path

import pytest

from .conftest import Host

pytestmark = pytest.mark.kernel

_OPENS = 200_000

_ONE_PATH = f"""
import os, sys
artifact, path = sys.argv[1:]
os.close(os.open(artifact, os.O_RDONLY))
fd = os.open(path, os.O_WRONLY | os.O_CREAT)
os.close(fd)
for _ in range({_OPENS}):
    os.close(os.open(path, os.O_RDONLY))
"""

_DISTINCT_PATHS = f"""
import os, sys
artifact, folder = sys.argv[1:]
os.close(os.open(artifact, os.O_RDONLY))
os.mkdir(folder)
root = os.open(folder, os.O_RDONLY)
name = "a"
os.close(os.open(name, os.O_WRONLY | os.O_CREAT, dir_fd=root))
for number in range({_OPENS}):
    new = f"f{{number}}"
    os.rename(name, new, src_dir_fd=root, dst_dir_fd=root)
    os.close(os.open(new, os.O_RDONLY, dir_fd=root))
    name = new
"""


def _opens(host: Host, root: int, folder: bytes, access: int) -> list[tuple[bytes, int]]:
    """(path, count) of opens below a folder, from the raw records: an object for each would take seconds."""
    found = []
    for part in host.records(root):
        chosen = part[(part["kind"] == 16) & (part["access"] == access)]
        texts, lengths, counts = chosen["text"], chosen["seg"][:, 0], chosen["count"]
        for text, length, count in zip(texts.tolist(), lengths.tolist(), counts.tolist(), strict=True):
            path = bytes(text)[:length]
            if path.startswith(folder):
                found.append((path, count))
    return found


def test_opens_of_one_path_are_all_counted_and_few_are_sent(host: Host, artifact: Path, tmp_path: Path) -> None:
    path = tmp_path / "same"
    process = host.start(_ONE_PATH, str(artifact), str(path))
    assert host.finish(process) == 0
    found = _opens(host, process.pid, bytes(path), access=1)
    assert sum(count for _, count in found) == _OPENS
    assert len(found) < 100


def test_opens_of_distinct_paths_are_all_sent(host: Host, artifact: Path, tmp_path: Path) -> None:
    folder = tmp_path / "many"
    process = host.start(_DISTINCT_PATHS, str(artifact), str(folder))
    assert host.finish(process) == 0
    found = _opens(host, process.pid, bytes(folder) + b"/", access=1)
    assert sum(count for _, count in found) == _OPENS
    assert len({path for path, _ in found}) == _OPENS
