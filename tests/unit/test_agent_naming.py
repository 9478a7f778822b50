"""What became known reaches the drainer, or stays on disk for the next sender."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from modelward_agent import naming as module
from modelward_agent.control import Channel, ChannelClosed
from modelward_agent.identity import resolver as resolvers
from modelward_agent.identity.artifact import Artifact
from modelward_agent.identity.recogniser import Opened
from modelward_agent.identity.resolver import Resolver
from modelward_agent.identity.turns import Lately
from modelward_agent.identity.unfinished import Unfinished
from modelward_agent.naming import Naming


def loaded(instance: int, workload: str = "w") -> Artifact:
    """An artifact of a process that is gone."""
    return Artifact(instance, 2**22 - 1, 1, b"/nothing/%d.gguf" % instance, b"", 1, instance, 0, bytes(200), workload)


def opened(inode: int) -> Opened:
    return Opened(1, 1, 1, 7, b"/blob", b"", 1, inode, "w")


class Enricher:
    """A fake that finds nothing."""

    processes = evicted = 0

    def enrich(self, batch: Any) -> None: ...
    def wanted(self) -> list[Artifact]: return []
    def candidates(self) -> tuple[list[Opened], list[Any], int]: return [], [], 0
    def begun(self) -> list[Any]: return [("w", 7, (1, 1), 1)]
    def bind(self, *told: Any) -> None: ...
    def recognised(self, *told: Any) -> None: ...
    def close(self) -> None: ...


class Recogniser:
    """A fake."""

    def __init__(self) -> None:
        self.models = [opened(1)]
        self.loads: list[Any] = []

    def submit(self, opened: Any) -> None: ...
    def written(self, files: Any) -> None: ...
    def pass_over(self, count: int) -> None: ...
    def begun(self, *load: Any) -> None: self.loads.append(load)
    def close(self) -> None: ...

    def found(self) -> list[Opened]:
        found, self.models = self.models, []
        return found

    def unfinished(self) -> list[Opened]:
        return self.models


@pytest.fixture
def line() -> Iterator[tuple[Channel, Channel]]:
    ours, theirs = Channel.pair()
    other = Channel(theirs)
    yield ours, other
    ours.close()
    other.close()


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Resolver]:
    """One whose threads do nothing."""
    monkeypatch.setattr(Resolver, "_run", lambda self: None)
    made = Resolver()
    yield made
    made.close()


@pytest.fixture
def recogniser() -> Recogniser:
    return Recogniser()


@pytest.fixture
def naming(line: tuple[Channel, Channel], resolver: Resolver, recogniser: Recogniser, tmp_path: Path,
           monkeypatch: pytest.MonkeyPatch) -> Naming:
    monkeypatch.setattr(module, "identity_record", lambda *told: b"record")
    made: Callable[..., Naming] = Naming
    return made(line[0], Enricher(), resolver, recogniser, tmp_path, "boot")


def identified(resolver: Resolver, instance: int, workload: str = "w") -> None:
    """A load was asked for and is looked into to its end."""
    resolver.submit(loaded(instance, workload))
    with resolver._lock:
        taken = resolver._waiting.take()
        assert taken
        load = taken[1]
        load.queued = False
        resolver._tell(load)
        resolver._finish(load)


def on_disk(folder: Path) -> list[int]:
    return [each.instance for each in Unfinished(folder / "unfinished", "boot", Artifact).load()]


def test_an_identity_that_was_told_to_a_drainer_that_was_killed_is_worked_out_again(
    naming: Naming, line: tuple[Channel, Channel], resolver: Resolver, tmp_path: Path
) -> None:
    identified(resolver, 7)
    line[1].close()
    # It learns of it with the first word that it sends.
    naming.tell()
    assert line[0].closed
    naming.close()
    assert on_disk(tmp_path) == [7]


def test_what_was_told_is_kept_until_the_drainer_has_had_the_time_to_write_it(
    naming: Naming, line: tuple[Channel, Channel], resolver: Resolver, tmp_path: Path
) -> None:
    clock = [0.0]
    resolver._told = Lately(resolvers._TOLD_S, each=32, workloads=32, now=lambda: clock[0])
    identified(resolver, 7)
    naming.tell()
    assert line[1].receive()
    assert [each.instance for each in resolver.to_keep()] == on_disk(tmp_path) == [7]
    assert resolver.unfinished() == []
    clock[0] = resolvers._TOLD_S + 1
    assert resolver.to_keep() == []


def test_after_the_drainer_is_gone_nothing_is_taken(
    naming: Naming, line: tuple[Channel, Channel], resolver: Resolver, recogniser: Recogniser
) -> None:
    line[0].closed = True
    identified(resolver, 7)
    naming.tell()
    assert [each.instance for each in resolver.unfinished()] == [7]
    assert recogniser.models


def test_while_the_drainer_takes_nothing_results_wait_where_workloads_share(
    naming: Naming, line: tuple[Channel, Channel], resolver: Resolver, recogniser: Recogniser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_BACKLOG", 0)
    identified(resolver, 7)
    naming.tell()
    assert line[0].backlog == 0
    assert [each.instance for each in resolver.unfinished()] == [7]
    assert recogniser.models
    monkeypatch.setattr(module, "MAX_BACKLOG", 1)
    naming.tell()
    assert len(line[1].receive()) == 2


def test_a_load_that_a_batch_tells_of_is_told_to_whoever_found_its_model(naming: Naming, recogniser: Recogniser) -> None:
    naming.rows(None)  # type: ignore[arg-type]
    assert recogniser.loads == [("w", 7, (1, 1), 1)]


def test_a_load_that_is_looked_into_anew_is_kept_once(resolver: Resolver) -> None:
    identified(resolver, 7)
    resolver.results()
    resolver.submit(Artifact(7, 1, 1, b"/another", b"", 1, 99, 0, bytes(200), "w"))
    assert [each.inode for each in resolver.to_keep()] == [7, 99]


def test_the_end_of_a_line_is_known_to_whoever_hears_it(line: tuple[Channel, Channel]) -> None:
    line[1].close()
    with pytest.raises(ChannelClosed):
        line[0].receive()
    assert line[0].closed


def test_a_loud_workload_pushes_nothing_of_anothers_out_of_what_was_handed_over() -> None:
    clock = [0.0]
    lately: Lately[int] = Lately(10.0, each=3, workloads=2, now=lambda: clock[0])
    lately.add("quiet", 1)
    for number in range(2, 100):
        lately.add("loud", number)
    assert [*lately] == [1, 97, 98, 99]
    lately.add("third", 100)
    assert [*lately] == [97, 98, 99, 100]
    clock[0] = 11.0
    assert [*lately] == []
    assert not lately._things


def test_what_need_not_be_held_any_more_is_dropped() -> None:
    lately: Lately[int] = Lately(10.0, each=3, workloads=2)
    lately.add("a", 1)
    lately.add("a", 2)
    lately.drop("a", lambda number: number == 1)
    lately.drop("b", lambda number: True)
    assert [*lately] == [2]
