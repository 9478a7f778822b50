"""What to call the model file of an instance in a sentence, learnt from the events as they pass.

A receiver forgets with its end: then a sentence says "a model", and the detection still names the instance.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from functools import reduce
from operator import or_

import polars as pl
from modelward_proto.fields import BY_NAME

from modelward_collector.rules.evaluate import prepare

MAX_ARTIFACTS = 65536

NAMELESS = "a model"

_HUB = re.compile(r"/models--([^/]+?)--([^/]+)/")
_COMMON = re.compile(r"(?:pytorch_)?model(?:-\d+-of-\d+)?\.[A-Za-z0-9]+\Z|saved_model\.pb\Z|model\.py\Z|weights\.[a-z0-9]+\Z")
_INSTANCES = (BY_NAME["model.instance"], BY_NAME["lifecycle.origin.instance"])
_KEYS = tuple(BY_NAME[name] for name in ("event.name", "model.instance", "file.class"))
_PATHS = tuple(BY_NAME[name] for name in ("model.instance", "file.path", "file.path_asked", "model.path"))


def short_name(path: str) -> str:
    """What a person calls the model: ``org/name`` of a hub's cache, else the file's name, with its folder if many bear it."""
    if hub := _HUB.search(path):
        return f"{hub[1]}/{hub[2]}"
    folder, _, base = path.rstrip("/").rpartition("/")
    if _COMMON.match(base) and folder.strip("/"):
        return f"{folder.rpartition('/')[2]}/{base}"
    return base or path


class Artifacts:
    """Names by (agent, instance). Bounded: the longest unused go first."""

    def __init__(self) -> None:
        self._names: OrderedDict[tuple[str, int], str] = OrderedDict()

    def __len__(self) -> int:
        return len(self._names)

    def remember(self, agent_id: str, instance: int, path: str) -> None:
        """Name an instance by its file; a later word takes the place of an earlier one."""
        key = (agent_id, instance)
        self._names[key] = short_name(path)
        self._names.move_to_end(key)
        if len(self._names) > MAX_ARTIFACTS:
            self._names.popitem(last=False)

    def learn(self, events: pl.DataFrame, agent_id: str) -> None:
        """Take names from rows that tell of an instance.

        A lifecycle row whose path was too long for its record has none; then the open of the file says it.
        """
        keys = prepare(events, _KEYS)
        known = pl.col("model_instance") != 0
        telling = reduce(or_, [pl.col("event_name") == name for name in ("lifecycle", "model_identity")])
        opening = (pl.col("event_name") == "file_open") & (pl.col("file_class") == "artifact")
        for condition, only_new in ((telling, False), (opening, True)):
            rows = events[keys.select((condition & known).arg_true()).to_series()]
            if not rows.height:
                continue
            for instance, *paths in prepare(rows, _PATHS).unique(maintain_order=True).iter_rows():
                path = next((path for path in _by_worth(*paths) if path), "")
                if path and not (only_new and (agent_id, instance) in self._names):
                    self.remember(agent_id, instance, path)

    def of(self, rows: pl.DataFrame, agent_id: str) -> pl.Series:
        """For each row the name of the model that it goes back to: of its origin if it has one, else of its instance."""
        pairs = prepare(rows, _INSTANCES).iter_rows()
        return pl.Series([self._names.get((agent_id, origin or own), NAMELESS) for own, origin in pairs], dtype=pl.String)


def _by_worth(path: str, asked: str, model: str) -> tuple[str, ...]:
    """The name asked for says more than what a hub's link leads to, which is a hash."""
    return (asked, path, model) if asked.startswith("/") else (path, model, asked)
