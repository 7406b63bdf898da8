"""The verdict between user classes: right as often as it says, on simulated rounds like those of a shared machine."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import combinations
from math import log
from random import Random

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from dbkit.analysis import verdict

Floats = NDArray[np.float64]


def stolen_seconds(rng: np.random.Generator, seconds: int) -> Floats:
    """CPU seconds stolen in each second of two cores: mean 0.16, scatter 0.17, skewed, alike from one to the next."""
    spread = np.log(1 + (0.17 / 0.16) ** 2)
    steps = rng.standard_normal(seconds)
    level: Floats = np.empty(seconds)
    level[0] = steps[0]
    for second in range(1, seconds):
        level[second] = 0.7 * level[second - 1] + np.sqrt(1 - 0.7**2) * steps[second]
    stolen: Floats = np.minimum(np.exp(np.log(0.16) - spread / 2 + np.sqrt(spread) * level), 1.5)
    return stolen


def run_rounds(
    rng: np.random.Generator,
    rounds: int,
    slot_seconds: int,
    factors: Sequence[float],
    scatters: Sequence[float] | None = None,
    outliers: float = 0.0,
    uneven: float = 0.0,
) -> list[verdict.Observation]:
    """Pages/s of classes A, B, C, ... that are `factors` fast, in shuffled rounds on a machine that drifts.

    A second of steal takes a second's pages by the factor e; what else moves them has a scatter of 0.1 in each second
    (times the class's own of `scatters`), which makes 0.2 and a correlation of -0.85 in all. Of the slots, the share
    `outliers` is 30 % slow for another reason, and the share `uneven` is missing or run twice.
    """
    times_run = [uneven / 2, 1 - uneven, uneven / 2]
    schedule = [
        (number, int(index))
        for number in range(rounds)
        for index in rng.permutation(len(factors))
        for _ in range(rng.choice(3, p=times_run))
    ]
    stolen = stolen_seconds(rng, len(schedule) * slot_seconds).reshape(-1, slot_seconds)
    drift = rng.normal(0, 0.1, rounds)
    observations = []
    for (number, index), of_slot in zip(schedule, stolen, strict=True):
        scatter = 0.1 * (scatters[index] if scatters else 1.0)
        # Half the square, so that a loud class has the same mean of pages/s, not of their logarithm.
        logs = drift[number] - of_slot + rng.normal(-(scatter**2) / 2, scatter, slot_seconds)
        value = factors[index] * np.exp(logs).mean() * (0.7 if rng.random() < outliers else 1.0)
        steal = float(of_slot.mean()) / 2
        observations.append(verdict.Observation(chr(ord("A") + index), number, float(value), steal))
    return observations


def without_steal(observations: Sequence[verdict.Observation]) -> list[verdict.Observation]:
    return [replace(slot, steal=None) for slot in observations]


def observe(classes: dict[str, Sequence[float]], steal: float | None = None) -> list[verdict.Observation]:
    return [
        verdict.Observation(name, i, value, steal) for name, values in classes.items() for i, value in enumerate(values)
    ]


def compare_one(
    observations: Sequence[verdict.Observation], quantity: verdict.Quantity = verdict.PAGES_PER_S
) -> verdict.Comparison:
    return verdict.compare(observations, "B", quantity)["A"]


# How often it is right


def test_the_same_class_under_two_names_shows_no_difference_in_about_95_of_100_runs() -> None:
    rng = np.random.default_rng(1)
    shown = [compare_one(run_rounds(rng, 6, 8, [100.0, 100.0])).shown for _ in range(600)]
    assert 0.02 <= np.mean(shown) <= 0.08


@pytest.mark.parametrize(("factor", "expected"), [(1.1, "above"), (1 / 1.1, "below")])
def test_ten_percent_added_to_one_side_is_found_and_signed_right(factor: float, expected: str) -> None:
    rng = np.random.default_rng(2)
    results = [compare_one(run_rounds(rng, 20, 3, [100.0 * factor, 100.0])) for _ in range(200)]
    found = ["above" if result.ratio > 1 else "below" for result in results if result.shown and result.ratio]
    assert set(found) == {expected}
    assert len(found) >= 0.97 * len(results)


ONE_LOUD = [1.0] * 14 + [2.0]
HALF_LOUD = [1.0] * 8 + [2.0] * 7


@pytest.mark.parametrize(
    ("classes", "rounds", "scatters", "outliers", "uneven"),
    [
        pytest.param(2, 4, None, 0.0, 0.0, id="two-classes-4-rounds"),
        pytest.param(2, 6, [1.0, 2.0], 0.0, 0.0, id="two-classes-6-rounds-one-loud"),
        pytest.param(2, 10, None, 0.03, 0.0, id="two-classes-10-rounds-outliers"),
        pytest.param(2, 30, None, 0.0, 0.1, id="two-classes-30-rounds-uneven"),
        pytest.param(3, 3, None, 0.0, 0.0, id="three-classes-3-rounds"),
        pytest.param(15, 3, None, 0.0, 0.0, id="fifteen-classes-3-rounds"),
        pytest.param(15, 4, HALF_LOUD, 0.0, 0.0, id="fifteen-classes-4-rounds-half-loud"),
        pytest.param(15, 5, None, 0.03, 0.0, id="fifteen-classes-5-rounds-outliers"),
        pytest.param(15, 6, None, 0.0, 0.1, id="fifteen-classes-6-rounds-uneven"),
    ],
)
def test_the_intervals_of_a_table_hold_the_true_ratios_together_as_often_as_they_say(
    classes: int, rounds: int, scatters: list[float] | None, outliers: float, uneven: float
) -> None:
    rng = np.random.default_rng(3)
    factors = [100.0 * 1.2**index for index in range(classes)]
    held = []
    for _ in range(400 if classes < 15 else 120):
        observations = run_rounds(rng, rounds, max(2, 24 // rounds // classes), factors, scatters, outliers, uneven)
        held.append(
            all(
                result.low <= factors[ord(name) - ord("A")] / factors[1] <= result.high
                for name, result in verdict.compare(observations, "B", verdict.PAGES_PER_S).items()
                if result.low is not None and result.high is not None
            )
        )
    assert np.mean(held) >= 0.95 - binomial_slack(len(held))
    # a pair alone is neither too sure nor too careful
    assert classes > 2 or np.mean(held) <= 0.98


def test_a_loud_class_is_not_called_calm_among_quiet_ones() -> None:
    rng = np.random.default_rng(4)
    held = []
    for _ in range(250):
        observations = run_rounds(rng, 4, 2, [100.0] * 15, ONE_LOUD)
        result = verdict.Model(observations, verdict.PAGES_PER_S).compare("O", "A", error=0.05)
        held.append(not result.shown)
    assert 0.91 <= np.mean(held) <= 0.99


EQUAL_SCATTERS = [1.0] * 15
WILD_SCATTERS = [0.5 * 8 ** (place / 14) for place in range(15)]


def binomial_slack(runs: int) -> float:
    """By how much a share of 5 % may be missed in so many runs, in 1 of 1,000 tests."""
    return float(stats.binom.ppf(0.999, runs, 0.05)) / runs - 0.05


def equal_classes(rng: np.random.Generator, rounds: int, scatters: Sequence[float]) -> list[verdict.Observation]:
    drift = rng.normal(0, 0.1, (rounds, 1))
    values = 100 * np.exp(drift + rng.normal(0, 0.1, (rounds, len(scatters))) * scatters)
    return observe({chr(ord("A") + place): list(values[:, place]) for place in range(len(scatters))})


@pytest.mark.parametrize("named", [False, True], ids=["chosen-after-the-data", "reference-named"])
@pytest.mark.parametrize("scatters", [EQUAL_SCATTERS, WILD_SCATTERS], ids=["equal-scatter", "unequal-scatter"])
def test_of_15_equal_classes_any_difference_is_shown_in_5_of_100_runs_at_the_most(
    scatters: list[float], named: bool
) -> None:
    rng = np.random.default_rng(9)
    shown = []
    for _ in range(150):
        model = verdict.Model(equal_classes(rng, 5, scatters), verdict.PAGES_PER_S)
        pairs = [(name, "H") for name in model.names if name != "H"] if named else [*combinations(model.names, 2)]
        error = model.error_of_each(pairs)
        shown.append(any(model.compare(*pair, error).shown for pair in pairs))
    assert np.mean(shown) <= 0.05 + binomial_slack(len(shown))


def test_a_reference_named_beforehand_costs_less() -> None:
    model = verdict.Model(equal_classes(np.random.default_rng(10), 5, EQUAL_SCATTERS), verdict.PAGES_PER_S)
    of_all, of_named = model.error_of_each(), model.error_of_each([(name, "A") for name in model.names[1:]])
    # more for each than if the classes had nothing to do with each other
    assert 0.05 / (15 * 14 / 2) < of_all < of_named < 0.05
    assert model.error_of_each([("B", "A")]) == pytest.approx(0.05)


def test_taking_steal_out_narrows_the_interval() -> None:
    rng = np.random.default_rng(5)
    with_steal: list[float] = []
    without: list[float] = []
    for _ in range(100):
        observations = run_rounds(rng, 8, 6, [100.0, 100.0])
        for widths, result in (
            (with_steal, compare_one(observations)),
            (without, compare_one(without_steal(observations))),
        ):
            assert result.low and result.high
            widths.append(log(result.high / result.low))
    assert np.median(with_steal) < 0.6 * np.median(without)


# What it equals where the textbook has an answer


def test_two_classes_without_steal_are_the_paired_t_test() -> None:
    a, b = [110.0, 95.0, 120.0, 101.0, 99.0], [100.0, 90.0, 101.0, 99.0, 97.0]
    result = compare_one(observe({"A": a, "B": b}))
    expected = stats.ttest_rel(np.log(a), np.log(b)).confidence_interval(0.95)
    assert not result.adjusted
    assert result.rounds == 5
    assert [result.low, result.high] == pytest.approx(np.exp([expected.low, expected.high]))


def test_two_classes_with_steal_are_the_regression_of_their_differences() -> None:
    observations = run_rounds(np.random.default_rng(6), 7, 3, [100.0, 100.0])
    of = {name: sorted((s for s in observations if s.user_class == name), key=lambda s: s.round) for name in "AB"}
    stolen = [(a.steal or 0) - (b.steal or 0) for a, b in zip(of["A"], of["B"], strict=True)]
    line = stats.linregress(stolen, np.log([a.value / b.value for a, b in zip(of["A"], of["B"], strict=True)]))
    half = stats.t.ppf(0.975, 7 - 2) * line.intercept_stderr
    result = compare_one(observations)
    assert line.slope < 0 and result.adjusted
    assert [result.low, result.ratio, result.high] == pytest.approx(np.exp(line.intercept + np.array([-half, 0, half])))


def test_a_round_that_only_one_of_two_classes_ran_changes_nothing() -> None:
    complete = observe({"A": [110.0, 95.0, 120.0], "B": [100.0, 90.0, 101.0]})
    with_extra = [*complete, verdict.Observation("A", 3, 500.0, None)]
    assert_equal(compare_one(with_extra), compare_one(complete))


# When steal is taken out


def test_steal_with_the_wrong_sign_is_left_alone() -> None:
    observations = run_rounds(np.random.default_rng(7), 6, 4, [100.0, 100.0])
    as_times = [replace(slot, value=1 / slot.value) for slot in observations]
    p95 = verdict.response_time("p95")
    assert compare_one(observations).adjusted and compare_one(as_times, p95).adjusted
    assert not compare_one(observations, p95).adjusted and not compare_one(as_times).adjusted
    assert_equal(compare_one(observations, p95), compare_one(without_steal(observations)))


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda slots: [replace(slots[0], steal=None), *slots[1:]], id="one-slot-unknown"),
        pytest.param(lambda slots: [replace(slot, steal=0.1) for slot in slots], id="the-same-everywhere"),
        pytest.param(lambda slots: [replace(s, steal=0.1 * (s.round % 4)) for s in slots], id="only-between-rounds"),
        pytest.param(lambda slots: [slot for slot in slots if slot.round < 3], id="three-rounds-of-two-classes"),
    ],
)
def test_steal_that_cannot_be_told_apart_is_left_alone(
    spoil: Callable[[list[verdict.Observation]], list[verdict.Observation]],
) -> None:
    observations = run_rounds(np.random.default_rng(8), 6, 4, [100.0, 100.0])
    assert compare_one(observations).adjusted
    spoilt = spoil(observations)
    for quantity in (verdict.PAGES_PER_S, verdict.CLIENT_CPU_MS):  # a slope made of rounding has the right sign for one
        assert_equal(compare_one(spoilt, quantity), compare_one(without_steal(spoilt), quantity))


# What must not matter


def assert_equal(one: verdict.Comparison, other: verdict.Comparison) -> None:
    assert (one.rounds, one.adjusted, one.shown) == (other.rounds, other.adjusted, other.shown)
    assert [one.ratio, one.low, one.high] == pytest.approx([other.ratio, other.low, other.high])
    assert one.rounds_needed == pytest.approx(other.rounds_needed, abs=1)


seeds = st.integers(0, 2**32 - 1)
designs = st.builds(
    lambda seed, rounds, classes, uneven: run_rounds(
        np.random.default_rng(seed), rounds, 2, [100.0] * classes, uneven=uneven
    ),
    seeds,
    st.integers(3, 6),
    st.integers(2, 5),
    st.sampled_from([0.0, 0.2]),
).filter(lambda observations: {"A", "B"} <= {slot.user_class for slot in observations})


@settings(max_examples=50, deadline=None)
@given(designs)
def test_swapping_class_and_reference_gives_the_reciprocal(observations: list[verdict.Observation]) -> None:
    model = verdict.Model(observations, verdict.PAGES_PER_S)
    error = model.error_of_each()
    there, back = model.compare("A", "B", error), model.compare("B", "A", error)
    assert (there.rounds, there.shown, there.rounds_needed) == (back.rounds, back.shown, back.rounds_needed)
    if there.ratio and back.ratio:
        assert there.ratio * back.ratio == pytest.approx(1)
    if there.low and there.high and back.low and back.high:
        assert [there.low * back.high, there.high * back.low] == pytest.approx([1, 1])


@settings(max_examples=50, deadline=None)
@given(designs, seeds, st.floats(1e-6, 1e6))
def test_order_unit_and_drift_between_rounds_change_nothing(
    observations: list[verdict.Observation], seed: int, unit: float
) -> None:
    rng = np.random.default_rng(seed)
    drift = rng.lognormal(0, 1, 6)
    changed = [replace(slot, value=slot.value * unit * drift[slot.round]) for slot in observations]
    changed = [changed[index] for index in rng.permutation(len(changed))]
    before = verdict.compare(observations, "B", verdict.PAGES_PER_S)
    after = verdict.compare(changed, "B", verdict.PAGES_PER_S)
    assert list(before) == list(after)
    for name in before:
        assert_equal(before[name], after[name])


# One definition of a table's figures and ratios


@settings(max_examples=50, deadline=None)
@given(designs)
def test_the_ratio_of_two_levels_is_the_ratio(observations: list[verdict.Observation]) -> None:
    model = verdict.Model(observations, verdict.PAGES_PER_S)
    levels = model.levels()
    for name, result in verdict.compare(observations, "B", verdict.PAGES_PER_S).items():
        if result.ratio is not None:
            assert levels[name] / levels["B"] == pytest.approx(result.ratio)


def test_in_complete_rounds_a_level_is_the_geometric_mean() -> None:
    model = verdict.Model(observe({"A": [110.0, 95.0, 120.0], "B": [50.0, 70.0, 60.0]}), verdict.PAGES_PER_S)
    assert model.levels() == pytest.approx({"A": stats.gmean([110, 95, 120]), "B": stats.gmean([50, 70, 60])})


def test_a_class_that_has_no_round_in_common_with_others_has_a_level_of_its_own() -> None:
    model = verdict.Model(
        [*observe({"B": [100.0, 100.0]}), verdict.Observation("A", 7, 50.0, None)], verdict.PAGES_PER_S
    )
    assert model.levels() == pytest.approx({"A": 50, "B": 100})


# How many rounds would do


def test_the_rounds_asked_for_are_enough_and_half_as_many_are_not() -> None:
    scatter = [1.15, 0.95, 1.25, 0.90]
    needed = compare_one(observe({"A": scatter, "B": [1.0] * 4})).rounds_needed
    assert needed and needed > 4
    enough, half = -(-needed // 4), needed // 8
    assert compare_one(observe({"A": scatter * enough, "B": [1.0] * 4 * enough})).shown
    assert not compare_one(observe({"A": scatter * half, "B": [1.0] * 4 * half})).shown


def test_no_more_rounds_are_asked_for_once_three_percent_would_show() -> None:
    near = compare_one(observe({"A": [101.0, 99.0, 100.0, 100.0], "B": [100.0] * 4}))
    assert not near.shown and near.rounds_needed is None
    far = compare_one(observe({"A": [103.0, 97.0, 100.0, 100.0], "B": [100.0] * 4}))
    assert not far.shown and far.rounds_needed and 4 < far.rounds_needed < 20


# Too little, and wrong


def test_below_three_common_rounds_there_is_a_ratio_and_no_interval() -> None:
    result = compare_one(observe({"A": [110.0, 121.0], "B": [100.0, 100.0], "C": [90.0, 90.0, 90.0]}))
    assert result.ratio == pytest.approx(np.sqrt(1.1 * 1.21))
    assert (result.rounds, result.low, result.high, result.shown) == (2, None, None, False)
    assert verdict.sentence(result, verdict.PAGES_PER_S) == "too few rounds: 2, and at least 3 are needed"


values = st.lists(st.floats(1e-3, 1e3), min_size=3, max_size=8)


def test_classes_with_no_round_in_common_have_no_ratio() -> None:
    result = compare_one([*observe({"B": [100.0, 90.0, 101.0]}), verdict.Observation("A", 3, 50.0, None)])
    assert (result.rounds, result.ratio, result.shown) == (0, None, False)
    assert verdict.sentence(result, verdict.PAGES_PER_S) == "too few rounds: 0, and at least 3 are needed"


@settings(max_examples=100, deadline=None)
@given(values, st.randoms(use_true_random=False), st.integers(0, 8))
def test_a_class_that_ran_once_leaves_the_others_alone(of_b: list[float], random: Random, in_round: int) -> None:
    pair = observe({"B": of_b, "C": [value * random.uniform(0.5, 2) for value in of_b]})
    results = verdict.compare([*pair, verdict.Observation("A", in_round, 50.0, None)], "B", verdict.PAGES_PER_S)
    assert results["A"].low is None
    assert_equal(results["C"], verdict.compare(pair, "B", verdict.PAGES_PER_S)["C"])


@settings(max_examples=50, deadline=None)
@given(values, st.none() | st.floats(0, 1))
@example([81.6, 509.5, 220.4, 188.0], None)  # the logarithms' rounding alone is a difference here
def test_equal_values_show_no_difference_and_a_constant_factor_is_a_point(
    drifting: list[float], steal: float | None
) -> None:
    equal = compare_one(observe({"A": drifting, "B": drifting}, steal))
    assert not equal.shown and equal.rounds_needed is None
    twice = compare_one(observe({"A": [2 * value for value in drifting], "B": drifting}, steal))
    assert twice.shown
    assert [twice.low, twice.ratio, twice.high] == pytest.approx([2, 2, 2])


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_a_value_without_a_logarithm_is_refused_by_name(value: float) -> None:
    with pytest.raises(ValueError, match="PsycopgLazy in round 3"):
        verdict.Observation("PsycopgLazy", 3, value, None)


@pytest.mark.parametrize("steal", [-0.1, 1.1, float("nan")])
def test_steal_that_is_no_share_is_refused_by_name(steal: float) -> None:
    with pytest.raises(ValueError, match="PsycopgLazy in round 3"):
        verdict.Observation("PsycopgLazy", 3, 1.0, steal)


def test_a_reference_that_never_ran_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="AsyncpgCore; there are: A, B"):
        verdict.compare(observe({"A": [1.0], "B": [1.0]}), "AsyncpgCore", verdict.PAGES_PER_S)


# In words


def comparison(ratio: float, low: float, high: float, rounds_needed: int | None = None) -> verdict.Comparison:
    return verdict.Comparison("PsycopgJoined", "AsyncpgJoined", 6, ratio, low, high, True, rounds_needed)


@pytest.mark.parametrize(
    ("result", "quantity", "words"),
    [
        (
            comparison(1.312, 1.224, 1.398),
            verdict.PAGES_PER_S,
            "PsycopgJoined serves 1.31× the pages of AsyncpgJoined [1.22, 1.40]",
        ),
        (
            comparison(0.8, 0.751, 0.86),
            verdict.response_time("p95"),
            "PsycopgJoined's p95 is 0.80× that of AsyncpgJoined [0.75, 0.86]",
        ),
        (
            comparison(0.71, 0.68, 0.74),
            verdict.CLIENT_CPU_MS,
            "PsycopgJoined takes 0.71× the client CPU of AsyncpgJoined [0.68, 0.74]",
        ),
        (comparison(1.0, 0.97, 1.04), verdict.PAGES_PER_S, "no difference shown [0.97, 1.04]"),
        (
            comparison(1.1, 0.9, 1.34, rounds_needed=14),
            verdict.SERVER_CPU_MS,
            "no difference shown [0.90, 1.34]: about 14 rounds would be enough",
        ),
        # Two decimals would hide that 1 is outside, or that the interval has a width.
        (
            comparison(1.02, 1.002, 1.041),
            verdict.PAGES_PER_S,
            "PsycopgJoined serves 1.020× the pages of AsyncpgJoined [1.002, 1.041]",
        ),
        (
            comparison(0.0321, 0.0312, 0.0329),
            verdict.response_time("mean"),
            "PsycopgJoined's mean is 0.032× that of AsyncpgJoined [0.031, 0.033]",
        ),
    ],
)
def test_the_verdict_in_words(result: verdict.Comparison, quantity: verdict.Quantity, words: str) -> None:
    assert verdict.sentence(result, quantity) == words
