"""Two agents with one identity: a state folder that was copied to another machine, and a name that is used twice.

On one host both would see the same events, so the two machines are played by peers that speak the wire, each with batches and
an uptime of its own.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from modelward_collector.store.twins import CLONED, SHARED
from modelward_proto.fields import SCHEMA_VERSION
from modelward_proto.v1.stream_pb2 import Batch, Hello

from tests.batches import BOOT, Agent, envelope, events
from tests.faults.outcome import Outcome
from tests.faults.site import Site, site
from tests.faults.units import wait_for

ROWS = 50
HOST = "twin"


@dataclass
class _Machine:
    """One of two agents: what it has to send, and what it was told."""

    site: Site
    boot: str
    agent_id: bytes
    started: float
    batches: dict[int, Batch]
    told: set[int] = field(default_factory=set)
    aside: set[int] = field(default_factory=set)

    def connect(self) -> Agent:
        return Agent(self.site.listen, hello=Hello(
            agent_id=self.agent_id, epoch=b"E" * 16, schema_version=SCHEMA_VERSION, agent_version="0.1.0", host_name=HOST,
            boot_id=self.boot, kernel_release="6.18.0", first_unacked=1))

    def turn(self, agent: Agent) -> None:
        """What an agent does with an open stream: it believes the collector only of batches that are its own."""
        for held in agent.wait_welcome().held:
            own = {n for n, checksum in zip(range(held.first, held.last + 1), held.checksums, strict=True)
                   if n in self.batches and self.batches[n].checksum == checksum}
            self.told |= own
        left = [batch for n, batch in self.batches.items() if n not in self.told | self.aside]
        self.beat(agent)
        agent.send(*left[:3])
        agent.wait_answered(*(batch.number for batch in left[:3]))
        self.told |= agent.stored
        self.aside |= set(agent.quarantined)

    def beat(self, agent: Agent) -> None:
        agent.heartbeat(uptime_ns=int((time.monotonic() - self.started) * 1e9))


def cloned_state(batches: int) -> Outcome:
    """Two machines with copies of one state folder number their batches alike, and take turns at one stream."""
    outcome = Outcome("two agents with copies of one state folder", "two machines number different batches alike, in turns")
    with site() as it:
        it.start_collector()
        now = time.monotonic()
        machines = [_Machine(it, BOOT[:-1] + str(number), b"A" * 16, now - 5000 * (number + 1), {
            n: envelope(n, events(ROWS, seed=1000 * number + n, event_name="file_open"), checksum=7919 * n + number)
            for n in range(1, batches + 1)}) for number in range(2)]
        begun = time.monotonic()
        while any(len(m.told | m.aside) < batches for m in machines) or time.monotonic() - begun < 12:
            for machine in machines:
                with machine.connect() as agent:
                    machine.turn(agent)
                    time.sleep(0.3)
        outcome.provoked = 2 * batches * ROWS
        rows = it.one("SELECT count() AS n, uniqExact(agent_id, epoch, batch, row) AS names FROM events_raw "
                      f"WHERE host_name = '{HOST}' AND event_name = 'file_open'")
        outcome.stored = rows["n"]
        outcome.must(rows["n"] == rows["names"], "rows are stored twice")
        told = sum(len(machine.told) for machine in machines) * ROWS
        outcome.must(told == rows["n"], f"{told} events were acknowledged, {rows['n']} are stored")

        def lost() -> int:
            return int(it.one("SELECT sum(count) AS n FROM ledger WHERE hop = 'quarantined' AND kind = 'file_open'")["n"])

        # The ledger is written every second.
        until = time.monotonic() + 15
        while rows["n"] + lost() != outcome.provoked and time.monotonic() < until:
            time.sleep(0.2)
        outcome.lost = lost()
        outcome.must(outcome.stored + outcome.lost == outcome.provoked,
                     f"{outcome.provoked} events were sent, {outcome.stored} are stored and {outcome.lost} named as lost")
        outcome.must(it.select("SELECT 1 FROM detections WHERE event_name = 'loss'"), "no alert tells of the loss")
        with machines[0].connect() as agent:
            agent.wait_welcome()
            machines[0].beat(agent)
            _noticed(it, outcome, CLONED)
    return outcome


def one_name(seconds: float = 14.0) -> Outcome:
    """Two agents, each with a state folder of its own, under one host name: as with a copied certificate."""
    outcome = Outcome("two agents with one certificate", "each with a state folder of its own; nothing is lost, and it is said")
    with site() as it:
        it.start_collector()
        now = time.monotonic()
        machines = [_Machine(it, BOOT, agent_id, now - 100, {
            n: envelope(n, events(ROWS, seed=n, event_name="file_open")) for n in range(1, 4)})
            for agent_id in (b"A" * 16, b"B" * 16)]
        with machines[0].connect() as first, machines[1].connect() as second:
            for machine, agent in zip(machines, (first, second), strict=True):
                machine.turn(agent)
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                for machine, agent in zip(machines, (first, second), strict=True):
                    machine.beat(agent)
                time.sleep(1)
            _noticed(it, outcome, SHARED)
        outcome.provoked = 2 * 3 * ROWS
        rows = it.one("SELECT count() AS n, uniqExact(agent_id, epoch, batch, row) AS names FROM events_raw "
                      f"WHERE host_name = '{HOST}' AND event_name = 'file_open'")
        outcome.stored = rows["n"]
        outcome.must(rows == {"n": outcome.provoked, "names": outcome.provoked}, f"of {outcome.provoked} rows, found {rows}")
    return outcome


def _noticed(it: Site, outcome: Outcome, sentence: str) -> None:
    problems = "SELECT 1 FROM hosts WHERE host_name = {host:String} AND has(problems, {said:String})"
    for what, sql in (("a problem of the host", problems),
                      ("an alert", "SELECT 1 FROM detections WHERE event_name = 'agent_twice' AND host_name = {host:String}")):
        try:
            wait_for(lambda sql=sql: it.select(sql, host=HOST, said=sentence), 30, f"{what} that says it")
        except TimeoutError as e:
            outcome.wrong.append(str(e))
    alerts = it.one("SELECT count() AS n FROM detections WHERE event_name = 'agent_twice'")["n"]
    agents = it.one("SELECT uniqExact(agent_id) AS n FROM detections WHERE event_name = 'agent_twice'")["n"]
    outcome.must(alerts == agents, f"{alerts} alerts of {agents} agents")
