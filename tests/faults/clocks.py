"""Wrong clocks for one daemon, as it would have them on a machine of its own: ``programs/clock.c``, preloaded.

What the C library says of the wall clock is changed, in every process that the daemon starts; monotonic clocks and the kernel's
own are true, as they are on a machine whose wall clock was set wrong. Nothing in the product knows of this.
"""

from __future__ import annotations

import mmap
import struct
import subprocess
from pathlib import Path

SOURCE = Path(__file__).parent / "programs" / "clock.c"


class Clock:
    """The wall clock of one or more daemons: give them :attr:`environment`."""

    def __init__(self, folder: Path, offset_s: int = 0) -> None:
        self._library, file = folder / "clock.so", folder / "clock"
        subprocess.run(["gcc", "-shared", "-fPIC", "-O2", "-o", str(self._library), str(SOURCE)], check=True)
        file.write_bytes(bytes(8))
        self.environment = {"LD_PRELOAD": str(self._library), "WRONG_CLOCK": str(file)}
        with file.open("r+b") as opened:
            self._offset = mmap.mmap(opened.fileno(), 8)
        self.set(offset_s)

    def set(self, offset_s: int) -> None:
        """Set the clock to so many seconds beside the true time, at once and in one step."""
        struct.pack_into("=q", self._offset, 0, offset_s)
