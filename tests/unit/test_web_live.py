"""New rows for open pages: each once, none for ever, though rows of several receivers come late and out of order."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from modelward_collector.web.live import OVERLAP_NS, QUEUE, New, Reader
from modelward_collector.web.queries import PAGE
from modelward_collector.web.store import Rows, Store


class Table(Store):
    """A fake of the store process: one growing table."""

    def __init__(self) -> None:
        super().__init__("unix:/nowhere")
        self.rows: list[tuple[int, str]] = []

    async def select(self, sql: str, parameters: Any = None, *, max_rows: int = 0, seconds: float = 20) -> Rows:
        after = int(parameters["after"])
        found = sorted(row for row in self.rows if row[0] > after)[:PAGE]
        return Rows(["at", "name"], [{"at": stamp(ns), "name": name} for ns, name in found])


def stamp(ns: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(ns // 10**9)) + f".{ns % 10**9:09d}Z"


def names(rows: list[dict[str, Any]]) -> list[str]:
    return [row["name"] for row in rows]


def test_what_is_there_already_is_not_new_and_what_comes_is_told_once() -> None:
    async def run() -> None:
        table, new = Table(), New("", "at", ("name",))
        now = time.time_ns()
        table.rows.append((now, "old"))
        assert await new.rows(table) == []
        table.rows.append((now + 1000, "a"))
        assert names(await new.rows(table)) == ["a"]
        assert names(await new.rows(table)) == []

    asyncio.run(run())


def test_a_row_that_comes_later_than_its_time_is_told() -> None:
    async def run() -> None:
        table, new = Table(), New("", "at", ("name",))
        now = time.time_ns()
        await new.rows(table)
        table.rows.append((now, "second"))
        assert names(await new.rows(table)) == ["second"]
        table.rows.append((now - OVERLAP_NS // 2, "first"))
        assert names(await new.rows(table)) == ["first"]

    asyncio.run(run())


def test_a_flood_within_the_overlap_does_not_stop_the_stream() -> None:
    async def run() -> None:
        table, new = Table(), New("", "at", ("name",))
        now = time.time_ns()
        await new.rows(table)
        table.rows += [(now + i * 1_000_000, f"row {i}") for i in range(5 * PAGE)]
        told: list[str] = []
        for _ in range(8):
            told += names(await new.rows(table))
        assert told == [f"row {i}" for i in range(5 * PAGE)]

    asyncio.run(run())


def test_a_slow_reader_is_told_how_many_rows_it_missed() -> None:
    async def run() -> None:
        reader = Reader(events=False)
        for i in range(QUEUE + 7):
            reader.put("detection", i)
        assert reader.missed == 7
        assert reader.queue.qsize() == QUEUE

    asyncio.run(run())
