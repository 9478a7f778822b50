"""Which rules are in force and which rule files are broken, for the page: a look at the folders every few
seconds.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from modelward_collector.rules.reload import RuleFolder
from modelward_collector.rules.rule import Rule

log = logging.getLogger(__name__)

LOOK_S = 3.0


class RulesStatus:
    """Reads rule folders on a thread of its own; the receivers read the same files and judge by them."""

    def __init__(self, directories: Sequence[Path]) -> None:
        self._directories = directories
        self._folder: RuleFolder | None = None
        self._rules: list[dict[str, Any]] = []
        self._problems: list[dict[str, Any]] = []
        self._by_id: dict[str, Rule] = {}

    def now(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Rules and problems as last seen, as JSON objects."""
        return self._rules, self._problems

    def rule(self, rule_id: str) -> Rule | None:
        """The rule in force with this id."""
        return self._by_id.get(rule_id)

    async def run(self) -> None:
        """Look again and again until cancelled."""
        while True:
            try:
                await asyncio.to_thread(self._look)
            except Exception:
                log.exception("rule folders could not be read")
            await asyncio.sleep(LOOK_S)

    def _look(self) -> None:
        if self._folder is None:
            self._folder = RuleFolder(self._directories)
        elif not self._folder.refresh():
            return
        self._rules = [
            {
                "name": rule.name,
                "title": rule.title,
                "severity": rule.severity,
                "version": rule.version,
                "attack": list(rule.attack),
                "reason": rule.reason,
                "next_step": rule.next_step,
                "file": rule.file,
            }
            for rule in self._folder.rules
        ]
        self._by_id = {rule.id: rule for rule in self._folder.rules}
        self._problems = [asdict(problem) for problem in self._folder.problems]
