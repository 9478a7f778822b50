"""A folder of rules with good and broken ones among them: what is broken is said, and the rest works."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stack import Whole, running

pytestmark = pytest.mark.kernel

_GOOD = """
title: Open of the file that this test opens
id: 0d3b3f6a-2a53-4d0e-8f63-5e1d4f5f9a01
status: test
logsource: {product: modelward, category: file_open}
detection:
  this:
    file.path|endswith: /opened-by-the-test
  condition: this
level: low
tags: [attack.t1005, atlas.aml.t0011]
modelward:
  reason: The test wants to see it.
  next: Nothing.
  sentence: "{file.path} was opened"
  tests:
    match:
      - {file.path: /x/opened-by-the-test}
    no_match:
      - {file.path: /x/another}
"""
_MISSPELT = _GOOD.replace("5f9a01", "5f9a02").replace("file.path|endswith", "file.paht|endswith")
_BROKEN = "title: [unclosed\ndetection: {"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Whole]:
    folder = tmp_path_factory.mktemp("rules")
    for name, text in (("good", _GOOD), ("misspelt", _MISSPELT), ("broken", _BROKEN)):
        (folder / f"{name}.yml").write_text(text)
    with running(rules=[folder]) as everything:
        yield everything


def test_good_rule_among_broken_ones_detects(whole: Whole) -> None:
    artifact, opened = whole.folder / "a.gguf", whole.folder / "opened-by-the-test"
    for path in (artifact, opened):
        path.write_bytes(b"GGUF")
    code = "import os, sys; [os.close(os.open(path, os.O_RDONLY)) for path in sys.argv[1:]]"
    subprocess.run([sys.executable, "-c", code, str(artifact), str(opened)], check=True)
    whole.watch.settle()
    found = [(d.rule, d.file) for d in whole.watch.all() if d.file.startswith(str(whole.folder))]
    assert found == [("good", str(opened))]


def test_broken_rules_are_named_with_what_is_wrong(whole: Whole) -> None:
    problems = whole.console.problems()
    named = {Path(problem["file"]).name: problem for problem in problems}
    assert set(named) == {"misspelt.yml", "broken.yml"}
    assert "did you mean 'file.path'" in named["misspelt.yml"]["message"]
    assert all(problem["line"] > 0 for problem in problems)
