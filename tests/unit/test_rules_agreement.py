"""The compiled rule and a plain reading of the same YAML agree on every event: two implementations, nothing
shared.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from modelward_collector.rules.parse import parse
from modelward_collector.rules.rule import Row, Rule
from modelward_collector.rules.self_tests import matched

TEXT_FIELDS = ("file.path", "process.chain")
PHASES = ("start", "load", "warmup", "serve", "stop")
COMMON = "aAk\u212a/"  # few, so that values are often found in texts; U+212A is the Kelvin sign, k in Unicode's folding
RARE = "KsS\u017fİéÉz\\. -\n"
ADDRESSES = ("10.1.2.3", "10.200.0.1", "127.0.0.1", "::1", "fd00::1", "::ffff:10.1.2.3", "no address", "")
_LOWER = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz")

# -- the plain reading ---------------------------------------------------------------------------------------


def _units(value: str) -> list[str]:
    """Sigma's escapes: a backslash before * ? \\ makes it a letter, any other backslash stands for itself."""
    units: list[str] = []
    at = 0
    while at < len(value):
        if value[at] == "\\" and value[at + 1 : at + 2] in ("*", "?", "\\"):
            units.append("=" + value[at + 1])
            at += 2
        else:
            units.append(value[at] if value[at] in "*?" else "=" + value[at])
            at += 1
    return units


def _like(units: list[str], text: str) -> bool:
    if not units:
        return not text
    if units[0] == "*":
        return any(_like(units[1:], text[at:]) for at in range(len(text) + 1))
    return bool(text) and (units[0] == "?" or units[0][1] == text[0]) and _like(units[1:], text[1:])


def _one(value: Any, modifiers: list[str], actual: Any, row: Mapping[str, Any]) -> bool:
    if "fieldref" in modifiers:
        other = row[value]
        return bool(actual.translate(_LOWER) == other.translate(_LOWER) if isinstance(actual, str) else actual == other)
    for name in ("gt", "gte", "lt", "lte"):
        if name in modifiers:
            sign = {
                "gt": actual > value,
                "gte": actual >= value,
                "lt": actual < value,
                "lte": actual <= value,
            }
            return sign[name]
    if "cidr" in modifiers:
        try:
            address = ipaddress.ip_address(actual)
        except ValueError:
            return False
        return (getattr(address, "ipv4_mapped", None) or address) in ipaddress.ip_network(value)
    if "re" in modifiers:
        return re.search(value, actual, re.ASCII | re.DOTALL | (re.IGNORECASE if "i" in modifiers else 0)) is not None
    if not isinstance(actual, str):
        return bool(actual == value)
    units = _units(value)
    if "contains" in modifiers:
        units = ["*", *units, "*"]
    elif "startswith" in modifiers:
        units = [*units, "*"]
    elif "endswith" in modifiers:
        units = ["*", *units]
    if "cased" not in modifiers:
        units = [unit.translate(_LOWER) for unit in units]
        actual = actual.translate(_LOWER)
    return _like(units, actual)


def _item(key: str, value: Any, row: Mapping[str, Any]) -> bool:
    name, *modifiers = key.split("|")
    results = [_one(one, modifiers, row[name], row) for one in (value if isinstance(value, list) else [value])]
    return all(results) if "all" in modifiers else any(results)


def _selection(body: Any, row: Mapping[str, Any]) -> bool:
    if isinstance(body, list):
        return any(_selection(part, row) for part in body)
    return all(_item(key, value, row) for key, value in body.items())


CONDITIONS = {
    "one": lambda one, two, three: one,
    "not one": lambda one, two, three: not one,
    "one and not two": lambda one, two, three: one and not two,
    "one or two and three": lambda one, two, three: one or (two and three),
    "not (one or two) and three": lambda one, two, three: not (one or two) and three,
    "1 of t*": lambda one, two, three: two or three,
    "not all of them": lambda one, two, three: not (one and two and three),
    "one and not (two and not three)": lambda one, two, three: one and not (two and not three),
}


# -- rules and events ----------------------------------------------------------------------------------------

letters = st.one_of(*[st.sampled_from(COMMON)] * 4, st.sampled_from(RARE))
texts = st.text(letters, max_size=5)
values = st.text(st.one_of(*[letters] * 6, st.sampled_from("*?")), min_size=1, max_size=3).filter(lambda v: set(v) != {"*"})


def _listed(of: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(of, st.lists(of, min_size=1, max_size=3))


def _items() -> st.SearchStrategy[tuple[str, Any]]:
    field = st.sampled_from(TEXT_FIELDS)
    shape = st.sampled_from(["", "|contains", "|startswith", "|endswith", "|contains|cased", "|cased", "|endswith|cased"])
    every = st.sampled_from(["|contains|all", "|startswith|all", "|endswith|all"])
    pattern = st.sampled_from(["a", "^a", r"k\d*$|s", r"[^a]\w", r"a.z", r"\s", "(a|k){2}", r"\bz", r"\\"])
    return st.one_of(
        *[st.tuples(st.builds("{}{}".format, field, shape), _listed(values))] * 4,
        st.tuples(st.builds("{}{}".format, field, every), st.lists(values, min_size=1, max_size=3)),
        st.tuples(st.builds("{}|re{}".format, field, st.sampled_from(["", "|i"])), _listed(pattern)),
        st.tuples(st.just("process.chain|fieldref"), st.just("file.path")),
        st.tuples(st.just("lifecycle.phase"), _listed(st.sampled_from([*PHASES, "LOAD", "s*", "?????"]))),
        st.tuples(st.just("lifecycle.phase|endswith"), st.sampled_from(["e", "t", "up"])),
        st.tuples(st.just("file.created"), st.booleans()),
        st.tuples(st.just("destination.port"), _listed(st.sampled_from([0, 22, 53, 443]))),
        st.tuples(
            st.sampled_from([f"destination.port|{op}" for op in ("gt", "gte", "lt", "lte")]),
            st.integers(0, 60),
        ),
        st.tuples(st.just("process.pid|fieldref"), st.just("process.parent.pid")),
        st.tuples(st.just("process.executable.age_s|lt"), st.sampled_from([0.5, 1, 2.5])),
        st.tuples(
            st.just("destination.address|cidr"),
            _listed(st.sampled_from(["10.0.0.0/8", "10.1.0.0/16", "::/64", "fd00::/8"])),
        ),
        st.tuples(st.just("event.name"), st.sampled_from(["exec", "connect"])),
    )


mappings = st.lists(_items(), min_size=1, max_size=3).map(dict)
selections = st.one_of(mappings, mappings, st.lists(mappings, min_size=1, max_size=2))
rows = st.fixed_dictionaries(
    {
        **dict.fromkeys(TEXT_FIELDS, texts),
        "event.name": st.sampled_from(["exec", "connect", "file_open"]),
        "lifecycle.phase": st.sampled_from(PHASES),
        "file.created": st.booleans(),
        "destination.port": st.sampled_from([0, 22, 53, 443]),
        "destination.address": st.sampled_from(ADDRESSES),
        "process.pid": st.integers(0, 2),
        "process.parent.pid": st.integers(0, 2),
        "process.executable.age_s": st.sampled_from([0.0, 0.5, 1.0, 3.0]),
    }
)


def _rule(detection: dict[str, Any]) -> Rule:
    return parse(
        "a.yml",
        yaml.safe_dump(
            {
                "title": "t",
                "id": "0d3b3f6a-2a53-4d0e-8f63-5e1d4f5f9a01",
                "level": "low",
                "tags": ["attack.t1059", "atlas.aml.t0050"],
                "logsource": {"product": "modelward"},
                "detection": detection,
                "modelward": {
                    "reason": "r",
                    "next": "n",
                    "sentence": "s",
                    "tests": {"match": [{}], "no_match": [{}]},
                },
            },
            allow_unicode=True,
        ).encode(),
    )


@settings(max_examples=400, deadline=None)
@given(
    selections,
    selections,
    selections,
    st.sampled_from(sorted(CONDITIONS)),
    st.lists(rows, min_size=3, max_size=8),
)
def test_compiled_rule_and_plain_reading_agree(one: Any, two: Any, three: Any, condition: str, events: list[Row]) -> None:
    named = {"one": one, "two": two, "three": three}
    used = (
        named
        if "them" in condition
        else {name: body for name, body in named.items() if name in condition or ("t*" in condition and name != "one")}
    )
    rule = _rule({**used, "condition": condition})
    wanted = [CONDITIONS[condition](*(_selection(named[name], row) for name in named)) for row in events]
    assert matched(rule, events) == wanted


@pytest.mark.parametrize(
    ("value", "text", "wanted"),
    [
        ("/ETC/Shadow", "/etc/shadow", True),
        ("k", "\u212a", False),  # the Kelvin sign folds to k in Unicode
        ("s", "\u017f", False),
        ("é", "É", False),
        (r"a\*b", "a*b", True),
        (r"a\*b", "axb", False),
        ("a*b", "a\nb", True),
        ("a?b", "aéb", True),
        (r"\\x1b", r"\x1b", True),
    ],
)
def test_text_compares_with_ascii_folding_and_sigmas_wildcards(value: str, text: str, wanted: bool) -> None:
    rule = _rule({"one": {"file.path": value}, "condition": "one"})
    assert matched(rule, [{"file.path": text}]) == [wanted]
