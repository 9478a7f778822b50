"""What workloads share: lines that wait for one thread, and results that wait to be fetched."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from modelward_agent.identity import hasher as hashers
from modelward_agent.identity import loading, worker_process
from modelward_agent.identity import resolver as resolvers
from modelward_agent.identity import turns as turns_module
from modelward_agent.identity.artifact import Artifact
from modelward_agent.identity.composing import Found, Model
from modelward_agent.identity.hasher import Hasher
from modelward_agent.identity.known import Content, Known
from modelward_agent.identity.loading import Load
from modelward_agent.identity.resolver import Resolver
from modelward_agent.identity.turns import Shares, Turns
from modelward_agent.identity.unfinished import Unfinished


def turns(each: int = 4, together: int = 8) -> Turns[int]:
    return Turns(threading.RLock(), each=each, together=together)


def taken(lines: Turns[int]) -> list[str]:
    found = []
    while len(lines):
        got = lines.take()
        assert got is not None
        found.append(got[0])
    return found


def opened(instance: int, workload: str) -> Artifact:
    """An artifact of a process that is gone, at a path where nothing is."""
    return Artifact(instance=instance, pid=2**22 - 1, start_ns=1, path=b"/nothing/%d.gguf" % instance, asked=b"", device=1,
                    inode=instance, time_ns=0, workload=workload)


def test_workloads_take_turns() -> None:
    lines = turns()
    for workload in "aaaabb":
        with lines._changed:
            lines.add(workload, 1)
    assert taken(lines)[:4] in (["a", "b", "a", "b"], ["a", "b", "b", "a"])


def test_a_line_has_a_bound_of_its_own() -> None:
    lines = turns()
    with lines._changed:
        assert [lines.add("a", number) for number in range(6)] == [None] * 4 + [4, 5]
        assert lines.add("b", 7) is None


def test_a_full_room_costs_the_longest_line_its_last_and_nobody_else() -> None:
    lines = turns(each=7, together=8)
    with lines._changed:
        for number in range(7):
            lines.add("greedy", number)
        assert lines.add("b", 10) is None
        assert lines.add("c", 20) == 6
        assert lines.add("greedy", 30) == 30
        assert len(lines) == 8
    assert Counter(taken(lines)) == {"greedy": 6, "b": 1, "c": 1}


def test_who_took_long_waits_until_others_had_as_much() -> None:
    lines = turns()
    with lines._changed:
        for workload in ("slow", "slow", "b", "b", "b"):
            lines.add(workload, 1)
    assert lines.take() == ("slow", 1)
    time.sleep(0.05)
    assert taken(lines) == ["b", "b", "b", "slow"]


def test_one_that_asks_for_slow_things_one_by_one_waits_until_others_had_as_much() -> None:
    lines = turns(each=20, together=40)
    with lines._changed:
        lines.add("slow", 1)
    order = []
    for _ in range(12):
        taken = lines.take()
        assert taken is not None
        order.append(taken[0])
        time.sleep(0.1 if taken[0] == "slow" else 0.005)
        with lines._changed:
            if len(order) == 1:
                for number in range(20):
                    lines.add("b", number)
            elif not lines._lines["slow"].things:
                lines.add("slow", len(order))
    assert order == ["slow"] + ["b"] * 11


def test_one_that_asked_for_nothing_for_long_has_no_more_than_others_when_it_does() -> None:
    lines = turns(each=20, together=40)
    with lines._changed:
        lines.add("early", 1)
        for number in range(6):
            lines.add("b", number)
    for _ in range(4):
        lines.take()
        time.sleep(0.02)
    with lines._changed:
        for number in range(3):
            lines.add("early", number)
    order = []
    for _ in range(3):
        order.append((lines.take() or ("", 0))[0])
        time.sleep(0.02)
    assert order.count("b") >= 1


def test_what_workloads_had_is_remembered_of_so_many_and_so_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns_module, "_REMEMBERED", 10)
    lines = turns(each=1, together=100)
    for number in range(30):
        with lines._changed:
            lines.add(str(number), 1)
        lines.take()
    assert list(lines._lines) == [str(number) for number in range(19, 30)]
    monkeypatch.setattr(turns_module, "_REMEMBERED_S", -1.0)
    with lines._changed:
        lines.add("last", 1)
    lines.take()
    assert list(lines._lines) == ["last"]


def test_closing_ends_who_waits() -> None:
    lines, found = turns(), []
    waiter = threading.Thread(target=lambda: found.append(lines.take()))
    waiter.start()
    with lines._changed:
        lines.close()
    waiter.join(5)
    assert found == [None]


def test_of_too_many_results_the_workload_with_most_loses_its_oldest() -> None:
    shares: Shares[int] = Shares(4)
    for number in range(10):
        shares.add("greedy", number)
    shares.add("b", 100)
    assert shares.lost == 7
    assert shares.take() == [7, 8, 9, 100]
    assert shares.take() == []


def test_of_what_is_fetched_bit_by_bit_each_workload_gets_some() -> None:
    shares: Shares[int] = Shares(1000)
    for number in range(100):
        shares.add("greedy", number)
    for number in range(100, 103):
        shares.add("b", number)
    assert sorted(shares.take(6)) == [0, 1, 2, 100, 101, 102]
    assert shares.take(2) == [3, 4]
    assert (len(shares), shares.take()) == (95, list(range(5, 100)))


@pytest.fixture
def still(monkeypatch: pytest.MonkeyPatch) -> Resolver:
    """A resolver whose threads do nothing."""
    monkeypatch.setattr(Resolver, "_run", lambda self: None)
    return Resolver()


def test_one_that_opens_ten_thousand_artifacts_costs_another_none(still: Resolver, monkeypatch: pytest.MonkeyPatch) -> None:
    # All take equally long, whatever else this machine does.
    monkeypatch.setattr(turns_module, "time", SimpleNamespace(monotonic=itertools.count().__next__))
    for instance in range(1, 10_001):
        still.submit(opened(instance, "greedy"))
    for instance in range(20_001, 20_011):
        still.submit(opened(instance, "honest"))
    order = [taken[0] for _ in range(20) if (taken := still._waiting.take())]
    assert order.count("honest") == 10
    assert still.refused == 10_000 - resolvers._WAITING_EACH
    still.close()


def test_ten_thousand_artifacts_take_no_memory_of_another_workload(still: Resolver) -> None:
    still.submit(opened(1, "honest"))
    with still._lock:
        load = still._loads[1]
        still._waiting.take()
        load.queued = False
        still._finish(load)
    for instance in range(2, 10_002):
        still.submit(opened(instance, "greedy"))
    assert 1 in still._loads
    assert still._together == sum(still._held.values()) == sum(len(load.artifacts) for load in still._loads.values())
    assert still._together <= resolvers._ARTIFACTS
    still.close()


def test_an_artifact_that_is_turned_away_twice_is_counted_once(still: Resolver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(still._waiting, "_each", 1)
    still.submit(opened(1, "a"))
    for inode in (2, 3, 4):
        still.submit(Artifact(instance=2, pid=1, start_ns=1, path=b"/%d" % inode, asked=b"", device=1, inode=inode, time_ns=0,
                              workload="a"))
    assert still.refused == 3
    assert still.problems() == ["3 artifacts were not identified when they were opened: too many waited"]
    still.close()


def test_a_load_that_loses_its_place_counts_all_that_it_waited_with(still: Resolver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(still._waiting, "_together", 2)
    still.submit(opened(1, "a"))
    for inode in (2, 3):
        still.submit(Artifact(instance=2, pid=1, start_ns=1, path=b"/%d" % inode, asked=b"", device=1, inode=inode, time_ns=0,
                              workload="a"))
    still.submit(opened(9, "b"))
    assert still.refused == 2
    assert [each[1].first.instance for _ in range(2) if (each := still._waiting.take())] == [1, 9]
    still.close()


def test_what_was_hashed_last_is_on_disk_when_a_resolver_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Resolver, "_run", lambda self: None)
    resolver, stamp = Resolver(known=tmp_path / "known"), (8 << 8, 5, 1, 2, 3)
    resolver._known.put(stamp, Content(None, "7" * 64))
    resolver.close()
    assert Known(tmp_path / "known").get(stamp).digest == "7" * 64


def test_a_load_without_time_left_starts_no_reader_and_its_whole_deadline_is_told(
    still: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    still._deadline_s, clock = 300.0, itertools.count(0.0, 400.0)
    monkeypatch.setattr(resolvers, "time", SimpleNamespace(monotonic=clock.__next__))
    monkeypatch.setattr(resolvers, "WorkerProcess", None)
    with pytest.raises(worker_process.WorkerFailed, match="could not be read within 300 s"):
        still._look(Load([opened(1, "a")]))
    still.close()


def test_the_last_of_several_readers_tells_of_the_deadline_that_they_shared() -> None:
    worker = worker_process.WorkerProcess({}, 10.0, 0.0, of="a", told_s=300.0)
    with pytest.raises(worker_process.WorkerFailed, match="could not be read within 300 s"):
        next(worker.answers(""))
    worker.close()


def hashing(monkeypatch: pytest.MonkeyPatch) -> tuple[Hasher, list[Load]]:
    """A hasher whose thread does nothing, and the loads that it gave up."""
    monkeypatch.setattr(Hasher, "_run", lambda self: None)
    lost: list[Load] = []
    hasher = Hasher(Known(None), threading.RLock(), lambda _: None, lost.append, proc="/proc", bytes_per_s=100 << 20, silence_s=1)
    return hasher, lost


def large(instance: int, workload: str, size: int) -> Load:
    file = Found(b"/x", 0, (1, instance, size, 0, 0), 1, True, True, False, "", "", None)
    return Load([opened(instance, workload)], [file], Model([0]))


def test_hundreds_of_large_files_do_not_hold_up_a_larger_one_of_another_workload(monkeypatch: pytest.MonkeyPatch) -> None:
    hasher, _ = hashing(monkeypatch)
    for instance in range(200):
        hasher.add(large(instance, "greedy", 300 << 20))
    honest = large(1000, "honest", 3 << 30)
    hasher.add(honest)
    before = sorted(hasher._loads, key=hasher._order).index(honest)
    # 3 GiB take as long as about ten of them.
    assert 9 <= before <= 12
    for instance in range(50):
        hasher.add(large(2000 + instance, "greedy", (299 - instance) << 20))
    # A smaller one that comes later goes before larger ones of its own workload, and moves them back.
    assert sorted(hasher._loads, key=hasher._order).index(honest) <= 20
    hasher.close()


def test_a_small_file_does_not_wait_for_an_endless_one_of_its_workload(monkeypatch: pytest.MonkeyPatch) -> None:
    hasher, _ = hashing(monkeypatch)
    hasher.add(large(1, "a", 1 << 60))
    hasher.add(large(2, "a", 1 << 20))
    assert min(hasher._loads, key=hasher._order).first.instance == 2
    hasher.close()


def test_too_many_large_files_are_given_up_by_the_workload_that_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    hasher, lost = hashing(monkeypatch)
    hasher.add(large(1000, "honest", 1 << 50))
    for instance in range(hashers._WAITING + 50):
        hasher.add(large(instance, "greedy", 300 << 20))
    assert {load.workload for load in lost} == {"greedy"}
    assert len(lost) == 51
    hasher.close()


class Slow:
    """A fake worker that reads little."""

    def __init__(self, reads: int) -> None:
        self._reads = reads

    def answers(self, until: str) -> Iterator[dict[str, int]]:
        for number in range(self._reads):
            time.sleep(0.02)
            yield {"read": number}


def test_files_that_are_read_slowly_hold_up_no_other_workload(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashers, "_LOOK_S", 0.0)
    monkeypatch.setattr(hashers, "_SLOW_AFTER_S", 0.1)
    hasher, _ = hashing(monkeypatch)
    slow, honest = [large(instance, "slow", 300 << 20) for instance in range(3)], large(1000, "honest", 30 << 30)
    for load in (*slow, honest):
        hasher.add(load)
    assert min(hasher._loads, key=hasher._order) is slow[0]
    assert not hasher._take(slow[0], slow[0].found, Slow(100))  # type: ignore[arg-type]
    assert sorted(hasher._loads, key=hasher._order) == [honest, *slow]
    hasher.close()


def test_one_that_is_slow_and_alone_is_hashed_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashers, "_LOOK_S", 0.0)
    monkeypatch.setattr(hashers, "_SLOW_AFTER_S", 0.1)
    hasher, _ = hashing(monkeypatch)
    slow = large(1, "slow", 300 << 20)
    hasher.add(slow)
    due = slow.due
    assert hasher._take(slow, slow.found, Slow(20))  # type: ignore[arg-type]
    assert slow.due > due
    hasher.close()


def test_an_endless_file_of_a_process_that_lives_does_not_starve_those_of_others_that_are_gone(
    monkeypatch: pytest.MonkeyPatch
) -> None:
    hasher, _ = hashing(monkeypatch)
    monkeypatch.setattr(hashers, "lives", lambda pid, start_ns, proc: pid == 1)
    endless, gone = large(1, "a", 1 << 60), large(2, "b", 300 << 20)
    endless.artifacts[0] = replace(endless.first, pid=1)
    hasher.add(endless)
    hasher.add(gone)
    assert min(hasher._loads, key=hasher._order) is gone
    alive = large(3, "c", 300 << 20)
    alive.artifacts[0] = replace(alive.first, pid=1)
    hasher.add(alive)
    assert min(hasher._loads, key=hasher._order) is alive
    hasher.close()


def test_a_slow_file_that_gave_way_comes_before_what_is_asked_for_after_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    hasher, _ = hashing(monkeypatch)
    clock = [1000.0]
    monkeypatch.setattr(hashers, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    slow = large(1, "slow", 300 << 20)
    hasher.add(slow)
    clock[0] = 1100.0
    # 300 MiB at 1 MiB/s.
    hasher._is_slow("slow", 1 << 20)
    assert slow.due == 1300.0
    early, late = large(2, "b", 300 << 20), large(3, "c", 300 << 20)
    hasher.add(early)
    clock[0] = 1310.0
    hasher.add(late)
    hasher._is_slow("slow", 1 << 20)
    assert sorted(hasher._loads, key=hasher._order) == [early, slow, late]
    hasher.close()


def test_a_file_that_joins_a_load_while_it_is_hashed_is_hashed_next(monkeypatch: pytest.MonkeyPatch) -> None:
    hasher, ended = hashing(monkeypatch)
    load = large(1, "a", 300 << 20)
    hashed: list[int] = []

    def read(hashes: Load) -> bool:
        unread = hashes.unread(hasher._known)
        hashed.append(len(unread))
        if len(hashed) == 1:
            load.found.append(large(2, "a", 400 << 20).found[0])
            load.model.files.append(1)
            hasher.add(load)
        for file in unread:
            load.digests[file.stamp] = "7" * 64
        return True

    monkeypatch.setattr(hasher, "_hash", read)
    hasher.add(load)
    assert hasher._next()
    assert (hasher._loads, ended) == ([load], [])
    assert hasher._next()
    assert (hasher._loads, ended, hashed) == ([], [load], [1, 1])
    hasher.close()


def test_a_hasher_that_is_closing_starts_no_reader_and_blames_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    hasher, ended = hashing(monkeypatch)
    load = large(1, "a", 300 << 20)
    hasher.add(load)

    def killed(*given: object, **named: object) -> None:
        hasher.close()
        raise worker_process.WorkerFailed("made the worker end with status -9")

    monkeypatch.setattr(hashers, "WorkerProcess", killed)
    assert not hasher._next()
    assert (load.problem, ended) == ("", [])
    monkeypatch.setattr(hashers, "WorkerProcess", None)
    assert not hasher._hash(load)


def test_a_load_whose_reader_was_silent_is_tried_once_more_while_its_process_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "lives", lambda pid, start_ns, proc: True)
    hasher, ended = hashing(monkeypatch)
    load = large(1, "a", 300 << 20)
    hasher.add(load)

    def silent(hashes: Load) -> bool:
        raise worker_process.WorkerSilent("could not be read: nothing came for 30 s")

    monkeypatch.setattr(hasher, "_hash", silent)
    assert hasher._next()
    assert (ended, hasher._loads, load.problem) == ([], [load], "")
    assert hasher._next()
    assert (ended, hasher._loads) == ([load], [])
    assert "nothing came" in load.problem
    hasher.close()


@pytest.mark.parametrize("lives", [True, False])
def test_a_look_that_ended_by_silence_is_taken_once_more_while_the_process_lives(
    still: Resolver, monkeypatch: pytest.MonkeyPatch, lives: bool
) -> None:
    monkeypatch.setattr(loading, "lives", lambda pid, start_ns, proc: lives)
    looks: list[int] = []

    def silent(load: Load) -> None:
        looks.append(load.first.instance)
        raise worker_process.WorkerSilent("could not be read: nothing came for 30 s")

    monkeypatch.setattr(still, "_look", silent)
    still.submit(opened(1, "a"))
    while len(still._waiting):
        still._next()
    still.results()
    assert (looks, still.unfinished()) == ([1] * (1 + lives), [])
    still.close()


def test_small_files_that_cannot_be_hashed_in_time_are_hashed_by_who_has_more(
    still: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Reader:
        def __init__(self, *given: object, **named: object) -> None: ...
        def close(self) -> None: ...

    def compose(load: Load, worker: object) -> None:
        load.found, load.model = large(1, "a", 1 << 20).found, Model([0])

    def late(load: Load, worker: object) -> None:
        raise worker_process.WorkerLate("could not be read within 300 s")

    added: list[Load] = []
    monkeypatch.setattr(resolvers, "WorkerProcess", Reader)
    monkeypatch.setattr(still, "_compose", compose)
    monkeypatch.setattr(still, "_hash_small", late)
    monkeypatch.setattr(still._hasher, "add", added.append)
    still.submit(opened(1, "a"))
    still._next()
    assert [(load.first.instance, load.problem, load.done) for load in added] == [(1, "", False)]
    still.close()


def test_what_is_unfinished_of_a_quiet_workload_outlives_a_crash_beside_a_loud_one(tmp_path: Path) -> None:
    kept = Unfinished(tmp_path / "unfinished", "boot", Artifact)
    kept.save([opened(1, "honest"), *(opened(instance, "greedy") for instance in range(2, 2000))])
    found = Unfinished(tmp_path / "unfinished", "boot", Artifact).load()
    assert found[0] == opened(1, "honest")
    assert [each.instance for each in found[1:]] == list(range(2000 - 255, 2000))


def test_what_an_older_version_left_unfinished_is_read(tmp_path: Path) -> None:
    path = tmp_path / "unfinished"
    Unfinished(path, "boot", Artifact).save([opened(1, "")])
    path.write_text(path.read_text().replace(', "workload": ""', ""))
    assert Unfinished(path, "boot", Artifact).load() == [opened(1, "")]


def test_readers_that_hang_for_one_workload_leave_room_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    class Hanging:
        def poll(self) -> None:
            return None

    monkeypatch.setattr(worker_process, "_stuck", [("greedy", Hanging()), ("greedy", Hanging())])
    with pytest.raises(worker_process.WorkerFailed, match="too many readers hang"):
        worker_process.WorkerProcess({}, 1.0, 10.0, of="greedy")
    worker = worker_process.WorkerProcess({}, 1.0, 10.0, of="honest")
    worker.close()
