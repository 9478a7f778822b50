"""Names that receivers and store share."""

from __future__ import annotations

OWN_EPOCH = bytes(16)
"""Epoch of rows that the collector makes about a host itself. No agent draws it: it refuses a stream with it."""


def file_name(agent_id: bytes, epoch: bytes, number: int, checksum: int) -> str:
    """Where a receiver keeps the payload of a quarantined batch, below the quarantine folder."""
    return f"{agent_id.hex()}/{epoch.hex()}-{number}-{checksum:08x}.arrow"
