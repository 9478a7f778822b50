"""Tells Modelward's agent which phase this process is in. For model servers that want their events to name it exactly.

One file without dependencies for Python 3.8 and later: copy it, or install the wheel that carries it. Where no agent listens,
nothing happens; no call raises, and none waits for longer than a few milliseconds. See docs/hints.md.

    import modelward_hint

    with modelward_hint.load("resnet50"):
        model = load_it()
    modelward_hint.serving()

What is said can only make the agent stricter with this process. A declaration that would make it laxer is refused, and shown.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from contextlib import contextmanager
from typing import Iterator

__all__ = ["load", "serving", "stopping", "warmup"]

SOCKET = "/run/modelward/hint.sock"
"""Where the agent listens; the variable MODELWARD_HINT_SOCKET says otherwise."""

_TRIES = 3
_PAUSE_S = 0.002


@contextmanager
def load(model: str = "", digest: str = "") -> Iterator[None]:
    """This thread loads a model within.

    Args:
        model: its name, as people know it.
        digest: sha256 of its file, if that is known; 64 hex digits.
    """
    _declare("load", model, digest)
    try:
        yield
    finally:
        _declare("warmup", model, digest)


def warmup(model: str = "") -> None:
    """Models are loaded; the first inferences run."""
    _declare("warmup", model)


def serving(model: str = "") -> None:
    """This process answers requests from now on."""
    _declare("serve", model)


def stopping() -> None:
    """This process is about to end."""
    _declare("stop")


def _declare(phase: str, model: str = "", digest: str = "") -> bool:
    """Whether the agent's socket took it."""
    try:
        lines = ["PHASE=" + phase, f"THREAD={threading.get_native_id()}"]
        if model:
            lines.append("MODEL=" + " ".join(str(model)[:256].split("\n")))
        if digest:
            lines.append("DIGEST=" + " ".join(str(digest)[:128].split("\n")))
        message = "\n".join(lines).encode("utf-8", "backslashreplace")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
            end.setblocking(False)
            for _ in range(_TRIES):
                try:
                    end.sendto(message, os.environ.get("MODELWARD_HINT_SOCKET") or SOCKET)
                    return True
                except BlockingIOError:
                    time.sleep(_PAUSE_S)
    except Exception:
        # A server must not fail for the sake of those who watch it.
        return False
    return False
