"""Which user class is really faster: ratios with 95 % intervals, from isolated, interleaved rounds.

In every round each user class has a slot to itself, so that all of them meet the same drift of the machine, and the
rounds, not the single pages, are what is repeated. Given one value a slot (pages a second, a percentile, CPU time a
page), this module says how many times the reference's value a class has, and how sure that is. It is arithmetic alone:
running the rounds, reading values and steal, and laying out results belong to others.

The method, fixed before any result is seen:

1. Logarithms: classes differ by factors. By least squares, log(value) = class + round. Where every round is complete,
   the ratio of two classes is thereby the geometric mean of the ratios within the rounds. A slot that was run twice
   counts twice; a missing one leaves the others of its round usable.
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
   brings degrees of freedom of its own, and few rounds tell more than a paired t-test can: with 15 classes the
   interval is a quarter narrower at 3 rounds, a tenth at 5.

An interval holds for its own pair. Of 20 comparisons between equal classes, one will show a difference.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, isfinite, log, sqrt

import numpy as np
from scipy.special import stdtrit  # the quantile of Student's t; scipy.stats has it too, at half a second to import

CONFIDENCE = 0.95
MIN_ROUNDS = 3  # with fewer, the scatter between rounds is a guess
SMALLEST_RATIO = 1.03  # the smallest difference that further rounds are advised for
MIN_DEGREES_OF_FREEDOM = 2  # left when steal is fitted: with one, the wider quantile costs more than steal explains
LARGEST_LOG = 30.0  # of a ratio and its interval's ends: further out, 10 to the 13th, they tell nothing more
ROUNDING = 1e-12  # added to an interval's half-width, so that the arithmetic's own rounding never shows a difference


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
    """One slot's value of one quantity.

    `value` is above 0 and finite. `steal` is the share of the machine's CPU time stolen during the slot, 0 to 1, or
    None where the system does not tell. Anything else raises ValueError.
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
    ends of the 95 % interval, are None below `MIN_ROUNDS`. `adjusted` tells whether steal was taken out.
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
    """Compare every other user class with `reference`; the result is keyed by user class, in order of names.

    All of a run's observations of the quantity belong in one call, also those of classes that are of no interest: each
    helps to tell what the rounds and the steal did.

    `rounds_needed`, where no difference is shown: with the scatter seen, the number of rounds at which the interval's
    half-width comes down to the difference seen, or to 3 % where that is smaller. It is an estimate, and about even
    odds that the difference, if real, is shown then. None where a difference is shown, or where the half-width is
    within 3 % already; `MIN_ROUNDS` where there are fewer.

    Raises ValueError if no observation is of `reference`.
    """
    names = sorted({slot.user_class for slot in observations})
    if reference not in names:
        raise ValueError(f"no observation of the reference {reference}; there are: {', '.join(names) or 'none'}")
    rounds_of = {name: {slot.round for slot in observations if slot.user_class == name} for name in names}
    every_round = sorted(set.union(*rounds_of.values()))
    log_value = np.log([slot.value for slot in observations])

    # Everything estimated is linear in log_value. `effect_of` gives each class's effect, `residual_of` what is left.
    of_class = np.array([[slot.user_class == name for name in names] for slot in observations], dtype=float)
    of_round = np.array([[slot.round == number for number in every_round] for slot in observations], dtype=float)
    design = np.hstack([of_class, of_round])
    inverse = np.linalg.pinv(design, rcond=1e-9)
    effect_of = inverse[: len(names)]
    residual_of = np.eye(len(observations)) - design @ inverse

    # Adding steal to the model changes both by one outer product (the theorem of Frisch, Waugh and Lovell).
    adjusted = False
    known = [slot.steal for slot in observations if slot.steal is not None]
    if len(known) == len(observations):
        steal = np.array(known)
        unexplained = residual_of @ steal
        free = round(np.trace(residual_of)) - 1
        if (
            np.linalg.norm(unexplained) > 1e-9
            and free >= MIN_DEGREES_OF_FREEDOM
            and (unexplained @ log_value > 0) == quantity.steal_raises
        ):
            adjusted = True
            slope_of = unexplained / (unexplained @ unexplained)
            effect_of = effect_of - np.outer(effect_of @ steal, slope_of)
            residual_of = residual_of - np.outer(unexplained, slope_of)

    # A class whose slots are all needed to fit its own effect has no freedom, no residuals, and no part in other pairs.
    freedom = np.maximum(of_class.T @ np.diag(residual_of), 1e-9)
    variance = of_class.T @ (residual_of @ log_value) ** 2 / freedom

    def comparison(name: str) -> Comparison:
        rounds = len(rounds_of[name] & rounds_of[reference])
        if rounds == 0:
            return Comparison(name, reference, 0, None, None, None, adjusted, MIN_ROUNDS)
        weights = effect_of[names.index(name)] - effect_of[names.index(reference)]
        log_ratio = min(max(float(weights @ log_value), -LARGEST_LOG), LARGEST_LOG)
        if rounds < MIN_ROUNDS:
            return Comparison(name, reference, rounds, exp(log_ratio), None, None, adjusted, MIN_ROUNDS)

        class_share = of_class.T @ weights**2
        ratio_variance = float(class_share @ variance)
        slot_share = of_class @ (class_share * variance / freedom)
        spread = float(slot_share @ residual_of**2 @ slot_share)
        degrees_of_freedom = ratio_variance**2 / spread if spread > 0 else 1.0  # no scatter: any will do

        def half_width(at_rounds: int) -> float:
            more = at_rounds / rounds
            quantile = stdtrit(degrees_of_freedom * more, (1 + CONFIDENCE) / 2)
            return float(quantile) * sqrt(ratio_variance / more)

        half = half_width(rounds) + ROUNDING
        rounds_needed = None
        to_show = max(abs(log_ratio), log(SMALLEST_RATIO))
        if abs(log_ratio) <= half and half > to_show:
            candidates = range(rounds, 1_000_000)
            rounds_needed = rounds + bisect_left(candidates, -to_show, key=lambda at_rounds: -half_width(at_rounds))
        low, high = exp(log_ratio - half), exp(min(log_ratio + half, LARGEST_LOG))
        return Comparison(name, reference, rounds, exp(log_ratio), low, high, adjusted, rounds_needed)

    return {name: comparison(name) for name in names if name != reference}


def sentence(comparison: Comparison, quantity: Quantity) -> str:
    """The verdict in words: the difference, that none is shown, or that the rounds are too few to tell."""
    if comparison.ratio is None or comparison.low is None or comparison.high is None:
        return f"too few rounds to tell: {comparison.rounds}, and at least {comparison.rounds_needed} are needed"
    ends = (comparison.low, comparison.high)
    decimals = _decimals(*ends)
    interval = f"[{ends[0]:.{decimals}f}, {ends[1]:.{decimals}f}]"
    if comparison.shown:
        ratio = f"{comparison.ratio:.{decimals}f}×"
        words = quantity.words.format(user_class=comparison.user_class, ratio=ratio, reference=comparison.reference)
        return f"{words} {interval}"
    if comparison.rounds_needed is None:
        return f"no difference shown {interval}"
    return f"no difference shown {interval}: about {comparison.rounds_needed} rounds would tell"


def _decimals(low: float, high: float) -> int:
    """Two, or as many as keep an interval's ends apart from each other and from 1: [1.002, 1.041], [0.031, 0.034]."""
    for decimals in range(2, 6):
        if len({f"{end:.{decimals}f}" for end in (low, 1.0, high)}) == 3:
            return decimals
    return 2
