"""The way of detections to one receiver: in order, one at a time, each until it is taken or cannot be.

At least once: a detection is behind the mark only after the receiver took it. After a crash those since the last saved mark go
out again, under the same delivery id.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Mapping
from typing import Any, Protocol

from modelward_proto.fields import SEVERITIES
from modelward_proto.settings import SettingsError

from modelward_collector import metrics
from modelward_collector.outputs import payload
from modelward_collector.outputs.reading import BEGINNING, PAGE, Detections, Mark, awaits_identity, mark_of
from modelward_collector.outputs.state import State
from modelward_collector.outputs.unsettled import Unsettled
from modelward_collector.outputs.webhook import Answer, Verdict
from modelward_collector.web.store import StoreError

_log = logging.getLogger(__name__)

IDLE_S = 5.0
"""Between two looks without a word from the store: what it settled after a crash is found this way."""

SAVE_S = 1.0
"""Between two saved marks: that much is delivered again after a crash."""

FRESH_S = 5.0
"""A page older than this is read again: an exception may have been made, or a model bound, while the receiver was slow."""

HOLD_S = 15.0
"""How long a detection waits for the identity of its model where an exception may depend on it."""

HOLD_LOOK_S = 0.5
SETTLE_S = 10.0
"""Between two looks whether a model was identified after its detection had been left out."""

STORE_PAUSE_S = 0.5
STORE_PATIENCE_S = 5.0
"""A store away for less than this, such as one being started, is not worth a word."""

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
TRIES = 3
"""Refusals of one detection, after which it is set aside."""


class Receiver(Protocol):
    """Where deliveries go."""

    async def post(self, body: bytes, delivery: str) -> Answer: ...

    def renew_secret(self) -> None: ...


class Delivery:
    """One output."""

    def __init__(self, detections: Detections, receiver: Receiver, state: State, *, min_severity: str, from_start: bool) -> None:
        self._detections = detections
        self._receiver = receiver
        self._state = state
        self._severities = frozenset(SEVERITIES[SEVERITIES.index(min_severity) :])
        self._from_start = from_start
        self._mark = self._saved = BEGINNING
        self._saved_at = 0.0
        self._away_since = 0.0
        self._told_away = False
        self._failures = 0
        self._held_until: dict[str, float] = {}
        """Of the detections of the last page."""
        self._unsettled = Unsettled()
        self._settle_at = 0.0
        self.woken = asyncio.Event()
        """Set it when detections were stored."""

    async def run(self) -> None:
        """Deliver until cancelled; the mark is saved then."""
        await self._begin()
        try:
            while True:
                self.woken.clear()
                try:
                    more = await self._some()
                    await self._settle()
                    self._store_is_back()
                except StoreError as e:
                    await self._pause_for_store(e)
                    continue
                if not more:
                    await self._wait(IDLE_S)
        finally:
            await self._last_save()

    async def _begin(self) -> None:
        started_ns = time.time_ns()
        while True:
            try:
                mark = await self._detections.mark()
                for detection_id in await self._detections.unsettled(mark) if mark else ():
                    self._unsettled.add(detection_id)
                self._mark = self._saved = mark or await self._first_mark(started_ns)
                return
            except StoreError as e:
                await self._pause_for_store(e)

    async def _first_mark(self, started_ns: int) -> Mark:
        mark = BEGINNING if self._from_start else await self._detections.latest(started_ns)
        await self._detections.save(mark)
        what = "all detections that are kept" if self._from_start else "the detections from now on"
        _log.info("an output begins with %s", what, extra={"output": self._state.name, "address": self._state.address})
        return mark

    async def _some(self) -> bool:
        """Deal with one page; whether there may be more at once."""
        read_at = time.monotonic()
        page = await self._detections.after(self._mark)
        excepted = await self._detections.excepted() if any(map(awaits_identity, page)) else set()
        self._held_until = {row["detection_id"]: self._held_until.get(row["detection_id"]) or _hold(row) for row in page}
        for row in page:
            if time.monotonic() - read_at > FRESH_S:
                return True
            if self._is_held(row, excepted):
                await self._save()
                await asyncio.sleep(HOLD_LOOK_S)
                return True
            if not await self._deal(row):
                return True
            self._mark = mark_of(row)
            if time.monotonic() - self._saved_at > SAVE_S:
                await self._save()
        await self._save()
        metrics.OUTPUT_LAG.labels(self._state.name).set(0)
        return len(page) == PAGE

    def _is_wanted(self, row: Mapping[str, Any]) -> bool:
        return row["severity"] in self._severities or payload.is_test(row)

    def _is_held(self, row: Mapping[str, Any], excepted: set[tuple[str, str, str]]) -> bool:
        what = (row["rule_name"], row["process_executable_path"])
        if not self._is_wanted(row) or not awaits_identity(row) or not {(*what, ""), (*what, row["host_name"])} & excepted:
            return False
        return time.monotonic() < self._held_until[row["detection_id"]]

    async def _deal(self, row: Mapping[str, Any]) -> bool:
        """Deliver one detection or leave it out; false when the page must be read again first."""
        if row["silenced_by"]:
            if awaits_identity(row):
                self._unsettled.add(row["detection_id"])
            self._state.was_silenced(row["detection_id"])
            return True
        return not self._is_wanted(row) or await self._deliver(row)

    async def _settle(self) -> None:
        """Deliver what was left out for want of a model, and turned out to be of one that no exception covers."""
        now = time.monotonic()
        if now < self._settle_at or not (ids := self._unsettled.ids()):
            return
        self._settle_at = now + SETTLE_S
        for row in await self._detections.these(ids):
            covered = bool(row["silenced_by"])
            if covered and awaits_identity(row):
                continue
            if covered or not self._is_wanted(row) or await self._deliver(row):
                self._unsettled.settle(row["detection_id"])

    async def _deliver(self, row: Mapping[str, Any]) -> bool:
        refusals = 0
        form = payload.body
        started = time.monotonic()
        while True:
            metrics.OUTPUT_LAG.labels(self._state.name).set(time.time() - int(row["stored_ns"]) / 1e9)
            answer = await self._receiver.post(form(row), row["detection_id"])
            if answer.verdict is Verdict.ACCEPTED:
                self._accepted(row, reduced=form is payload.reduced)
                return True
            self._failed(answer)
            if answer.verdict is not Verdict.LATER and form is payload.body:
                # What refuses it may only dislike the attack that it tells of.
                form = payload.reduced
                continue
            if answer.verdict is Verdict.CONTENT:
                refusals += 1
                if refusals >= TRIES:
                    self._set_aside(row, answer)
                    return True
            elif answer.verdict is Verdict.ENDPOINT:
                form = payload.body
                self._renew_secret()
            await asyncio.sleep(max(_pause(self._failures), answer.wait_s))
            if not refusals and time.monotonic() - started > FRESH_S:
                return False

    def _accepted(self, row: Mapping[str, Any], *, reduced: bool) -> None:
        self._failures = 0
        self._state.was_delivered(row["detection_id"], reduced=reduced)
        if self._state.stands(""):
            _log.info("an output delivers again", extra={"output": self._state.name})

    def _failed(self, answer: Answer) -> None:
        self._failures += 1
        if self._state.fails(f"{self._state.address}: {answer.said}"):
            _log.warning("an output does not take a detection; it is tried again", extra={
                "output": self._state.name, "address": self._state.address, "reason": answer.said})

    def _set_aside(self, row: Mapping[str, Any], answer: Answer) -> None:
        self._failures = 0
        self._state.was_set_aside(row["detection_id"])
        self._state.stands(f"{self._state.address}: detections are refused and set aside; {answer.said}")
        _log.error("an output refuses a detection in every form; it is set aside, and stays in the store", extra={
            "output": self._state.name, "detection": row["detection_id"], "rule": row["rule_name"], "host": row["host_name"],
            "reason": answer.said})

    def _renew_secret(self) -> None:
        try:
            self._receiver.renew_secret()
        except SettingsError as e:
            _log.warning("the secret of an output cannot be read again; the old one stays", extra={
                "output": self._state.name, "error": str(e)})

    async def _save(self) -> None:
        if self._mark != self._saved:
            mark = self._mark
            await self._detections.save(mark)
            self._saved = mark
        self._saved_at = time.monotonic()

    async def _last_save(self) -> None:
        try:
            await self._save()
        except StoreError:
            _log.warning("the mark of an output could not be saved; its last detections will go out again", extra={
                "output": self._state.name})

    async def _pause_for_store(self, error: StoreError) -> None:
        now = time.monotonic()
        self._away_since = self._away_since or now
        if now - self._away_since > STORE_PATIENCE_S and not self._told_away:
            self._told_away = True
            self._state.stands(f"no detections from the store: {error}")
            _log.warning("an output waits for the store", extra={"output": self._state.name, "reason": str(error)})
        await asyncio.sleep(STORE_PAUSE_S * random.uniform(0.5, 1.0))

    def _store_is_back(self) -> None:
        if self._told_away:
            self._state.stands("")
            _log.info("an output reads from the store again", extra={"output": self._state.name})
        self._away_since, self._told_away = 0.0, False

    async def _wait(self, most_s: float) -> None:
        try:
            await asyncio.wait_for(self.woken.wait(), most_s)
        except TimeoutError:
            return


def _hold(row: Mapping[str, Any]) -> float:
    """Until when a detection may wait. The wall clock is asked only when it is first read: it may be set meanwhile, and those
    stored before it was set back wait all at once, not one after another."""
    return time.monotonic() + HOLD_S - max(0.0, (time.time_ns() - int(row["stored_ns"])) / 1e9)


def _pause(failures: int) -> float:
    longest = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(failures - 1, 10))
    return longest * random.uniform(0.5, 1.0)
