"""Asks a resolver and waits for what it finds."""

from __future__ import annotations

import hashlib
import os
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from modelward_agent.identity.artifact import Artifact, Identity
from modelward_agent.identity.resolver import Resolver

from tests.unit.identity_files import artifact


def wait(resolver: Resolver, count: int = 1, seconds: float = 120) -> list[tuple[Artifact, Identity]]:
    """The next results, at least ``count`` of them."""
    found: list[tuple[Artifact, Identity]] = []
    until = time.monotonic() + seconds
    while len(found) < count and time.monotonic() < until:
        found += resolver.results()
        time.sleep(0.01)
    return found


def until(resolver: Resolver, holds: Callable[[Identity], object], seconds: float = 120) -> Identity:
    """The first identity of any instance for which something holds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for _, identity in resolver.results():
            if holds(identity):
                return identity
        time.sleep(0.01)
    raise TimeoutError("no such identity")


def last(resolver: Resolver, seconds: float = 120) -> dict[int, Identity]:
    """What each instance is in the end, once nothing is unfinished."""
    found: dict[int, Identity] = {}
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found |= {of.instance: identity for of, identity in resolver.results()}
        if not resolver.unfinished():
            return found
        time.sleep(0.01)
    raise TimeoutError(f"still unfinished: {resolver.unfinished()}")


def resolve(resolver: Resolver, *artifacts: Artifact) -> Identity:
    """What one instance, which opened these, is in the end."""
    for each in artifacts:
        resolver.submit(each)
    return last(resolver)[artifacts[0].instance]


def loaded(*paths: Path, instance: int = 1) -> list[Artifact]:
    """Artifacts as the kernel reports them when this process opens these names, following links."""
    return [artifact(path.resolve(), instance, asked=os.fsencode(path) if path.is_symlink() else b"") for path in paths]


def sha256sum(path: Path) -> str:
    return subprocess.check_output(["sha256sum", path]).split()[0].lstrip(b"\\").decode()


def joint(paths: Iterable[Path]) -> str:
    """The documented digest of a model of several files, worked out by other means."""
    return hashlib.sha256("\n".join(sorted(map(sha256sum, paths))).encode()).hexdigest()
