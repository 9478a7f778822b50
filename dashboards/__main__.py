"""``python -m dashboards [--check]``: write what Grafana reads, or say what differs from what the code makes."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder

from dashboards import alerts, provisioning, security

FOLDER = Path(__file__).parent
HEAD = "# Made by 'python -m dashboards': edit the code there, not this file.\n"


def files() -> dict[Path, str]:
    """Each file and its content."""
    return {
        FOLDER / "modelward-security.json": json.dumps(_plain(security.board()), indent=2, ensure_ascii=False) + "\n",
        FOLDER / "provisioning/datasources/modelward.yaml": _yaml(provisioning.datasources()),
        FOLDER / "provisioning/dashboards/modelward.yaml": _yaml(provisioning.dashboards()),
        FOLDER / "provisioning/alerting/modelward.yaml": _yaml(alerts.groups()),
    }


def main() -> int:
    """Write, or check. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m dashboards", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, exit 1 if a file is not what the code makes")
    check = parser.parse_args().check
    different = [path for path, content in files().items() if not path.is_file() or path.read_text(encoding="utf-8") != content]
    for path in different:
        if check:
            print(f"{path.relative_to(FOLDER.parent)} is not what dashboards/ makes: run 'python -m dashboards'", file=sys.stderr)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(files()[path], encoding="utf-8")
            print(f"wrote {path.relative_to(FOLDER.parent)}")
    return 1 if check and different else 0


def _plain(value: Any) -> Any:
    return json.loads(JSONEncoder(sort_keys=True).encode(value))


def _yaml(document: dict[str, Any]) -> str:
    return HEAD + yaml.dump(_plain(document), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=130)


class _Dumper(yaml.SafeDumper):
    """SQL of several lines as a block, so that a person can read it."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _text)

if __name__ == "__main__":
    sys.exit(main())
