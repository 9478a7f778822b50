"""The wheel is what a real host installs: kernel objects inside, and neither compiler nor store beside it."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def agent_host(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the agent alone, as the install instructions make it."""
    venv = tmp_path_factory.mktemp("host") / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    subprocess.run([str(venv / "bin/pip"), "install", "-q", f"{wheel}[agent]"], check=True)
    return venv


def test_wheel_holds_the_kernel_objects_and_types(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert any(n.startswith("modelward_agent/bpf/") and n.endswith(".bpf.o") for n in names)
    assert "modelward_hint.py" in names
    assert {f"modelward_{p}/py.typed" for p in ("agent", "collector", "proto")} <= set(names)


def test_agent_host_has_no_store_and_no_data_frames(agent_host: Path) -> None:
    listed = subprocess.run(
        [str(agent_host / "bin/pip"), "list", "--format=freeze"], check=True, capture_output=True, text=True
    ).stdout.lower()
    assert not [name for name in ("chdb", "polars", "pandas", "pysigma", "starlette") if name in listed]


@pytest.mark.kernel
def test_agent_from_the_wheel_checks_this_host_without_a_compiler(agent_host: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [str(agent_host / "bin/modelward-agent"), "check", "--json"],
        capture_output=True, text=True, cwd=tmp_path, env={"PATH": str(agent_host / "bin"), "HOME": os.fspath(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    assert '"exec"' in done.stdout


@pytest.mark.parametrize(("command", "extra"), [(("modelward-collector", "run"), "collector"), (("modelward", "hosts"), "cli")])
def test_command_without_its_extra_names_it(
    agent_host: Path, tmp_path: Path, command: tuple[str, str], extra: str
) -> None:
    done = subprocess.run(
        [str(agent_host / "bin" / command[0]), command[1]], capture_output=True, text=True, cwd=tmp_path, env={}
    )
    assert (done.returncode, f"modelward[{extra}]" in done.stderr) == (2, True), done.stderr
