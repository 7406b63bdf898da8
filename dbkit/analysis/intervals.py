"""How sure the figure of a single condition is, by how it scatters from round to round.

Where a condition has several slots in a round, the same processes have read them, and their mean is what is repeated.

How sure the difference of two conditions is, which have met the same rounds, is another question: see
`dbkit.analysis.verdict`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from math import exp, log, sqrt
from statistics import fmean, geometric_mean, stdev

from dbkit.analysis.records import SlotRow
from dbkit.analysis.verdict import CONFIDENCE, MIN_ROUNDS, quantile_of_t


def by_round(slots: Iterable[SlotRow], column: str) -> list[float | None]:
    """A figure of a condition in each round, as `mean_of_slots`; None where it is not known in some slot of that."""
    of_round: defaultdict[int, list[float | None]] = defaultdict(list)
    for slot in slots:
        of_round[slot.round].append(getattr(slot, column))
    means: list[float | None] = []
    for values in of_round.values():
        known = [value for value in values if value is not None]
        means.append(mean_of_slots(known) if len(known) == len(values) else None)
    return means


def mean_of_slots(values: Sequence[float]) -> float:
    """The geometric mean; the arithmetic one where some are 0. Values that are all alike have that as their mean."""
    if len({*values}) == 1:
        return values[0]
    return geometric_mean(values) if all(value > 0 for value in values) else fmean(values)


def interval_around(figure: float | None, rounds: Iterable[float | None]) -> tuple[float, float] | None:
    """The 95 % interval around a figure, from the same figure in each round.

    It is Student's t of their logarithms. None where the figure is unknown or a round has none, or below `MIN_ROUNDS`.
    """
    values = list(rounds)
    known = [value for value in values if value is not None and value > 0]
    if not figure or len(known) < max(len(values), MIN_ROUNDS):
        return None
    quantile = quantile_of_t(len(known) - 1, 1 - CONFIDENCE)
    half_width = quantile * stdev(map(log, known)) / sqrt(len(known))
    return figure * exp(-half_width), figure * exp(half_width)
