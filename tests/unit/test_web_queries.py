"""Filters of the API: what becomes a time, and that a value is only ever a parameter."""

from __future__ import annotations

import pytest
from modelward_collector.web.filters import BadFilter, instant
from modelward_collector.web.listings import LISTINGS
from modelward_collector.web.queries import listing

NOON = 1_764_072_000.0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", NOON - 90),
        ("15m", NOON - 900),
        ("24h", NOON - 86_400),
        ("7d", NOON - 604_800),
        ("2w", NOON - 1_209_600),
        ("2025-11-25T12:00:00Z", NOON),
        ("2025-11-25T12:00:00", NOON),
        ("2025-11-25T14:00:00+02:00", NOON),
        ("2025-11-25", NOON - 43_200),
    ],
)
def test_a_span_or_a_time_is_an_instant(text: str, seconds: float) -> None:
    assert instant(text, NOON) == int(seconds * 1e9)


@pytest.mark.parametrize("text", ["", "5", "h", "-5m", "5 m", "24H", "999999999d", "2025-13-01", "now", "９m"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(BadFilter):
        instant(text, NOON)


@pytest.mark.parametrize("name", LISTINGS)
def test_no_value_of_a_filter_stands_in_the_sql(name: str) -> None:
    for key in LISTINGS[name].filters:
        if key in ("since", "until", "severity", "min_severity", "event", "phase", "names", "silenced", "active"):
            continue
        sql, parameters, _ = listing(name, {key: "vAlUe='\"`"})
        assert "vAlUe" not in sql
        assert "vAlUe='\"`" in parameters.values()


@pytest.mark.parametrize("given", [{"limit": "0"}, {"limit": "x"}, {"limit": "9" * 5000}, {"nosuch": "1"}, {"q": "x" * 30_000}])
def test_a_filter_that_cannot_be_right_is_refused(given: dict[str, str]) -> None:
    with pytest.raises(BadFilter):
        listing("events", given)


def test_events_without_a_span_are_those_of_the_last_day() -> None:
    assert "since" in listing("events", {})[1]
    assert "since" not in listing("events", {"names": "a/b/1/2"})[1]
