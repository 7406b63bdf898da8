"""How sure the figure of a single condition is, by how it scatters from round to round.

How sure the difference of two conditions is, which have met the same rounds, is another question: see
`dbkit.analysis.verdict`.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import exp, log, sqrt
from statistics import stdev

from dbkit.analysis.verdict import CONFIDENCE, MIN_ROUNDS, quantile_of_t


def interval_around(figure: float | None, by_slot: Iterable[float | None]) -> tuple[float, float] | None:
    """The 95 % interval around a figure, from the same figure in each of its slots.

    It is Student's t of their logarithms. None where the figure is unknown or a slot has none, or below `MIN_ROUNDS`.
    """
    values = list(by_slot)
    known = [value for value in values if value is not None and value > 0]
    if not figure or len(known) < max(len(values), MIN_ROUNDS):
        return None
    quantile = quantile_of_t(len(known) - 1, 1 - CONFIDENCE)
    half_width = quantile * stdev(map(log, known)) / sqrt(len(known))
    return figure * exp(-half_width), figure * exp(half_width)
