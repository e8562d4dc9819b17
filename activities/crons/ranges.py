"""Sets of numbers as the ranges that Temporal's calendars are made of."""

from collections.abc import Iterable
from itertools import pairwise

from temporalio.client import ScheduleRange

__all__ = ["as_ranges"]


def as_ranges(numbers: Iterable[int]) -> list[ScheduleRange]:
    """As few ranges as there are gaps, or a single one with a step; Temporal takes neither 0 nor None for "all"."""
    ordered = sorted(set(numbers))
    steps = {later - earlier for earlier, later in pairwise(ordered)}
    if len(steps) == 1 and len(ordered) > 2:
        return [ScheduleRange(ordered[0], ordered[-1], steps.pop())]
    ranges: list[ScheduleRange] = []
    for number in ordered:
        if ranges and ranges[-1].end == number - 1:
            ranges[-1] = ScheduleRange(ranges[-1].start, number, 1)
        else:
            ranges.append(ScheduleRange(number, number, 1))
    return ranges
