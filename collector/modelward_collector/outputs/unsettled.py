"""Detections that an exception covers only while nobody knows their model: told after all if it is another one."""

from __future__ import annotations

import time

MOST = 1000
"""Beyond it the oldest is let go: it stays in the store, and the console shows it once its model is known."""

KEPT_S = 86_400.0
"""A model that is not identified within a day will not be."""


class Unsettled:
    """Their ids, bounded in number and age."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}

    def add(self, detection_id: str) -> None:
        self._since.setdefault(detection_id, time.monotonic())
        while len(self._since) > MOST:
            del self._since[next(iter(self._since))]

    def settle(self, detection_id: str) -> None:
        """It is told, or covered for good."""
        self._since.pop(detection_id, None)

    def ids(self) -> list[str]:
        """All that are not settled yet."""
        oldest = time.monotonic() - KEPT_S
        self._since = {id: since for id, since in self._since.items() if since >= oldest}
        return list(self._since)
