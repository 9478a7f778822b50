"""What every process that the supervisor starts does first, and how it tells the supervisor that it is ready."""

from __future__ import annotations

import argparse
import os
from typing import TypeVar

from modelward_proto import logs
from modelward_proto.settings import load

from modelward_collector.settings import PREFIX

T = TypeVar("T")

READY_VARIABLE = "MODELWARD_READY_FD"
"""Number of an open descriptor: one line written to it says that the process serves."""

INDEX_VARIABLE = "MODELWARD_RECEIVER_INDEX"

GIVE_UP = 78
"""Exit status (EX_CONFIG) of a process that would fail again however often it is started."""


def start(cls: type[T]) -> T:
    """Read the settings that the supervisor passed on, and send logs where its own go."""
    settings = load(cls, PREFIX, argparse.Namespace())
    logs.configure(getattr(settings, "log_level", "info"), getattr(settings, "log_format", "auto"))
    return settings


def ready(detail: str) -> None:
    """Tell the supervisor, once, that this process serves, and where."""
    number = os.environ.pop(READY_VARIABLE, None)
    if number is not None:
        with os.fdopen(int(number), "w", encoding="utf-8") as pipe:
            pipe.write(detail + "\n")
