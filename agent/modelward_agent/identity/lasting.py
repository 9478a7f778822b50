"""Threads that outlive whatever one of their tasks does: one that ended would end that work for every workload, unsaid."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

log = logging.getLogger(__name__)

_PAUSE_S = 1.0
"""After what nobody foresaw: it may come again at once."""


def repeat(step: Callable[[], bool], closing: threading.Event) -> None:
    """Do this again and again, until it says that there is no more, or ``closing`` is set. What it raises is logged."""
    while not closing.is_set():
        try:
            if not step():
                return
        except Exception:
            log.exception("%s goes on after what nobody foresaw", threading.current_thread().name)
            closing.wait(_PAUSE_S)
