"""Which user class is really faster: ratios with 95 % intervals, from isolated, interleaved rounds.

In every round each user class has a slot to itself, so that all of them meet the same drift of the machine, and the
rounds, not the single pages, are what is repeated. Given one value a round (pages a second, a percentile, CPU time a
page: that of a slot, or the mean of several), this module says how many times the reference's value a class has, and
how sure that is. It is arithmetic alone: running the rounds, reading values and steal, and laying out results belong to
others.

The method, fixed before any result is seen:

1. Logarithms: classes differ by factors. By least squares, log(value) = class + round. Where every round is complete,
   the ratio of two classes is thereby the geometric mean of the ratios within the rounds. A missing value leaves the
   others of its round usable.
2. Steal, the share of CPU time that the hypervisor gave to others, enters that model as one more term with one slope
   for all classes, if all of this holds: it is known for every slot; it differs between slots by more than class and
   round explain; two degrees of freedom are left besides its slope (with two classes: four rounds); and the slope
   has the sign that physics allows (it can only lower pages a second, only raise times). Otherwise nothing is adjusted.
3. Scatter is each class's own, from its residuals in the common model: sum of squares by degrees of freedom (HC2 of
   MacKinnon and White, 1985, averaged over a class). A class that jumps about does not blur the others, and no quiet
   ones make it look calm, as one pooled scatter would.
4. The interval is Student's t, its degrees of freedom after Satterthwaite (1946), with the covariance of the residuals
   as in Bell and McCaffrey (2002). With two classes this is exactly the paired t-test of the logarithms, or with steal
   the regression of their differences. With many classes the round's effect is known from all of them, each class
   brings degrees of freedom of its own, and few rounds show more than a paired t-test can: with 15 classes the
   interval is a quarter narrower at 3 rounds, a tenth at 5.

5. Intervals of one table hold together: of 100 runs with equal classes, at most 5 show any difference. Which pairs
   belong together is settled before the data is seen: the comparisons with a reference that was named beforehand, or
   all pairs where the slowest or the fastest is found in the data. Each pair gets the same smaller error, chosen such
   that the smallest p-value of all pairs falls below it in 5 of 100 runs (the single-step minP method of Westfall and
   Young, 1993; see Herberich, Sikorski and Hothorn, 2010, for the like under unequal variances). How the smallest
   p-value scatters is simulated. In each draw all classes are equal, and each has the scatter that was estimated of it;
   rounds and steal are those of the run; step 3 and what follows it is computed again (a parametric bootstrap, as in
   Krishnamoorthy, Lu and Mathew, 2007). The draws are the same for the same slots. A single pair keeps its plain t.

The intervals of Games and Howell (1976) and of Dunnett's T3 (1980) need no simulation, but they know neither rounds and
steal nor a reference named beforehand, and the former are too narrow where rounds are few.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from math import exp, isfinite, log, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dbkit.analysis.formats import decimals, interval

CONFIDENCE = 0.95
MIN_ROUNDS = 3  # with fewer, the scatter between rounds is a guess
SMALLEST_RATIO = 1.03  # the smallest difference that further rounds are advised for
MIN_DEGREES_OF_FREEDOM = 2  # left when steal is fitted: with one, the wider quantile costs more than steal explains
LARGEST_LOG = 30.0  # of a ratio and its interval's ends: further out, 10 to the 13th, they say nothing more
ROUNDING = 1e-12  # added to an interval's half-width, so that the arithmetic's own rounding never shows a difference
DRAWS = 4000  # of the simulation: the error of a table is then right to a third of a percent point
LEAST_DRAWS = 20  # of them below the quantile that is sought
DRAWS_AT_A_TIME = 500  # so that they stay in the processor's cache
DENSE_WEIGHTS = 1_000_000  # of the simulation; with more of them, most are left out
SMALLEST_WEIGHT = 1e-6  # of a pair's largest, below which one is left out: together they change an interval by less
SEED = 1  # of the simulation: the same slots have the same intervals

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
Pair = tuple[str, str]
"""A user class and the one that it is compared with."""


@dataclass(frozen=True, slots=True)
class Quantity:
    """What is compared, and how a difference in it is put into words.

    `words` is a format with the fields `user_class`, `ratio` and `reference`. `steal_raises` says which way stolen CPU
    time can move the value: up (times, CPU time a page) or down (pages a second).
    """

    words: str
    steal_raises: bool


PAGES_PER_S = Quantity("{user_class} serves {ratio} the pages of {reference}", steal_raises=False)
CLIENT_CPU_MS = Quantity("{user_class} takes {ratio} the client CPU of {reference}", steal_raises=True)
SERVER_CPU_MS = Quantity("{user_class} takes {ratio} the server CPU of {reference}", steal_raises=True)


def response_time(statistic: str) -> Quantity:
    """The quantity for one statistic of the response time, such as `p95` or `mean`."""
    return Quantity(f"{{user_class}}'s {statistic} is {{ratio}} that of {{reference}}", steal_raises=True)


@dataclass(frozen=True, slots=True)
class Observation:
    """The value of one quantity in one round.

    `value` is above 0 and finite. `steal` is the share of the machine's CPU time stolen during the slot, 0 to 1, or
    None where the system does not report it. Anything else raises ValueError.
    """

    user_class: str
    round: int
    value: float
    steal: float | None

    def __post_init__(self) -> None:
        slot = f"{self.user_class} in round {self.round}"
        if not (isfinite(self.value) and self.value > 0):
            raise ValueError(f"{slot}: the value is {self.value}; only a finite one above 0 has a ratio")
        if self.steal is not None and not 0 <= self.steal <= 1:
            raise ValueError(f"{slot}: steal is {self.steal}; it is a share, 0 to 1, or None")


@dataclass(frozen=True, slots=True)
class Comparison:
    """How many times the reference's value a user class has.

    `rounds` counts the rounds in which both have a slot. `ratio` is None where there is none. `low` and `high`, the
    ends of the 95 % interval, are None below `MIN_ROUNDS`. `adjusted` says whether steal was taken out.
    `rounds_needed` is how many rounds would do, None where those at hand do: see `compare`.
    """

    user_class: str
    reference: str
    rounds: int
    ratio: float | None
    low: float | None
    high: float | None
    adjusted: bool
    rounds_needed: int | None

    @property
    def shown(self) -> bool:
        """Whether a difference is shown: the interval leaves out 1."""
        return self.low is not None and self.high is not None and not self.low <= 1 <= self.high


def compare(observations: Sequence[Observation], reference: str, quantity: Quantity) -> dict[str, Comparison]:
    """Compare every other user class with `reference`, which was named before the data was seen.

    The result is keyed by user class, in order of names; its intervals hold together. See `Model`. Raises ValueError if
    no observation is of `reference`.
    """
    model = Model(observations, quantity)
    model.check_name(reference)
    others = [name for name in model.names if name != reference]
    error = model.error_of_each([(name, reference) for name in others])
    return {name: model.compare(name, reference, error) for name in others}


def _student_t() -> Any:
    """Where Student's t distribution is."""
    # here, as it takes a fifth of all imports, and workers have no verdicts; scipy.stats would take more
    from scipy import special

    return special


def quantile_of_t(degrees_of_freedom: float, error: float) -> float:
    """The half-width, in standard errors, of an interval that misses in a share `error` of runs."""
    return float(_student_t().stdtrit(degrees_of_freedom, 1 - error / 2))


class Model:
    """The least squares of one quantity of one run: an effect of each class, of each round and, if it helps, of steal.

    All of a run's observations of the quantity belong in one model, also those of classes that are of no interest: each
    helps to estimate what the rounds and the steal did. Intervals that are shown together take their error from one
    call of `error_of_each`.
    """

    def __init__(self, observations: Sequence[Observation], quantity: Quantity) -> None:
        # in one order, however they come, so that the simulation draws the same for the same slots
        slots = sorted(observations, key=lambda slot: (slot.user_class, slot.round, slot.value, slot.steal or 0.0))
        self.names = sorted({slot.user_class for slot in slots})
        """The names of the user classes."""
        self._places = {name: place for place, name in enumerate(self.names)}
        rounds = {number: place for place, number in enumerate(sorted({slot.round for slot in slots}))}
        self._class_of = np.array([self._places[slot.user_class] for slot in slots], dtype=int)
        self._round_of = np.array([rounds[slot.round] for slot in slots], dtype=int)
        self._log_value = np.log(np.array([slot.value for slot in slots], dtype=float))
        self._of_class = np.eye(len(self.names))[self._class_of]
        of_round = np.eye(len(rounds))[self._round_of]
        ran = (self._of_class.T @ of_round > 0).astype(int)
        self._common_rounds = ran @ ran.T

        # Everything estimated is linear in the logarithms. `_effect_of` gives each class's effect.
        design = np.hstack([self._of_class, of_round])
        gram_inverse = np.linalg.pinv(design.T @ design, rcond=1e-9, hermitian=True)
        self._coefficient_of = gram_inverse @ design.T
        self._effect_of = self._coefficient_of[: len(self.names)]
        estimable = gram_inverse @ (design.T @ design)
        # classes that rounds connect, by way of others or at once, share a direction that the design cannot determine
        self._connected = np.eye(len(self.names)) - estimable[: len(self.names), : len(self.names)] > 1e-9

        # Adding steal to the model changes all by one outer product (the theorem of Frisch, Waugh and Lovell).
        self.adjusted = False
        """Whether steal was taken out."""
        self._unexplained = self._slope_of = np.zeros(len(slots))
        known = [slot.steal for slot in slots if slot.steal is not None]
        if len(known) == len(slots):
            steal = np.array(known, dtype=float)
            unexplained = self._residuals(steal)
            free = len(slots) - round(np.trace(estimable)) - 1
            if (
                np.linalg.norm(unexplained) > 1e-9
                and free >= MIN_DEGREES_OF_FREEDOM
                and (unexplained @ self._log_value > 0) == quantity.steal_raises
            ):
                self.adjusted = True
                self._slope_of = unexplained / (unexplained @ unexplained)
                self._effect_of = self._effect_of - np.outer(self._effect_of @ steal, self._slope_of)
                self._unexplained = unexplained

    def check_name(self, name: str) -> None:
        """Raise ValueError if no observation is of this class."""
        if name not in self._places:
            raise ValueError(f"no observation of {name}; there are: {', '.join(self.names) or 'none'}")

    def levels(self) -> dict[str, float]:
        """Each class's value in the mean round, with the mean steal where that was taken out.

        The ratio of two levels is the ratio that `compare` gives. Where every round is complete and steal is not taken
        out, a level is the geometric mean of the class's values.
        """
        effects = self._effect_of @ self._log_value
        others = self._log_value - effects[self._class_of]
        levels = {}
        for name, place in self._places.items():
            of_connected = self._connected[place][self._class_of]
            levels[name] = exp(effects[place] + others[of_connected].mean())
        return levels

    def error_of_each(self, pairs: Sequence[Pair] | None = None, error: float = 1 - CONFIDENCE) -> float:
        """The error, 0 to 1, that each of the `pairs` may have for their intervals to hold together.

        They miss in a share `error` of runs, 0.05 by default. None stands for all pairs. Pairs that have no interval do
        not count. A single pair may have all of it.
        """
        family = [
            (self._places[name], self._places[reference])
            for name, reference in (combinations(self.names, 2) if pairs is None else pairs)
            if name in self._places and reference in self._places
        ]
        family = [pair for pair in family if self._common_rounds[pair] >= MIN_ROUNDS]
        if len(family) <= 1:
            return error
        if error * DRAWS < LEAST_DRAWS:  # too few of the draws to know it by: shared equally, which is never too much
            return error / len(family)
        return min(float(np.quantile(self._smallest_p(family), error)), error)

    def compare(self, name: str, reference: str, error: float) -> Comparison:
        """Compare a class with another; the interval misses the true ratio in a share `error` of runs.

        `rounds_needed`, where no difference is shown: with the scatter seen, the number of rounds at which the
        interval's half-width comes down to the difference seen, or to 3 % where that is smaller. It is an estimate, and
        about even odds that the difference, if real, is shown then. None where a difference is shown, or where the
        half-width is within 3 % already; `MIN_ROUNDS` where there are fewer.

        Raises ValueError if no observation is of one of them.
        """
        self.check_name(name)
        self.check_name(reference)
        one, other = self._places[name], self._places[reference]
        rounds = int(self._common_rounds[one, other])
        if rounds == 0:
            return Comparison(name, reference, 0, None, None, None, self.adjusted, MIN_ROUNDS)
        weights = self._effect_of[one] - self._effect_of[other]
        log_ratio = min(max(float(weights @ self._log_value), -LARGEST_LOG), LARGEST_LOG)
        if rounds < MIN_ROUNDS:
            return Comparison(name, reference, rounds, exp(log_ratio), None, None, self.adjusted, MIN_ROUNDS)

        class_share = weights**2 @ self._of_class
        ratio_variance = float(class_share @ self._variance)
        part = class_share * self._variance / self._freedom
        spread = float(part @ self._covariance @ part)
        degrees_of_freedom = ratio_variance**2 / spread if spread > 0 else 1.0  # no scatter: any will do

        def half_width(at_rounds: int) -> float:
            more = at_rounds / rounds
            return quantile_of_t(degrees_of_freedom * more, error) * sqrt(ratio_variance / more)

        half = half_width(rounds) + ROUNDING
        rounds_needed = None
        to_show = max(abs(log_ratio), log(SMALLEST_RATIO))
        if abs(log_ratio) <= half and half > to_show:
            candidates = range(rounds, 1_000_000)
            rounds_needed = rounds + bisect_left(candidates, -to_show, key=lambda at_rounds: -half_width(at_rounds))
        low, high = exp(max(log_ratio - half, -LARGEST_LOG)), exp(min(log_ratio + half, LARGEST_LOG))
        return Comparison(name, reference, rounds, exp(log_ratio), low, high, self.adjusted, rounds_needed)

    def _residuals(self, values: Floats) -> Floats:
        """What classes and rounds, and steal where it is taken out, leave of values; a row a slot."""
        coefficients = self._coefficient_of @ values
        left: Floats = values - coefficients[self._class_of] - coefficients[len(self.names) + self._round_of]
        if self.adjusted:
            left -= np.multiply.outer(self._unexplained, self._slope_of @ values)
        return left

    @cached_property
    def _residual_of(self) -> Floats:
        return self._residuals(np.eye(len(self._log_value)))

    @cached_property
    def _freedom(self) -> Floats:
        """Degrees of freedom of each class's residuals.

        A class whose slots are all needed to fit its own effect has none, no residuals, and no part in other pairs.
        """
        freedom: Floats = np.maximum(np.diag(self._residual_of) @ self._of_class, 1e-9)
        return freedom

    @cached_property
    def _variance(self) -> Floats:
        """Each class's scatter in the run."""
        return self._variances(self._residuals(self._log_value))

    @cached_property
    def _covariance(self) -> Floats:
        """How the squared residuals of two classes vary together, for Satterthwaite's degrees of freedom."""
        shared: Floats = self._of_class.T @ self._residual_of**2 @ self._of_class
        return shared

    def _variances(self, residuals: Floats) -> Floats:
        """Each class's scatter, from residuals with a row a slot."""
        variances: Floats = ((self._of_class.T @ residuals**2).T / self._freedom).T
        return variances

    @cached_property
    def _drawn(self) -> tuple[Floats, Floats]:
        """Effects and variances of each class in many runs in which all classes are equal; a row a class."""
        scatter = np.sqrt(self._variance)[self._class_of]
        random = np.random.default_rng(SEED)
        effects, variances = np.empty((2, len(self.names), DRAWS))
        for begin in range(0, DRAWS, DRAWS_AT_A_TIME):
            now = slice(begin, begin + DRAWS_AT_A_TIME)
            drawn = scatter[:, None] * random.standard_normal((len(scatter), DRAWS_AT_A_TIME))
            effects[:, now] = self._effect_of @ drawn
            variances[:, now] = self._variances(self._residuals(drawn))
        return effects, variances

    def _smallest_p(self, pairs: Sequence[tuple[int, int]]) -> Floats:
        """The smallest of the pairs' p-values in each of many runs in which all classes are equal."""
        one, other = np.array(pairs).T
        class_share = (self._effect_of[one] - self._effect_of[other]) ** 2 @ self._of_class
        weights, first, second = self._spread_weights(class_share)
        all_effects, all_variances = self._drawn
        smallest = []
        for begin in range(0, DRAWS, DRAWS_AT_A_TIME):
            now = slice(begin, begin + DRAWS_AT_A_TIME)
            effects, variances = all_effects[:, now], all_variances[:, now]
            pair_variances = class_share @ variances
            spread = weights @ (variances[first] * variances[second])
            with np.errstate(divide="ignore", invalid="ignore"):
                freedom = pair_variances**2 / spread
                squares = (effects[one] - effects[other]) ** 2 / pair_variances
                # Wallace's (1959) normal deviate of a t is quick, and close enough to find which pair's is the smallest
                deviates = np.sqrt(freedom * np.log1p(squares / freedom)) * (8 * freedom + 1) / (8 * freedom + 3)
            pair = np.nanargmax(np.nan_to_num(deviates, nan=-1.0), axis=0), np.arange(DRAWS_AT_A_TIME)
            smallest.append(2 * _student_t().stdtr(freedom[pair], -np.sqrt(squares[pair])))
        # no scatter at all: there is no p-value, and no difference by chance
        found: Floats = np.nan_to_num(np.concatenate(smallest), nan=1.0)
        return found

    def _spread_weights(self, class_share: Floats) -> tuple[Any, Indices, Indices]:
        """The weights of products of two variances in `part @ covariance @ part` of `compare`, a row a pair.

        Then the places of the one and of the other variance. With many pairs, weights that change nothing are left out.
        """
        first, second = np.triu_indices(len(self.names))
        scale = self._covariance[first, second] / (self._freedom[first] * self._freedom[second])
        scale = scale * np.where(first == second, 1.0, 2.0)
        if class_share.shape[0] * len(scale) <= DENSE_WEIGHTS:
            return class_share[:, first] * class_share[:, second] * scale, first, second
        from scipy import sparse

        rows = []
        for share in class_share:
            weights = share[first] * share[second] * scale
            weights[weights < SMALLEST_WEIGHT * weights.max()] = 0.0
            rows.append(sparse.csr_array(weights[None, :]))
        together = sparse.vstack(rows, format="csc")
        used = np.flatnonzero(np.diff(together.indptr))
        return together[:, used].tocsr(), first[used], second[used]


def sentence(comparison: Comparison, quantity: Quantity) -> str:
    """The verdict in words: the difference, that none is shown, or that the rounds are too few."""
    if comparison.ratio is None or comparison.low is None or comparison.high is None:
        return f"too few rounds: {comparison.rounds}, and at least {comparison.rounds_needed} are needed"
    ends = interval(comparison.low, comparison.high)
    if comparison.shown:
        ratio = f"{comparison.ratio:.{decimals(comparison.low, comparison.high)}f}×"
        words = quantity.words.format(user_class=comparison.user_class, ratio=ratio, reference=comparison.reference)
        return f"{words} {ends}"
    if comparison.rounds_needed is None:
        return f"no difference shown {ends}"
    return f"no difference shown {ends}: about {comparison.rounds_needed} rounds would be enough"
