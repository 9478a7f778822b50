"""Loads a model as its framework would and stays: ``loads.py KIND PATH``. Says ``loaded`` once it has."""

from __future__ import annotations

import json
import mmap
import sys
import time
from collections.abc import Callable
from pathlib import Path


def read(path: Path) -> None:
    """The whole file, by read(2)."""
    with path.open("rb") as file:
        while file.read(1 << 16):
            pass


def sharded(folder: Path) -> None:
    """As transformers does: the configuration, the index, then each shard, mapped."""
    read(folder / "config.json")
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    for name in sorted(set(index["weight_map"].values())):
        with (folder / name).open("rb") as file:
            KEPT.append(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ))


def mapped(path: Path) -> None:
    """As safetensors' safe_open does: not one byte of it is read by a call."""
    with path.open("rb") as file:
        KEPT.append(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ))


def after_another(path: Path, load: Callable[[Path], None]) -> None:
    """A server that has loaded a model under its own name, and later another, under none."""
    read(path.parents[1] / "first.gguf")
    time.sleep(1)
    load(path)


def joblib(path: Path) -> None:
    import joblib as library

    KEPT.append(library.load(path))


KEPT: list[object] = []

if __name__ == "__main__":
    {
        "file": read, "sharded": sharded, "joblib": joblib,
        "second-mapped": lambda path: after_another(path, mapped),
        "second-read": lambda path: after_another(path, read),
    }[sys.argv[1]](Path(sys.argv[2]))
    print("loaded", flush=True)
    sys.stdin.read()
