"""What every test may ask of the machine: a test that cannot run here skips and says why, and CI turns that into a failure."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest


def _kernel() -> str | None:
    if os.geteuid() != 0:
        return "kernel tests need root"
    if not Path("/sys/kernel/btf/vmlinux").exists():
        return "kernel tests need BTF (/sys/kernel/btf/vmlinux)"
    if not any(Path(__file__).parents[1].glob("agent/modelward_agent/bpf/*.bpf.o")):
        return "kernel tests need the kernel objects: run 'make bpf'"
    return None


def _browser() -> str | None:
    return None if shutil.which("chromium") and shutil.which("chromedriver") else "browser tests need Chromium and its driver"


_NEEDS = {"kernel": _kernel, "attack": _kernel, "browser": _browser}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for name, missing in _NEEDS.items():
            if item.get_closest_marker(name) and (reason := missing()):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):  # type: ignore[no-untyped-def]
    outcome = yield
    report = outcome.get_result()
    if report.skipped and os.environ.get("MODELWARD_REQUIRE") == "all":
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, and MODELWARD_REQUIRE=all allows no skip: {report.longrepr}"
