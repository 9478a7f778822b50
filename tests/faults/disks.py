"""Small disks of a test's own: to be filled, or to open many files quickly."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def small_disk(folder: Path, size_mib: int) -> Iterator[Path]:
    """A file system of that size (tmpfs: its ENOSPC is the kernel's own), mounted while the context lasts."""
    folder.mkdir(mode=0o700, parents=True)
    options = f"size={size_mib}m,mode=0700,nr_inodes=0"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "modelward-faults", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
        folder.rmdir()


def fill(folder: Path) -> Path:
    """Take all the room that a disk has left. Remove the file to give it back."""
    ballast = folder / "ballast"
    # Not by fallocate: others write at the same time, and it is all or nothing.
    with ballast.open("wb", buffering=0) as file:
        for size in (1 << 20, 4096):
            with contextlib.suppress(OSError):
                while file.write(bytes(size)) == size:
                    pass
    return ballast
