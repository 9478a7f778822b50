"""Hands a declaration to the kernel side, which decides whether it is believed (``agent/bpf/declare.bpf.h``)."""

from __future__ import annotations

import logging
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from modelward_agent.hints.hint import Hint
    from modelward_agent.sensor.kernel import Kernel

log = logging.getLogger(__name__)

PROGRAMS = ("declare",)
"""Programs that belong to no door."""
_DECLARATION = struct.Struct("=QIIII64s")
"""struct mw_declaration"""
_FIRST = struct.pack("=I", 0)


def declare(kernel: Kernel, hint: Hint) -> None:
    """One declaration at a time, as they came: a later one may depend on what an earlier one did."""
    program = kernel.programs.get("declare")
    if program is None:
        return
    try:
        kernel.map("declaration").update(
            _FIRST, _DECLARATION.pack(hint.sent_ns, hint.pid, hint.thread, hint.phase, 0, hint.detail[:63])
        )
        program.iterate(process=hint.pid)
    except OSError as e:
        # The process may be gone by now.
        log.debug("a declaration went nowhere", extra={"reason": str(e)})
