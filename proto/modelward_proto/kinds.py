"""Event kinds and hops of the loss ledger: the part of the field table that is read without loading Arrow."""

from __future__ import annotations

from enum import IntEnum

HOPS = (
    "seen",         # a hook saw the effect in a tracked process
    "missed",       # the kernel skipped the program (recursion) or scratch space was busy
    "merged",       # counted into an earlier record as a repeat
    "ring_dropped", # the ring was full: a gap in the numbers
    "drained",      # read from the ring or the repeat table by the agent
    "spooled",      # durable on the agent's disk
    "evicted",      # dropped from a full spool before it was sent, or found damaged there
    "sent",         # handed to a stream (each event once, resends apart)
    "received",     # arrived at a collector
    "quarantined",  # set aside by a collector
    "stored",       # acknowledged by the store
)
"""The hops of the loss ledger, in the order of the data path."""


class Kind(IntEnum):
    """Event kinds: the numbers of ``agent/bpf/events.h`` (``enum mw_kind``), by topic, never reused."""

    PROCESS_EXEC = 1
    PROCESS_FORK = 2
    PROCESS_EXIT = 3
    FILE_OPEN = 16
    NET_CONNECT = 32
    NET_LISTEN = 33
    LIFECYCLE = 48
    MODEL_IDENTITY = 49     # made by the agent, binds an instance to a model
    LIBRARY = 50            # a library that probes know was mapped into a tracked process
    HOST_CANARY = 64        # the agent's own probe of a hook
    HOST_LOSS = 65          # made by the agent: events known to be lost, with loss.hop and loss.kind
    HOST_SILENT = 66        # made by the collector: an agent has not been heard of for a while
    HOST_TWICE = 67         # made by the collector: two agents use one identity


EVENT_NAMES: dict[int, str] = {
    Kind.PROCESS_EXEC: "exec",
    Kind.PROCESS_FORK: "fork",
    Kind.PROCESS_EXIT: "exit",
    Kind.FILE_OPEN: "file_open",
    Kind.NET_CONNECT: "connect",
    Kind.NET_LISTEN: "listen",
    Kind.LIFECYCLE: "lifecycle",
    Kind.MODEL_IDENTITY: "model_identity",
    Kind.LIBRARY: "library",
    Kind.HOST_CANARY: "canary",
    Kind.HOST_LOSS: "loss",
    Kind.HOST_SILENT: "agent_silent",
    Kind.HOST_TWICE: "agent_twice",
}
