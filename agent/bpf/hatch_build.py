"""Puts the kernel objects into the wheel, so that a host with the wheel needs neither clang nor headers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class BpfBuildHook(BuildHookInterface):  # type: ignore[type-arg]
    """Builds the objects if they are stale. An editable install takes those in the tree."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return
        root = Path(self.root)
        subprocess.run([sys.executable, str(root / "agent/bpf/build.py")], check=True)
        objects = sorted((root / "agent/modelward_agent/bpf").glob("*.bpf.o"))
        if not objects:
            raise RuntimeError("no kernel objects were built; see agent/bpf/build.py")
        build_data["force_include"].update({str(o): f"modelward_agent/bpf/{o.name}" for o in objects})
        build_data["pure_python"] = False
        build_data["infer_tag"] = False
        build_data["tag"] = "py3-none-linux_x86_64"
