"""Virtual environments of the servers, made when they are first needed and kept in a cache outside the repository."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from deploy.demo.processes import DemoError


class NoEnvironment(DemoError):
    """An installation failed: what it was, and the installer's last words."""


def cache() -> Path:
    """MODELWARD_PHASES_CACHE, or a folder in the user's cache."""
    given = os.environ.get("MODELWARD_PHASES_CACHE")
    return Path(given) if given else Path.home() / ".cache" / "modelward" / "phases"


def python_of(requires: tuple[str, ...]) -> Path:
    """The interpreter of an environment with these requirements; this one for none. Says so while it installs.

    Raises:
        NoEnvironment: pip failed. Nothing half-made is left to be taken for whole.
    """
    if not requires:
        return Path(sys.executable)
    text = "\n".join(sorted(requires)) + f"\n{sys.version_info[:2]}"
    first = "".join(c for c in requires[0] if c.isalnum() or c in "-_")[:24]
    folder = cache() / f"{first}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    python = folder / "bin" / "python"
    if (folder / "whole").exists():
        return python
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    print(f"  installing {', '.join(requires)} (once, into {folder.parent})", flush=True)
    log = folder.with_suffix(".log")
    with log.open("wb") as output:
        for command in ([sys.executable, "-m", "venv", str(folder)],
                        [str(python), "-m", "pip", "install", "--disable-pip-version-check", "--progress-bar", "off", *requires]):
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
            _watch(process, log, begun)
            if process.returncode:
                words = "\n".join("    " + line for line in log.read_text("utf-8", "replace").splitlines()[-6:])
                shutil.rmtree(folder, ignore_errors=True)
                raise NoEnvironment(f"{', '.join(requires)} could not be installed (status {process.returncode}; "
                                    f"all of it in {log}):\n{words}")
    (folder / "whole").write_text(text)
    print(f"  installed in {time.monotonic() - begun:.0f} s", flush=True)
    return python


def _watch(process: subprocess.Popen[bytes], log: Path, begun: float) -> None:
    """Wait for an installer, and say every ten seconds how far it is."""
    while True:
        try:
            process.wait(10)
            return
        except subprocess.TimeoutExpired:
            lines = log.read_text("utf-8", "replace").splitlines()
            print(f"    {time.monotonic() - begun:.0f} s: {lines[-1][:100] if lines else '...'}", flush=True)
