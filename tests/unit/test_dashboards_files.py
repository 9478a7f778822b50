"""What Grafana reads is what the code makes, and loads into the SDK's own types."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from dashboards import __main__ as writer

ROOT = Path(__file__).parents[2]
BOARD = json.loads((ROOT / "dashboards/modelward-security.json").read_text())


def test_files_are_what_the_code_makes() -> None:
    done = subprocess.run([sys.executable, "-m", "dashboards", "--check"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_check_names_the_file_that_differs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = ROOT / "dashboards/absent.json"
    monkeypatch.setattr(writer, "files", lambda: {wrong: "{}"})
    monkeypatch.setattr(sys, "argv", ["dashboards", "--check"])
    assert writer.main() == 1
    assert not wrong.exists()


def test_dashboard_survives_the_sdks_types() -> None:
    """A name that the SDK does not know would be gone after it."""
    register_default_plugins()
    again = json.loads(JSONEncoder(sort_keys=True).encode(Dashboard.from_json(BOARD)))
    assert again == BOARD


def test_schema_is_one_that_grafana_11_to_13_load() -> None:
    assert BOARD["schemaVersion"] <= 42
    assert BOARD["uid"] == "modelward-security"


def test_panels_have_ids_of_their_own_and_do_not_overlap() -> None:
    assert [i for i, n in Counter(p["id"] for p in BOARD["panels"]).items() if n > 1] == []
    taken: Counter[tuple[int, int]] = Counter()
    for panel in BOARD["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        columns, lines = (range(place[at], place[at] + place[size]) for at, size in (("x", "w"), ("y", "h")))
        taken.update((x, y) for x in columns for y in lines)
    assert max(taken.values()) == 1


def test_every_panel_says_what_it_shows() -> None:
    assert [p["title"] for p in BOARD["panels"] if p["type"] != "row" and not p.get("description")] == []
