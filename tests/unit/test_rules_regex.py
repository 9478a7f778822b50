"""Regular expressions mean the same in polars (Rust), RE2 and a plain reading of the pattern."""

from __future__ import annotations

import re

import polars as pl
import pytest
import re2  # type: ignore[import-untyped]
from hypothesis import given, settings
from hypothesis import strategies as st
from modelward_collector.rules import regex

CHARS = "aAbBkKsSzZ019_ -.\n/\\é\u212a\u017fİ١"
TEXTS = st.text(st.sampled_from(CHARS), max_size=8)
ATOMS = st.one_of(
    st.sampled_from([*"aAkKsz0_-/é", ".", r"\d", r"\w", r"\s", r"\D", r"\W", r"\S", r"\.", r"\\", r"\n", r"\x41"]),
    st.sampled_from(["[a-k]", "[^a-k]", r"[\w.]", r"[A-Z0-9-]", r"[^\d]", r"[\]^-]"]),
)
QUANTIFIERS = st.sampled_from(["", "", "", "*", "+", "?", "{2}", "{1,2}", "{0,}", "*?", "+?"])
PIECES = st.builds("{}{}".format, ATOMS, QUANTIFIERS)
BRANCHES = st.lists(PIECES, max_size=3).map("".join)
GROUPS = st.builds("({}|{}){}".format, BRANCHES, BRANCHES, QUANTIFIERS)
EDGES = st.sampled_from(["", "^", r"\b"])
PATTERNS = st.builds("{}{}{}{}".format, EDGES, BRANCHES, st.one_of(GROUPS, BRANCHES), st.sampled_from(["", "$", r"\b"]))


def polars_finds(pattern: str, text: str) -> bool:
    return bool(pl.Series([text]).str.contains(pattern)[0])


def re2_finds(pattern: str, text: str) -> bool:
    return re2.search(pattern.replace("(?-u:", "(?:"), text) is not None


def plainly(pattern: str, text: str, ignore_case: bool) -> bool:
    """Python's own engine with ASCII sets; its ``$`` would also match before a last newline."""
    flags = re.ASCII | re.DOTALL | (re.IGNORECASE if ignore_case else 0)
    ends = re.sub(r"\$$", r"\\Z", pattern) if not pattern.endswith(r"\$") else pattern
    return re.search(ends, text, flags) is not None


@settings(max_examples=400, deadline=None)
@given(PATTERNS, TEXTS, st.booleans())
def test_engines_agree_on_every_pattern_of_the_subset(pattern: str, text: str, ignore_case: bool) -> None:
    ignore_case = ignore_case and pattern.isascii()
    canonical = regex.common(pattern, ignore_case)
    wanted = plainly(pattern, text, ignore_case)
    assert polars_finds(canonical, text) is wanted
    assert re2_finds(canonical, text) is wanted


@given(st.text(max_size=12))
@settings(max_examples=200, deadline=None)
def test_an_escaped_literal_finds_itself_in_both_engines(text: str) -> None:
    pattern = "(?s)^" + regex.escape(text) + "$"
    assert polars_finds(pattern, text)
    assert re2_finds(pattern, text)


@given(st.text(max_size=20))
@settings(max_examples=400, deadline=None)
def test_any_pattern_is_either_refused_or_taken_by_both_engines(pattern: str) -> None:
    try:
        canonical = regex.common(pattern)
    except regex.RegexError:
        return
    polars_finds(canonical, "")
    re2_finds(canonical, "")


@pytest.mark.parametrize("letter", ["k", "s", "i"])
def test_ignoring_case_does_not_reach_letters_outside_ascii(letter: str) -> None:
    canonical = regex.common(letter, ignore_case=True)
    assert polars_finds(canonical, letter.upper())
    assert not any(polars_finds(canonical, other) for other in "\u212a\u017fİ")
