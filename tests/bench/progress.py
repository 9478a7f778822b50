"""What a person sees while it runs."""

from __future__ import annotations

import time

_BEGUN = time.monotonic()


def say(text: str) -> None:
    """One line, with the time since the start."""
    minutes, seconds = divmod(int(time.monotonic() - _BEGUN), 60)
    print(f"{minutes:3}:{seconds:02}  {text}", flush=True)
