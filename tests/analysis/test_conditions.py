"""Loads and settings in a result: what is compared with what, in which order it stands, and what is said of it."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace
from math import exp, log
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dbkit.analysis import verdict
from dbkit.analysis.condition import Condition, Users, Variant, Variation, variants
from dbkit.analysis.intervals import interval_around
from dbkit.analysis.ladders import Line, ladder
from dbkit.analysis.pairs import CLASS, LOAD, pairings
from dbkit.analysis.parts import Part, parts
from dbkit.analysis.result import Result
from dbkit.analysis.rounds import Rounds, result_of_rounds, take_verdicts
from dbkit.analysis.slot import Slot, UserClass
from dbkit.analysis.verdict import PAGES_PER_S, Model, Observation
from dbkit.measure.cost import COUNTS, PARTS
from dbkit.measure.tally import Tally
from dbkit.output.columns import file_columns, file_value
from dbkit.output.looks import looks
from dbkit.output.markdown import summary
from tests.slots import QUIET, class_row, known

USER_CLASSES = {name: UserClass(name, "psycopg", name.lower(), "albums") for name in ("Fast", "Middle", "Slow")}
CAPACITY = {"Fast": 900.0, "Middle": 600.0, "Slow": 100.0}
NOISE = [0.01, -0.01, 0.004, -0.004]
POOL, END = Variation("pool-size", ("1", "2", "10", "20")), Variation("end", ("rollback", "commit"))


def served(condition: Condition) -> float:
    """Pages a second as a queue of one server would serve them: they grow with users, until the pool is used up."""
    assert condition.load is not None
    setting = dict(condition.variant)
    at_once = min(condition.load.users, int(setting.get("pool-size", "1000")))
    rate = CAPACITY[condition.user_class] * at_once / (at_once + 2)
    if condition.load.users > 20:
        rate *= 0.8  # too many
    return rate * (0.8 if setting.get("end") == "commit" else 1)


def slot(number: int, round_number: int, condition: Condition, rate: float) -> Slot:
    measured = Tally()
    for _ in range(30):
        measured.add(dict.fromkeys((*COUNTS, *PARTS, "think_ms"), 1.0), 10_000 / rate, failed=False)
    measured.page_equivalents = rate
    return Slot(number, round_number, condition, float(number), processes=[QUIET], measured=measured)


def result_of(
    *classes: str, loads: tuple[int, ...] = (10,), variations: tuple[Variation, ...] = (), rounds: int = 4, **more: Any
) -> Result:
    """A run in which slots differ by up to a hundredth from what their condition serves, and on average by nothing."""
    chance = random.Random(1)
    conditions = [
        Condition(name, Users(load), variant)
        for name, load, variant in itertools.product(classes, loads, variants(variations))
    ]
    scatter = {condition: chance.sample((NOISE * rounds)[:rounds], rounds) for condition in conditions}
    slots: list[Slot] = []
    for number in range(rounds):
        for condition in conditions:
            rate = served(condition) * exp(scatter[condition][number])
            slots.append(slot(len(slots), number + 1, condition, rate))
    planned = len(slots)
    return result_of_rounds(
        slots, USER_CLASSES, end="rollback", planned_slots=planned, measured_on={}, variations=variations, **more
    )


def part_of(result: Result) -> Part:
    [part] = parts(result)
    return part


# What is compared with what


ANY_CONDITIONS = st.sets(
    st.builds(
        Condition,
        st.sampled_from([*USER_CLASSES]),
        st.builds(Users, st.sampled_from([1, 2, 10])),
        st.tuples(st.sampled_from(["1", "2", "10"]), st.sampled_from(["commit", "rollback"])).map(
            lambda values: (("end", values[1]), ("pool-size", values[0]))
        ),
    ),
    min_size=1,
)


@given(conditions=ANY_CONDITIONS, named=st.none() | st.sampled_from([*USER_CLASSES]), chance=st.randoms())
def test_a_pair_differs_in_one_thing_alone_and_its_reference_is_that_of_its_heading(
    conditions: set[Condition], named: str | None, chance: random.Random
) -> None:
    levels = {condition: chance.uniform(1, 100) for condition in conditions}
    for pairing in pairings(levels, levels, [END, POOL], named):
        assert len(set(pairing.pairs)) == len(pairing.pairs)
        for one, other in (*pairing.pairs, *pairing.family):
            settings = {name for name, value in one.variant if dict(other.variant)[name] != value}
            differs = {CLASS} if one.user_class != other.user_class else set()
            differs |= {LOAD} if one.load != other.load else set()
            assert differs | settings == {pairing.differs_in}
        for _, reference in pairing.pairs:
            assert pairing.reference in {reference.user_class, str(reference.load), *map("=".join, reference.variant)}
        assert {frozenset(pair) for pair in pairing.pairs} <= {frozenset(pair) for pair in pairing.family}


def test_classes_are_compared_under_the_same_load_and_settings_with_the_slowest_or_a_named_one() -> None:
    for named, reference in ((None, "Slow"), ("Middle", "Middle")):
        result = result_of("Fast", "Middle", "Slow", loads=(1, 10), reference=named)
        assert [each.label for each in result.references["albums"] if each.differs_in == CLASS] == [reference]
        on_pages = [each for each in result.verdicts if each.quantity == "pages_per_s"]
        assert {each.differs_in for each in on_pages} == {CLASS}
        assert {(each.label, each.reference) for each in on_pages} == {
            (f"{name}, {load}", f"{reference}, {load}")
            for name in {*USER_CLASSES} - {reference}
            for load in ("1 user", "10 users")
        }


def test_values_of_a_setting_are_compared_with_the_first_of_each_class_and_loads_where_nothing_else_varies() -> None:
    settings = result_of("Fast", "Slow", variations=(END, POOL))
    found = {
        (each.differs_in, each.reference.partition(", ")[2]) for each in settings.verdicts if each.label[:4] == "Fast"
    }
    assert {reference for differs, reference in found if differs == "end"} == {
        f"end=rollback, pool-size={size}" for size in POOL.values
    }
    assert {reference for differs, reference in found if differs == "pool-size"} == {
        f"end={end}, pool-size=1" for end in END.values
    }
    loads = result_of("Fast", loads=(1, 2, 10))
    assert {(each.differs_in, each.reference) for each in loads.verdicts} == {(LOAD, "Fast, 1 user")}


def test_a_ratio_is_that_of_the_pages_a_second_of_its_two_rows() -> None:
    result = result_of("Fast", "Slow", loads=(1, 10), variations=(END,))
    rates = {row.label: known(row.pages_per_s) for row in result.strategies}
    for each in (*result.verdicts, *result.against_fastest):
        if each.quantity == "pages_per_s":
            assert known(each.ratio) == pytest.approx(rates[each.label] / rates[each.reference], rel=1e-4)


def test_with_very_many_pairs_the_error_of_each_is_what_it_is_with_all_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(2)
    slots = [
        Observation(f"{name}, {load}", number, exp(chance.gauss(5, 0.1)), abs(chance.gauss(0.1, 0.05)))
        for number in range(5)
        for name in "abcde"
        for load in range(4)
    ]
    pairs = [
        (f"{one}, {load}", f"{other}, {load}") for load in range(4) for one, other in itertools.combinations("abcde", 2)
    ]
    with_all = Model(slots, PAGES_PER_S).error_of_each(pairs)
    monkeypatch.setattr(verdict, "DENSE_WEIGHTS", 0)
    assert Model(slots, PAGES_PER_S).error_of_each(pairs) == pytest.approx(with_all, rel=0.01)


# Rows, and how sure they are


def test_rows_are_grouped_by_class_with_settings_and_loads_in_order() -> None:
    result = result_of("Slow", "Fast", loads=(1, 2, 10), variations=(POOL,))
    assert [(row.user_class, row.settings["pool-size"], row.users) for row in result.strategies] == [
        (name, size, users) for name in ("Fast", "Slow") for size in POOL.values for users in (1, 2, 10)
    ]


def test_the_interval_of_a_row_is_that_of_its_slots() -> None:
    result = result_of("Fast", loads=(1, 10), rounds=5)
    for row in result.strategies:
        values = [each.pages_per_s for each in result.slots if each.condition == row.condition]
        expected = interval_around(row.pages_per_s, values)
        assert expected == pytest.approx((known(row.pages_per_s_low), known(row.pages_per_s_high)), rel=1e-4)
        assert known(row.pages_per_s_low) < known(row.pages_per_s) < known(row.pages_per_s_high)
        assert known(row.p95_ms_low) < known(row.p95_ms) < known(row.p95_ms_high)


@pytest.mark.parametrize("values", [[], [100.0, 110.0], [100.0, None, 110.0, 105.0], [100.0, 0.0, 110.0, 90.0]])
def test_too_few_slots_or_one_without_the_figure_give_no_interval(values: list[float | None]) -> None:
    assert interval_around(100.0, values) is None


def test_an_interval_by_rounds_contains_the_true_figure_in_95_of_100_runs() -> None:
    chance = random.Random(3)
    hits = 0
    for _ in range(2000):
        values = [exp(chance.gauss(5, 0.2)) for _ in range(5)]
        centre = exp(sum(map(log, values)) / 5)
        low, high = known_pair(interval_around(centre, values))
        hits += low <= exp(5) <= high
    assert 0.935 <= hits / 2000 <= 0.965


def known_pair(pair: tuple[float, float] | None) -> tuple[float, float]:
    assert pair is not None
    return pair


def test_the_end_of_a_row_is_that_of_its_condition() -> None:
    assert {row.end for row in result_of("Fast", variations=(END,)).strategies} == {"rollback", "commit"}


# What outputs show of it


def test_files_have_a_column_for_each_setting_that_varies_and_for_no_other() -> None:
    rows = result_of("Fast", loads=(1, 10), variations=(END,)).strategies
    names = file_columns(type(rows[0]), rows)
    assert names[names.index("users") + 1] == "end"
    assert [file_value(row, "end") for row in rows] == ["rollback", "rollback", "commit", "commit"]
    plain = result_of("Fast", "Slow").strategies
    assert not {"end-of-page", "pool-size", "condition"} & {*file_columns(type(plain[0]), plain)}


def test_lines_go_along_users_or_else_along_a_setting_that_is_a_number() -> None:
    def lines(**what: Any) -> tuple[str, list[Line]] | None:
        found = ladder(result_of("Fast", "Slow", **what).strategies)
        return None if found is None else (found.along, found.lines)

    assert lines() is None
    assert lines(variations=(END,)) is None
    found = lines(loads=(1, 2, 10))
    assert found is not None and found[0] == "users"
    assert [(line.name, line.at) for line in found[1]] == [("Fast", [1, 2, 10]), ("Slow", [1, 2, 10])]
    assert found[1][0].conditions == ["Fast, 1 user", "Fast, 2 users", "Fast, 10 users"]
    found = lines(variations=(END, POOL))
    assert found is not None and found[0] == "pool-size"
    assert [(line.name, line.at) for line in found[1]] == [
        (f"{name}, end={end}", [1, 2, 10, 20]) for name in ("Fast", "Slow") for end in END.values
    ]
    found = lines(loads=(1, 10), variations=(POOL,))
    assert found is not None and found[0] == "users"
    assert [line.name for line in found[1][:4]] == [f"Fast, pool-size={size}" for size in POOL.values]


def test_loads_of_a_class_look_alike_and_its_settings_do_not() -> None:
    rows = result_of("Fast", "Slow", loads=(1, 10), variations=(END,)).strategies
    found = looks(rows)
    drawn = {(row.user_class, row.settings["end"]): set[tuple[str, str, str]]() for row in rows}
    for row in rows:
        look = found[row.condition]
        drawn[row.user_class, row.settings["end"]].add((look["color"], look["symbol"], look["dash"]))
    assert {len(each) for each in drawn.values()} == {1}
    assert len({look for each in drawn.values() for look in each}) == 4


def test_charts_of_single_conditions_show_the_load_at_which_the_most_pages_were_served() -> None:
    part = part_of(result_of("Fast", "Slow", loads=(1, 10, 50)))
    assert part.leading_load == "10 users"
    assert [row.condition for row in part.charted(part.strategies)] == ["Fast, 10 users", "Slow, 10 users"]
    assert {row.users for row in part.charted(part.slots)} == {10}
    assert {each.condition for each in part.verdicts_charted} == {"Fast, 10 users"}
    plain = part_of(result_of("Fast", "Slow"))
    assert plain.leading_load is None and plain.charted(plain.strategies) == plain.strategies


def test_tables_have_a_column_for_what_varies_and_one_for_each_reference() -> None:
    text = summary(result_of("Fast", "Slow", loads=(1, 10), variations=(END,))).replace("\\", "")
    heading = next(line for line in text.splitlines() if line.startswith("| user class"))
    assert heading.startswith("| user class | users | end | pages/s | × Slow | × end=rollback |")
    assert "| Slow | 1 | rollback | 33.3 | reference | reference |" in " ".join(text.splitlines())
    plain = summary(result_of("Fast", "Slow"))
    assert "| user class | pages/s | × Slow |" in plain


# What is said


def said(result: Result) -> str:
    return " ".join(result.headline)


def test_classes_are_spoken_of_at_the_load_at_which_the_most_are_served_and_each_at_its_own_best() -> None:
    result = result_of("Fast", "Middle", "Slow", loads=(1, 10, 50))
    assert result.headline[0] == (
        "With 10 users, Fast serves the most pages, 750 a second; every other class is shown to serve fewer."
    )
    assert "Fast serves 9.00× the pages of Slow" in said(result)
    assert result.headline[-1] == (
        "The most pages a second of each: Fast 750 with 10 users, Middle 500 with 10 users and Slow 83.3 with 10 users."
    )


def test_a_class_alone_serves_the_most_at_a_load_and_no_difference_is_claimed_that_is_not_shown() -> None:
    assert result_of("Fast", loads=(1, 10, 50)).headline[:2] == [
        "Fast serves the most pages with 10 users, 750 a second; with any other load fewer are shown.",
        "With 10 users in a closed loop, half of Fast's pages came within 13.3 ms and 95 % within 13.5 ms.",
    ]
    alike = result_of("Fast", loads=(18, 19, 20)).headline[0]
    assert alike == (
        "Fast serves the most pages with 20 users, 818 a second; with 18 users to 20 users no difference from that is"
        " shown."
    )
    few = result_of("Fast", loads=(1, 10, 50), rounds=2).headline[0]
    assert few.endswith("; the rounds are too few to show a difference.")


def test_the_smallest_pool_that_is_not_shown_to_serve_fewer_is_named() -> None:
    assert result_of("Fast", variations=(POOL,)).headline[0] == (
        "Fast serves the most pages with pool-size=10, 750 a second; with pool-size=20 no difference from that is"
        " shown. The smallest that is not shown to serve fewer is pool-size=10."
    )


def test_two_values_of_a_setting_are_one_ratio_for_each_class() -> None:
    result = result_of("Fast", "Slow", variations=(END,))
    assert result.headline[0].startswith("With 10 users and end=rollback, Fast serves the most pages")
    assert "Fast serves with end=commit 0.80× the pages that it serves with end=rollback [0." in said(result)
    assert "Slow serves with end=commit 0.80× the pages that it serves with end=rollback [0." in said(result)


def test_equal_values_are_not_shown_to_differ() -> None:
    jit = Variation("jit", ("off", "on"))
    assert said(result_of("Fast", variations=(jit,))).startswith("Fast: between jit=")
    assert "no difference is shown [0.9" in said(result_of("Fast", variations=(jit,)))


def test_of_very_many_conditions_few_are_spoken_of() -> None:
    names = [f"Class{number:02}" for number in range(12)]
    classes = {name: UserClass(name, "psycopg", name, "albums") for name in names}
    slots: list[Slot] = []
    for number in range(1, 5):
        for place, name in enumerate(names):
            for load in (1, 10):
                condition = Condition(name, Users(load))
                slots.append(slot(len(slots), number, condition, 100.0 + 10 * place + load + number))
    result = result_of_rounds(slots, classes, end="rollback", planned_slots=len(slots), measured_on={})
    assert result.headline[-1].endswith("and 7 more.")
    assert max(map(len, result.headline)) < 400


def test_a_condition_without_a_page_in_some_slot_has_no_ratio_and_is_named() -> None:
    slots: list[Slot] = []
    for number in range(1, 5):
        for load in (1, 10):
            made = slot(len(slots), number, Condition("Fast", Users(load)), 100.0 + load + number)
            slots.append(replace(made, measured=Tally()) if (number, load) == (2, 10) else made)
    result = result_of_rounds(slots, USER_CLASSES, end="rollback", planned_slots=len(slots), measured_on={})
    assert result.headline[-1] == "Without a ratio, as no page was served in some slot: Fast, 10 users."
    assert result.verdicts == []


@settings(max_examples=30)
@given(
    data=st.data(),
    loads=st.sampled_from([(10,), (1, 10)]),
    variations=st.sampled_from([(), (END,), (POOL,), (END, POOL)]),
    classes=st.sampled_from([("Fast",), ("Fast", "Slow")]),
)
def test_while_a_run_goes_on_there_are_words_on_what_has_been_measured_so_far(
    data: st.DataObject, loads: tuple[int, ...], variations: tuple[Variation, ...], classes: tuple[str, ...]
) -> None:
    """Also where the verdicts are older than the rows, as they are made less often."""
    conditions = [
        Condition(name, Users(load), variant)
        for name, load, variant in itertools.product(classes, loads, variants(variations))
    ]
    rounds = Rounds(USER_CLASSES, end="rollback", variations=variations)
    earlier = None
    for number in range(4):
        for condition in data.draw(st.permutations(conditions)):
            rounds.add(slot(len(rounds), number + 1, condition, data.draw(st.floats(10, 100))))
            if data.draw(st.integers(0, 9)) == 0:
                earlier = rounds.result(len(rounds), {}, ["pages_per_s"])
                assert all(earlier.headline)
            elif earlier is not None:
                result = rounds.result(len(rounds), {}, [])
                take_verdicts(result, earlier)
                assert all(result.headline)


@pytest.mark.parametrize("variant", [(), (("pool-size", "1"),)])
def test_a_small_pool_is_warned_of_only_where_it_was_not_asked_for(variant: Variant) -> None:
    measured = Tally()
    cost = dict.fromkeys((*COUNTS, *PARTS, "think_ms"), 0.0) | {"connect_ms": 5.0, "db_ms": 5.0, "statements": 1.0}
    for _ in range(300):
        measured.add(cost, 10.0, failed=False)
    measured.page_equivalents = 300
    made = Slot(0, 1, Condition("Fast", Users(10), variant), 0.0, processes=[QUIET], measured=measured)
    result = result_of_rounds([made], USER_CLASSES, end="rollback", planned_slots=1, measured_on={})
    assert any("opening connections" in warning for warning in result.warnings) is (not variant)


def test_labels_that_have_commas_are_set_apart_by_semicolons() -> None:
    [warning] = [each for each in result_of("Fast", loads=(1, 2)).warnings if "opening connections" in each]
    assert warning.startswith("pages of Fast, 1 user; Fast, 2 users spent time")


def test_rows_without_settings_have_nothing_that_varies() -> None:
    assert ladder([class_row("Fast"), class_row("Slow")]) is None
