"""The escape that makes hostile text inert: reversible, and nothing of it reaches a screen."""

from __future__ import annotations

import io
import logging
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelward_proto.logs import TextFormatter
from modelward_proto.text import escape, is_inert, quote_arguments, split_arguments, unescape

RAW = st.one_of(st.binary(max_size=400), st.text(max_size=300).map(lambda text: text.encode("utf-8", "surrogatepass")))


@given(RAW)
def test_an_escaped_text_does_not_give_its_bytes_back(raw: bytes) -> None:
    assert unescape(escape(raw)) == raw


@given(RAW)
def test_an_escaped_text_holds_what_a_screen_obeys(raw: bytes) -> None:
    text = escape(raw)
    text.encode("utf-8")
    assert is_inert(text)
    assert not [char for char in text if unicodedata.category(char) in ("Cc", "Cf", "Zl", "Zp", "Cs", "Co", "Cn")]


@given(st.lists(st.binary(max_size=30), max_size=8))
def test_a_command_line_splits_into_other_arguments(arguments: list[bytes]) -> None:
    assert split_arguments(quote_arguments(arguments)) == arguments


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (b"/srv/model.gguf", "/srv/model.gguf"),
        (b"a\nb", "a\\x0ab"),
        (b"\\x41", "\\x5cx41"),
        (b"\xff\xfe", "\\xff\\xfe"),
        ("\u202e".encode(), "\\xe2\\x80\\xae"),
        ("naïve-模型".encode(), "naïve-模型"),
        (b"\xed\xa0\x80", "\\xed\\xa0\\x80"),
        (b"\xc2\x85", "\\xc2\\x85"),
    ],
)
def test_a_text_is_escaped_otherwise(raw: bytes, shown: str) -> None:
    assert escape(raw) == shown


@pytest.mark.parametrize("text", ["a\nb", "\\", "\\x4", "\\xZZ", "\u202e", "\x7f", "\u2028"])
def test_what_was_never_escaped_passes_as_inert(text: str) -> None:
    assert not is_inert(text)


def test_an_error_in_the_log_writes_to_the_terminal() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(TextFormatter())
    log = logging.Logger("of this test")
    log.addHandler(handler)
    try:
        raise ValueError("a \x1b]0;owned\x07 title\u202e of \udc9b")
    except ValueError:
        log.exception("not \x1b[2J read")
    first, *_, last = stream.getvalue().splitlines()
    assert first.endswith(r"not \x1b[2J read")
    assert last == r"ValueError: a \x1b]0;owned\x07 title\xe2\x80\xae of \x9b"
