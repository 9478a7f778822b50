"""The servers of ``make phases``: every module here has a list ``SERVERS``."""

from __future__ import annotations

import importlib
import pkgutil

from tests.phases.server import Server


def all_servers() -> list[Server]:
    """Every server, in the order of modules and of their lists."""
    found: list[Server] = []
    for module in sorted(pkgutil.iter_modules(__path__), key=lambda m: m.name):
        found += importlib.import_module(f"{__name__}.{module.name}").SERVERS
    names = [server.name for server in found]
    if doubled := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"two servers are called {', '.join(sorted(doubled))}")
    return found
