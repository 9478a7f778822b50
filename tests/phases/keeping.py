"""What ``--keep`` leaves of a run, to find out which side is wrong."""

from __future__ import annotations

import json
from pathlib import Path

from tests.phases.score import Score
from tests.phases.stored import Stored


def keep(stored: Stored, result: Score, folder: Path) -> None:
    """Write a server's stored rows, one JSON object a line, its lifecycle as a table, and everything wrong."""
    place = folder / stored.server.name.replace(" ", "-")
    place.mkdir(parents=True)
    (place / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in stored.rows))
    (place / "wrong.txt").write_text("".join(line + "\n" for line in result.wrong))
    first = stored.rows[0]["ns"] if stored.rows else 0
    lines = [f"{'s':>8} {'pid':>7} {'tid':>7} {'event':10} {'phase':7} {'scope':5} {'model':14} {'origin':14} what"]
    for row in stored.rows:
        if row["path"].endswith(".truth"):
            what = "mark " + row["path"].rpartition("/")[2]
        elif row["event_name"] == "lifecycle":
            what = f"{row['before']} -> {row['phase']} by {row['trigger']} {row['detail']} {row['event_outcome']} {row['path']}"
        elif row["event_name"] == "file_open" and not stored.label_of_file(row["path"]):
            continue
        else:
            what = row["path"] or row["command"]
        origin = f"{row['origin_model']}/{row['origin_scope']}/{row['origin_via']}" if row["origin_phase"] != "none" else "none"
        lines.append(f"{(row['ns'] - first) / 1e9:8.3f} {row['pid']:7} {row['tid']:7} {row['event_name']:10} {row['phase']:7} "
                     f"{row['scope']:5} {row['model_id'] + ':' + str(row['instance'] % 1000):14} {origin:14} {what[:150]}")
    (place / "timeline.txt").write_text("\n".join(lines) + "\n")
