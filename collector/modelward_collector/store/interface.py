"""What a store is: the calls of ``modelward.v1.Store``. The embedded engine is one; a ClickHouse server can be another."""

from __future__ import annotations

from typing import Protocol

from modelward_proto.v1.store_pb2 import (
    AdvanceRequest,
    AppendReply,
    AppendRequest,
    BackupRequest,
    ExceptionRequest,
    HeldReply,
    HeldRequest,
    ReportReply,
    ReportRequest,
    SelectReply,
    SelectRequest,
    WriteReply,
)

MAX_MESSAGE_BYTES = 256 << 20
"""Of one call: more than a batch and all that rules can find in it. A call over it could never be made, however often it is
tried."""


class StoreUnavailable(Exception):
    """The call was not carried out and may be tried again; the message says why."""


class WriteRefused(ValueError):
    """A write that a person or a program asked for cannot be done; the message is one sentence that says why."""


class Store(Protocol):
    """Keeps batches exactly once, the last word of each agent, and answers queries. Safe for many calls at a time."""

    async def append(self, request: AppendRequest) -> AppendReply:
        """Return when the batch, its detections and its bindings are durable, or it is known to be set aside.

        Raises:
            StoreUnavailable: it was not stored, and nothing is wrong with it.
        """

    async def held(self, request: HeldRequest) -> HeldReply:
        """Which batches of an epoch are stored.

        Raises:
            StoreUnavailable: the store cannot tell now.
        """

    async def report(self, request: ReportRequest) -> ReportReply:
        """Take the word of an agent: durable within a second or two, and only the last one counts."""

    async def select(self, request: SelectRequest) -> SelectReply:
        """Run trusted SQL of this project."""

    async def ask(self, request: SelectRequest) -> SelectReply:
        """Run a person's SQL through the gate."""

    async def make_exception(self, request: ExceptionRequest) -> WriteReply:
        """Make or revoke an exception; queries show it when this returns."""

    async def advance(self, request: AdvanceRequest) -> WriteReply:
        """Note how far an output has read the detections; durable when this returns."""

    async def backup(self, request: BackupRequest) -> WriteReply:
        """Make a snapshot of the whole store, consistent at one moment, in the folder given."""

    async def close(self) -> None:
        """Finish what is under way and close."""
