"""Sets of batch numbers as inclusive ranges, which is how they are kept and sent: acks come in long runs."""

from __future__ import annotations

from collections.abc import Iterable

Range = tuple[int, int]


def to_ranges(numbers: Iterable[int]) -> list[Range]:
    """The fewest inclusive ranges that hold exactly these numbers, in order."""
    ranges: list[Range] = []
    for number in sorted(set(numbers)):
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1] = (ranges[-1][0], number)
        else:
            ranges.append((number, number))
    return ranges


def within(numbers: Iterable[int], ranges: Iterable[Range]) -> list[int]:
    """Those of ``numbers`` that lie in one of the ranges. The cost does not depend on how wide a (hostile) range is."""
    spans = list(ranges)
    return [n for n in numbers if any(first <= n <= last for first, last in spans)]
