"""What the sensor raises."""

from __future__ import annotations


class SensorError(Exception):
    """The kernel side cannot work on this host, or its object is missing; the message says what is missing
    and what to do."""
