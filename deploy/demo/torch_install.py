"""torch is gigabytes on most machines, so the demo installs it only when asked for."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

from deploy.demo.processes import DemoError
from deploy.demo.screen import Screen

_TORCH = "torch==2.13.0"


def ensure_torch(screen: Screen) -> None:
    """Install torch into this interpreter's environment unless it is there.

    Raises:
        DemoError: pip could not install it.
    """
    if importlib.util.find_spec("torch") is not None:
        return
    screen.say("install", f"{_TORCH} into {sys.prefix}: this can be a download of gigabytes, once.")
    with screen.step("install", _TORCH):
        done = subprocess.run(
            [sys.executable, "-m", "pip", "install", "--quiet", _TORCH],
            stdin=subprocess.DEVNULL,
            text=True,
            capture_output=True,
        )
        if done.returncode != 0:
            raise DemoError(f"pip could not install {_TORCH}:\n{done.stderr[-2000:]}")
