"""Entry point of ``modelward``: looks whether its extra is installed before anything imports it."""

from __future__ import annotations

from modelward_proto.extras import need


def main() -> int:
    """Run the command. Returns the exit code."""
    need("modelward", "cli", "httpx", "rich")
    from modelward_collector.operator.cli import main as run

    return run()
