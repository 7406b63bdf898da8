"""The Universal Scalability Law of a class: what holds back pages a second as users are added, and where they peak.

By Gunther ("Guerrilla Capacity Planning", 2007) `N` users are served

    X(N) = X1 N / (1 + contention (N - 1) + coherence N (N - 1))

pages a second. `X1` is what one user is served. Contention is the share of a page for which pages wait in line, for an
interpreter lock or a pool, so that pages a second level off. Coherence is what each pair of users costs, in caches that
are fetched again or in turns that are handed over, so that pages a second fall at last.

The fit: N / X(N) is linear in three numbers that cannot be negative, so that it is found by non-negative least squares
(Lawson and Hanson, 1974) of the relative errors. Each load counts by the geometric mean of its rounds.

Intervals come from drawing as many rounds with replacement (the bootstrap of Efron, 1979), as percentiles that are
expanded for few rounds (Hesterberg, "What Teachers Should Know About the Bootstrap", 2015, section 4.4). It takes five
rounds: of three or four there are too few draws, and the intervals would be too narrow.

There is no fit where the law does not fit: where some load lies off the curve by more than 5 %, and by more than the
scatter of the rounds explains. The latter is the F test for lack of fit with repeated observations (Draper and Smith,
"Applied Regression Analysis", 3rd ed., 1998, section 2.1) at 5 %, with the rounds' own effects taken out of the
scatter. A smaller misfit is of no consequence, however sure it is. Nor is there one where the mean of a load has a
standard error of more than 10 %: then anything would fit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from math import inf, isinf, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dbkit.analysis.formats import listed, number
from dbkit.analysis.intervals import mean_of_slots
from dbkit.analysis.model_records import Law, LawPoint
from dbkit.analysis.records import SlotRow
from dbkit.analysis.rows import rounded
from dbkit.analysis.varied import line
from dbkit.analysis.verdict import CONFIDENCE, MIN_ROUNDS

Floats = NDArray[np.float64]
Ladder = Mapping[int, Mapping[int, float]]
"""Pages a second by the number of users, and then by the round."""

MIN_LOADS = 5
"""The law has three numbers; with fewer loads too little is left to see whether it fits."""
MIN_ROUNDS_OF_INTERVALS = 5
MISFIT = 0.05
"""The share by which a load may lie off the curve in any case."""
MOST_ERROR = 0.1
"""The standard error of the mean of a load, as a share, beyond which nothing is seen."""
MOST_USERS = 1e6
"""A peak beyond it is none."""
DRAWS = 500
SEED = 1
"""The same slots have the same intervals."""


_FIGURES = (
    "one_user_pages_per_s",
    *(f"{name}{end}" for name in ("contention", "coherence", "peak_users") for end in ("", "_low", "_high")),
    "peak_pages_per_s",
)
"""The figures of a `Law`."""


class NoLaw(Exception):
    """Why there is no fit, in words."""


@dataclass(frozen=True)
class Curve:
    """The law with its numbers."""

    one_user: float
    """What one user is served; the unit is that of what it was fitted to."""
    contention: float
    coherence: float

    def at(self, users: float) -> float:
        """What so many users are served."""
        others = users - 1
        return self.one_user * users / (1 + self.contention * others + self.coherence * users * others)

    @property
    def peak_users(self) -> float:
        """How many users are served the most; infinite where the more are always served more."""
        if self.coherence == 0:
            return inf
        users = max(sqrt((1 - self.contention) / self.coherence), 1.0)
        return users if users < MOST_USERS else inf


def fit(users: Floats, served: Floats) -> Curve:
    """The curve with the smallest relative errors. What so many `users` are `served` is above 0.

    Raises NoLaw where pages a second fall from the first user on, so that there is no such curve.
    """
    from scipy.optimize import nnls  # not before it is needed: it takes a while

    # N / X = a + b N + c N (N - 1), each above 0; times X / N, so that all errors are relative
    terms = np.column_stack([np.ones_like(users), users, users * (users - 1)])
    scale = np.abs(terms).max(axis=0)  # so that no column is lost beside the others
    (alone, together, pairs), _ = nnls(terms / scale * (served / users)[:, None], np.ones_like(users))
    alone, together, pairs = np.array([alone, together, pairs]) / scale
    if pairs >= alone + together:  # a second user would cost more than a page
        raise NoLaw("pages a second fall with each further user")
    return Curve(1 / (alone + together), together / (alone + together), pairs / (alone + together))


def laws(slots: Iterable[SlotRow]) -> list[Law]:
    """The law of each class, with each of its settings, that was measured with several numbers of users.

    Those that have none say why. Slots that were replaced do not count, and those in which pages arrive at a rate.
    """
    ladders: dict[tuple[str, str, str], dict[int, dict[int, list[float]]]] = {}
    for slot in slots:
        if not slot.replaced and slot.users and slot.arrivals_per_s is None:
            ladder = ladders.setdefault((slot.workload, slot.user_class, line(slot)), {})
            ladder.setdefault(slot.users, {}).setdefault(slot.round, []).append(slot.pages_per_s or 0.0)
    return [
        law_of(
            *names,
            {users: {number: mean_of_slots(each) for number, each in of.items()} for users, of in ladder.items()},
        )
        for names, ladder in sorted(ladders.items())
        if len(ladder) > 1
    ]


def law_of(workload: str, user_class: str, label: str, ladder: Ladder) -> Law:
    """The law of one class with its settings, which its `label` names, or why it has none."""
    loads, logarithms = _complete_rounds(ladder)
    served = np.exp(logarithms.mean(axis=1)) if logarithms.size else np.array([])
    figures: dict[str, Any] = dict.fromkeys(_FIGURES)
    residuals: list[float | None] = [None] * len(loads)
    try:
        curve = _fitting_curve(loads, logarithms)
        figures |= _figures(curve)
        if logarithms.shape[1] >= MIN_ROUNDS_OF_INTERVALS:
            figures |= _intervals(loads, logarithms)
        residuals = [each / curve.at(users) - 1 for users, each in zip(loads, served, strict=True)]
        sentence = _sentence(label, curve, figures, max(loads))
    except NoLaw as reason:
        sentence = f"{label}: no fit: {reason}"
    points = [
        rounded(LawPoint(users=int(users), pages_per_s=each, residual=residual))
        for users, each, residual in zip(loads, served, residuals, strict=False)  # nothing is served in no round
    ]
    law = Law(
        workload=workload,
        user_class=user_class,
        label=label,
        rounds=logarithms.shape[1],
        points=points,
        sentence=sentence,
        **figures,
    )
    return rounded(law)


def _complete_rounds(ladder: Ladder) -> tuple[Floats, Floats]:
    """The numbers of users, and the logarithms of pages a second with a row for each of them and a column a round.

    Rounds in which some load is missing, or served no page, are left out.
    """
    loads = sorted(ladder)
    rounds = sorted({number for of_load in ladder.values() for number in of_load})
    complete = [number for number in rounds if all(ladder[load].get(number, 0) > 0 for load in loads)]
    served = np.array([[ladder[load][number] for number in complete] for load in loads])
    return np.array(loads, dtype=float), np.log(served) if complete else np.empty((len(loads), 0))


def _fitting_curve(loads: Floats, logarithms: Floats) -> Curve:
    """The curve that fits. Raises NoLaw where none does."""
    if len(loads) < MIN_LOADS:
        raise NoLaw(f"it takes {MIN_LOADS} numbers of users or more, and there are {len(loads)}")
    rounds = logarithms.shape[1]
    if rounds < MIN_ROUNDS:
        raise NoLaw(f"it takes {MIN_ROUNDS} rounds in which each number of users is served, and there are {rounds}")
    if sqrt(_scatter(logarithms) / rounds) > MOST_ERROR:
        raise NoLaw("the rounds scatter too much")
    curve = fit(loads, np.exp(logarithms.mean(axis=1)))
    residuals = logarithms.mean(axis=1) - np.log([curve.at(users) for users in loads])
    worst = int(np.abs(residuals).argmax())
    off = abs(float(np.expm1(residuals[worst])))
    if off > MISFIT and _lack_of_fit(residuals, logarithms, curve) < 1 - CONFIDENCE:
        raise NoLaw(f"{loads[worst]:.0f} users lie {100 * off:.0f} % off the law, more than the rounds scatter")
    return curve


def _lack_of_fit(residuals: Floats, logarithms: Floats, curve: Curve) -> float:
    """The p-value of such residuals, if the law were true and the rounds scattered as they do."""
    from scipy.special import fdtrc

    loads, rounds = logarithms.shape
    numbers = 1 + (curve.contention > 0) + (curve.coherence > 0)
    error = _scatter(logarithms)
    misfit = rounds * float((residuals**2).sum()) / (loads - numbers)
    return float(fdtrc(loads - numbers, (loads - 1) * (rounds - 1), misfit / error)) if error > 0 else 0.0


def _scatter(logarithms: Floats) -> float:
    """The variance of a slot, with the effects of its load and its round taken out."""
    loads, rounds = logarithms.shape
    of_load, of_round = logarithms.mean(axis=1, keepdims=True), logarithms.mean(axis=0, keepdims=True)
    scatter = logarithms - of_load - of_round + logarithms.mean()
    return float((scatter**2).sum() / ((loads - 1) * (rounds - 1)))


def _intervals(loads: Floats, logarithms: Floats) -> dict[str, float | None]:
    """The ends of the 95 % intervals, by their names in `Law`."""
    from scipy.special import ndtr, stdtrit

    rounds = logarithms.shape[1]
    random = np.random.default_rng(SEED)
    curves: list[Curve] = []
    # of few rounds many draws are the same, but for their order
    all_drawn, times = np.unique(np.sort(random.integers(rounds, size=(DRAWS, rounds))), axis=0, return_counts=True)
    for drawn, count in zip(all_drawn, times, strict=True):
        with suppress(NoLaw):
            curves += [fit(loads, np.exp(logarithms[:, drawn].mean(axis=1)))] * int(count)
    quantile = stdtrit(rounds - 1, (1 + CONFIDENCE) / 2)
    share = float(ndtr(-sqrt(rounds / (rounds - 1)) * quantile))
    found: dict[str, float | None] = {}
    for name in ("contention", "coherence", "peak_users"):
        values = [getattr(curve, name) for curve in curves]
        ends = np.quantile(values, [share, 1 - share], method="inverted_cdf")  # of values that may be infinite
        found |= {f"{name}_low": _finite(ends[0]), f"{name}_high": _finite(ends[1])}
    return found


def _figures(curve: Curve) -> dict[str, float | None]:
    peak = _finite(curve.peak_users)
    return {
        "one_user_pages_per_s": curve.one_user,
        "contention": curve.contention,
        "coherence": curve.coherence,
        "peak_users": peak,
        "peak_pages_per_s": None if peak is None else curve.at(peak),
    }


def _finite(value: float) -> float | None:
    return None if isinf(value) else float(value)


def _sentence(name: str, curve: Curve, figures: Mapping[str, float | None], most: float) -> str:
    parts = []
    for words, value in (("contention", curve.contention), ("coherence", curve.coherence)):
        low, high = figures[f"{words}_low"], figures[f"{words}_high"]
        ends = "" if low is None or high is None else f" [{number(100 * low)}, {number(100 * high)}]"
        parts.append(f"{words} {number(100 * value)} %{ends}")
    if isinf(curve.peak_users):
        about_peak = "pages a second have no peak"
    else:
        users = f"{curve.peak_users:.0f}"
        about_peak = f"pages a second peak at {users} user{'' if users == '1' else 's'}"
        if (low := figures["peak_users_low"]) is not None:
            high = figures["peak_users_high"]
            about_peak += f" [{low:.0f}, {'no end' if high is None else f'{high:.0f}'}]"
        if curve.peak_users > most:
            about_peak += f", more than the {most:.0f} that were measured"
    return f"{name}: {about_peak}; {listed(parts)}"
