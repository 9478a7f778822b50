"""Adopts servers that run already."""
from __future__ import annotations
from modelward_agent.sensor.libbpf import Object


def adopt(kernel: Object) -> None:
    return None
