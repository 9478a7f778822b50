"""Names made to break a screen, a query or a page: inert text at every place where a person or a program
meets them.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from modelward_proto.text import escape, is_inert, quote_arguments

from tests.stack import Whole

pytestmark = pytest.mark.kernel

PROGRAM = Path(__file__).parent / "programs" / "hostile_names.py"
NAMES = (
    b"line\nbreak",
    b"quote'\"`--",
    b"<img src=x onerror=alert(1)>",
    b"\x1b[2J\x1b]0;owned\x07",
    b"\xff\xfe\xc3(",
    "\u202egpj.exe\u200b".encode(),
    b"back\\slash\\x41",
    "größe 模型".encode(),
)


@pytest.fixture(scope="module")
def folder(whole: Whole) -> str:
    """A folder in which a tracked process has used every name, as a file and as an argument; a model is named
    so as well.
    """
    place = whole.folder / "names"
    place.mkdir()
    artifact = bytes(place) + b"/model\n<b>\x1b[31m.gguf"
    Path(artifact.decode()).write_bytes(b"GGUF")
    hex_names = [name.hex() for name in NAMES]
    subprocess.run([sys.executable, str(PROGRAM), artifact, str(place), *hex_names], check=True)
    whole.watch.settle()
    return str(place)


def _events(whole: Whole, kind: str, column: str, start: str) -> set[str]:
    rows = whole.console.query(
        f"SELECT DISTINCT {column} AS text FROM events WHERE event_name = '{kind}' AND startsWith({column}, '{start}')"
    )
    return {row["text"] for row in rows}


def test_file_names_arrive_escaped_and_complete(whole: Whole, folder: str) -> None:
    stored = _events(whole, "file_open", "file_path", f"{folder}/")
    assert {escape(f"{folder}/".encode() + name) for name in NAMES} <= stored
    assert all(is_inert(text) for text in stored)


def test_arguments_arrive_escaped_and_complete(whole: Whole, folder: str) -> None:
    stored = _events(whole, "exec", "process_command_line", "/usr/bin/true ")
    assert {quote_arguments([b"/usr/bin/true", name]) for name in NAMES} <= stored


def test_no_text_of_the_interface_holds_a_control_character(whole: Whole, folder: str) -> None:
    for path in ("events", "models", "detections", "incidents", "hosts"):
        for row in whole.console.get(path, limit=1000):
            texts = [value for value in row.values() if isinstance(value, str)]
            assert all(text.isprintable() for text in texts), (path, row)


def test_tables_on_a_terminal_hold_no_control_character(whole: Whole, folder: str) -> None:
    command = [str(Path(sys.executable).parent / "modelward"), "--url", whole.console.url]
    for part in (["events", "--limit", "500"], ["models"]):
        shown = subprocess.run([*command, *part], capture_output=True, check=True).stdout.decode()
        assert all(character.isprintable() or character == "\n" for character in shown)
    listed = subprocess.run([*command, "--json", "events", "--limit", "10"], capture_output=True, check=True)
    assert listed.stdout.isascii()
    assert json.loads(listed.stdout.splitlines()[0])
