"""The reading half of a kernel side: rings, repeats and counts, from where the last reader got them into the spool."""

from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np
from modelward_proto.kinds import EVENT_NAMES

from modelward_agent.sensor import libbpf
from modelward_agent.sensor.about import read_note, write_note
from modelward_agent.sensor.constants import REPEATS_RING, Ring
from modelward_agent.sensor.kernel import RING_MAPS, Kernel
from modelward_agent.sensor.progress import Progress
from modelward_agent.sensor.repeats import Repeats
from modelward_agent.sensor.rings import Drained, RingReader, Rings

DOOR_MISSES = ("missed", "all")
"""Where events are counted for which the kernel ran no program."""

_HOPS = ("seen", "missed", "merged", "ring_dropped")
_LARGE = (Ring.CONTROL_LARGE, Ring.EVENTS_LARGE)


class Reader:
    """Reads one loaded object; nothing else does."""

    def __init__(self, kernel: Kernel) -> None:
        about = kernel.about
        self._kernel = kernel
        readers = [
            RingReader(ring, kernel.map(name).fd, about.ring_bytes[ring], about.large if ring in _LARGE else about.small)
            for ring, name in RING_MAPS.items()
        ]
        self._rings = Rings(readers, about.small, about.large)
        self._repeats = Repeats(kernel.map("generations"), (kernel.map("generation_a"), kernel.map("generation_b")),
                                about.small, about.repeat_size, about.repeat_key_size)
        self._no_large = np.empty(0, about.large)
        self._cpus = libbpf.possible_cpus()
        self._closed = False
        try:
            self._progress = Progress.from_json(read_note(kernel.map("progress")))
        except (ValueError, KeyError, TypeError):
            self._progress = Progress(about.rings)
        self.resume(self._progress)

    def progress(self) -> Progress:
        """What of these rings is in the spool, by the last word of :meth:`keep`."""
        return self._progress

    def resume(self, progress: Progress) -> None:
        """Go on behind what is in the spool: the spool itself may know of more than :meth:`keep` was told before a crash."""
        self._rings.resume(progress.positions)
        self._repeats.resume(progress.positions.get(REPEATS_RING, 0))

    def keep(self, progress: Progress) -> None:
        """Remember beside the rings what is in the spool now. To be followed by :meth:`commit`."""
        if not self._closed:
            write_note(self._kernel.map("progress"), progress.to_json())
        self._progress = progress

    def drain(self, max_records: int = 65536) -> Drained:
        """What came since the last drain, at most ``max_records`` per ring of small records. Never blocks."""
        return self._rings.drain(max_records)

    def commit(self, positions: Mapping[int, int]) -> None:
        """Let the kernel overwrite what was drained up to ``positions``: only once it is safe on disk."""
        if self._closed:
            return
        self._rings.commit({ring: at for ring, at in positions.items() if ring != REPEATS_RING})
        if REPEATS_RING in positions:
            self._repeats.settle(positions[REPEATS_RING])

    def wait(self, timeout_s: float) -> None:
        """Sleep until records wait, looking every 20 ms; at most ``timeout_s``."""
        end = time.monotonic() + timeout_s
        while not self._rings.waiting() and (left := end - time.monotonic()) > 0:
            time.sleep(min(0.02, left))

    def swap_repeats(self) -> Drained:
        """Counts of the effects that were equal to one that went out before, as SMALL records flagged REPEATS. There are no more
        until these are committed. To be called every second."""
        records, number = self._repeats.swap()
        return Drained(records, self._no_large, {REPEATS_RING: number} if number else {})

    def counters(self) -> dict[tuple[str, str], int]:
        """(hop, event name) to count since the rings were made, for the hops seen, missed, merged and ring_dropped;
        zeros are left out."""
        kinds = self._kernel.about.kinds
        raw = self._kernel.map("counters").read_array(8 * self._cpus)
        totals = np.frombuffer(raw, np.uint64).reshape(len(_HOPS), kinds, self._cpus).sum(axis=2)
        found = {
            (hop, EVENT_NAMES.get(kind, f"kind_{kind}")): int(totals[number, kind])
            for number, hop in enumerate(_HOPS) for kind in np.flatnonzero(totals[number]).tolist()
        }
        if skipped := self._skipped():
            found[DOOR_MISSES] = skipped
        return found

    def _skipped(self) -> int:
        """Events that no program saw because the kernel ran none: it was already running on that CPU."""
        return 0

    def _close_reading(self) -> None:
        if not self._closed:
            self._closed = True
            self._rings.close()
            self._kernel.close()
