"""One wheel, several extras: a command says which one it lacks instead of failing at an import."""

from __future__ import annotations

import sys
from importlib.util import find_spec

EXIT_MISSING = 2


def need(command: str, extra: str, *modules: str) -> None:
    """Exit with one sentence when a module of the extra is not installed."""
    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        print(f"{command}: {', '.join(missing)} not installed; this needs: pip install 'modelward[{extra}]'", file=sys.stderr)
        raise SystemExit(EXIT_MISSING)
