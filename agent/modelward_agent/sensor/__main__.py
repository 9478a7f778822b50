"""Prints events as lines: ``python -m modelward_agent.sensor [--watch NAME] [--seconds N]``. For looking at
what the kernel side sees."""

from __future__ import annotations

import argparse
import sys
import time

import numpy as np
from modelward_proto.kinds import EVENT_NAMES

from modelward_agent.sensor import records
from modelward_agent.sensor.constants import Flag, Phase, Scope, Segment, Trigger, Via
from modelward_agent.sensor.errors import SensorError
from modelward_agent.sensor.sensor import Sensor


def _line(r: np.void) -> str:
    texts = [t.replace(b"\0", b" ").decode("utf-8", "backslashreplace") for t in records.texts(r)]
    kind = EVENT_NAMES.get(int(r["kind"]), str(r["kind"]))
    detail = " ".join(f"{Segment(i).name.lower()}={t!r}" for i, t in enumerate(texts) if t)
    if kind == "exit":
        detail = f"code={r['exit_code']} signal={r['exit_signal']}"
    elif kind == "fork":
        detail = f"child={r['child_tgid']}"
    elif kind == "lifecycle":
        detail = f"{Phase(r['from_phase']).name}->{Phase(r['to_phase']).name} by {Trigger(r['trigger']).name} " + detail
    elif kind in ("connect", "listen"):
        address = r["address"].tobytes()
        shown = ".".join(map(str, address[:4])) if r["family"] == 2 else address.hex(":", 2)
        detail = f"{shown} port {r['port']} transport {r['transport']} outcome {r['outcome']}"
    origin = f" origin={r['origin_instance']:x}/{Via(r['origin_via']).name.lower()}" if r["origin_instance"] else ""
    flags = str(Flag(int(r["flags"]))).removeprefix("Flag.")
    where = f"{Phase(r['phase']).name.lower()}/{Scope(r['scope']).name.lower()} instance={r['instance']:x}{origin}"
    return (f"{r['time_ns'] / 1e9:.6f} {kind:9} x{r['count']} pid={r['tgid']}/{r['tid']} root={r['root_tgid']} "
            f"{where} {detail} [{flags}]")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m modelward_agent.sensor", description=__doc__)
    parser.add_argument("--watch", action="append", default=[], metavar="NAME")
    parser.add_argument("--seconds", type=float, default=float("inf"))
    arguments = parser.parse_args()
    try:
        sensor = Sensor.open(watch=arguments.watch)
    except SensorError as e:
        print(f"modelward sensor: {e}", file=sys.stderr)
        return 1
    for report in sensor.doors():
        print(f"# {report.effect:12} {report.door}  ({report.reason})", flush=True)
    end = time.monotonic() + arguments.seconds
    turn = 0
    try:
        while time.monotonic() < end:
            sensor.wait(0.05)
            sensor.tick()
            drained = sensor.drain()
            for part in (drained.small, drained.large):
                for record in part:
                    print(_line(record))
            for gap, missing in drained.gaps.items():
                print(f"# lost {missing} at ring {gap[0]}, cpu {gap[1]}")
            sensor.commit(drained.positions)
            turn += 1
            if turn % 20 == 0:
                repeats = sensor.swap_repeats()
                for record in repeats.small:
                    print(_line(record))
                sensor.commit(repeats.positions)
            sys.stdout.flush()
    except KeyboardInterrupt:
        pass
    finally:
        print("#", sensor.counters())
        sensor.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
