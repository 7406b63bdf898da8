"""The answer in words: who serves the most, how sure that is, why, and what limits it."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace as changed

from dbkit.analysis.headline import headline, headline_of_mixed_run, headline_of_one_class
from dbkit.analysis.records import ClassRow, SlotRow, Verdict
from tests.slots import class_row, slot_row, verdict_row


def row(user_class: str, pages_per_s: float | None, **figures: Any) -> ClassRow:
    known = {
        "users": 10,
        "p50_ms": 9.0,
        "p95_ms": 12.0,
        "statements": 1.0,
        "rows": 20.0,
        "client_cpu_ms": 1.1,
        "bound_by": "client CPU",
    }
    return class_row(user_class, **known | {"pages_per_s": pages_per_s} | figures)


def verdict(label: str, reference: str, low: float | None, high: float | None, **more: Any) -> Verdict:
    made = verdict_row(label, reference, low, high, **more)
    made.sentence = (
        f"{label} serves 2.00× the pages of {reference}" if made.shown else "no difference shown [0.90, 1.10]"
    )
    return made


def slots(*names: str, disturbed: int = 0, empty: str | None = None) -> list[SlotRow]:
    """Three a class, of which the first ones are disturbed."""
    return [
        slot_row(name, disturbed=number < disturbed, pages_per_s=None if name == empty else 100.0)
        for number, name in enumerate(names * 3)
    ]


FAST, SLOW = row("Fast", 900.4), row("Slow", 100, statements=21.0, rows=60.0, client_cpu_ms=None)
MIDDLE, OTHER = row("Middle", 880), row("Other", 860)


def test_the_class_that_is_shown_to_serve_the_most_leads() -> None:
    said = headline([FAST, SLOW], [], [], [verdict("Slow", "Fast", 0.1, 0.2)])
    assert said == [
        "Fast serves the most pages, 900 a second; every other class is shown to serve fewer.",
        "With 10 users in a closed loop, half of Fast's pages came within 9 ms and 95 % within 12 ms.",
        "Fast is bound by client CPU.",
    ]


def test_two_classes_that_are_not_shown_to_differ_lead_as_one_group() -> None:
    against = [verdict("Middle", "Fast", 0.9, 1.01, rounds_needed=14), verdict("Slow", "Fast", 0.1, 0.2)]
    assert headline([FAST, MIDDLE, SLOW], [], [], against)[:2] == [
        "Fast and Middle serve the most pages, 900 and 880 a second;"
        " between them no difference is shown [0.90, 1.01], and about 14 rounds would be enough.",
        "Every other class is shown to serve fewer than Fast.",
    ]


def test_of_a_larger_group_nothing_is_said_but_against_its_first() -> None:
    against = [verdict(name, "Fast", 0.9, 1.01) for name in ("Middle", "Other")] + [verdict("Slow", "Fast", 0.1, 0.2)]
    assert headline([FAST, MIDDLE, OTHER, SLOW], [], [], against)[0] == (
        "Fast, Middle and Other serve the most pages, 900, 880 and 860 a second;"
        " between Fast and the others no difference is shown."
    )


def test_where_no_difference_is_shown_at_all_none_serves_the_most() -> None:
    two = headline([FAST, MIDDLE], [], [], [verdict("Middle", "Fast", 0.58, 1.83)])
    assert (
        two[0] == "Fast and Middle serve 900 and 880 pages a second; between them no difference is shown [0.58, 1.83]."
    )
    against = [verdict(name, "Fast", 0.9, 1.01) for name in ("Middle", "Other")]
    three = headline([FAST, MIDDLE, OTHER], [], [], against)
    assert three[0] == (
        "No difference is shown between Fast and the other 2 classes: they serve from 860 to 900 pages a second."
    )
    for said in (two, three):
        assert not any("the most" in sentence or "fewer" in sentence for sentence in said)


def test_one_class_alone_is_not_said_to_serve_the_most() -> None:
    said = headline([row("Only", 5.04, users=1)], [], [], [])
    assert said[0] == "Only serves 5.04 pages a second."
    assert said[1].startswith("With 1 user in a closed loop, half of Only's pages came within 9 ms")


def test_failures_of_the_first_are_in_a_sentence() -> None:
    said = headline([changed(FAST, failures=7, pages=900), SLOW], [], [], [verdict("Slow", "Fast", 0.1, 0.2)])
    assert said[1] == "But 7 of the 900 pages of Fast failed."


def test_one_class_without_rounds_comes_with_the_most_users_that_there_were() -> None:
    assert headline_of_one_class([FAST]) == [
        "Fast serves 900 pages a second.",
        "With up to 10 users in a closed loop, half of Fast's pages came within 9 ms and 95 % within 12 ms.",
    ]


@pytest.mark.parametrize("named", [None, "Slow"])
def test_where_rounds_are_too_few_it_says_so_and_no_difference_is_claimed(named: str | None) -> None:
    few = [verdict("Slow", "Fast", None, None)]
    said = headline([FAST, SLOW], [], [verdict("Fast", "Slow", None, None)], [] if named else few, named)
    assert said[0].startswith("The rounds are too few to show a difference")
    assert not any("×" in sentence or "other class" in sentence for sentence in said)


def test_a_difference_that_is_shown_comes_with_its_reason() -> None:
    said = headline([FAST, SLOW], [], [verdict("Fast", "Slow", 1.8, 2.2)], [verdict("Slow", "Fast", 0.4, 0.6)])
    assert said[1] == (
        "Fast serves 2.00× the pages of Slow: a page takes 1 statement against 21 and 20 rows against 60."
    )


def test_with_a_named_reference_the_ratio_to_it_and_why_come_first() -> None:
    slow = changed(SLOW, statements=21.0, client_cpu_ms=8.0)
    on_pages = [
        verdict("Fast", "Slow", 1.8, 2.2),
        verdict("Middle", "Slow", 0.9, 1.1),
        verdict("Other", "Slow", 0.1, 0.2),
    ]
    said = headline([FAST, MIDDLE, slow, OTHER], [], on_pages, [], "Slow")
    assert said[:3] == [
        "Fast serves 2.00× the pages of Slow: a page takes 1 statement against 21, 20 rows against 60"
        " and 1.1 ms of client CPU against 8.",
        "Of 3 classes compared with Slow, this is shown: more pages for 1; fewer for 1; no difference for Middle.",
        "Fast serves 900 pages a second, Slow 100.",
    ]
    assert not any("the most" in sentence or "every other" in sentence.lower() for sentence in said)


def test_a_difference_from_a_named_reference_that_is_not_shown_is_called_that() -> None:
    said = headline([FAST, SLOW], [], [verdict("Fast", "Slow", 0.9, 1.1)], [], "Slow")
    assert said[0] == "Fast against Slow: no difference shown [0.90, 1.10]."


@pytest.mark.parametrize("named", [None, "Slow"])
def test_no_sentence_has_a_blank_where_a_figure_is_unknown(named: str | None) -> None:
    unknown: dict[str, Any] = dict.fromkeys(("p50_ms", "p95_ms", "statements", "rows", "client_cpu_ms", "bound_by"))
    rows = [changed(FAST, **unknown), changed(SLOW, **unknown)]
    said = headline(rows, [], [verdict("Fast", "Slow", 1.8, 2.2)], [verdict("Slow", "Fast", 0.4, 0.6)], named)
    assert "Fast serves 2.00× the pages of Slow." in said
    assert not any("  " in sentence or "None" in sentence or "takes" in sentence for sentence in said)
    assert headline_of_one_class(rows) == ["Fast serves 900 pages a second."]


@pytest.mark.parametrize("named", [None, "Slow"])
def test_where_more_than_a_quarter_of_the_slots_are_disturbed_nothing_is_claimed(named: str | None) -> None:
    def said(disturbed: int) -> list[str]:
        ran = slots("Fast", "Middle", "Other", "Slow", disturbed=disturbed)
        against = [verdict("Slow", "Fast", 0.1, 0.2)]
        return headline([FAST, SLOW], ran, [verdict("Fast", "Slow", 1.8, 2.2)], [] if named else against, named)

    assert said(4) == [
        "4 of 12 slots were disturbed by others on the machine, so nothing is claimed."
        " Run the test again when the machine is quiet."
    ]
    assert "× the pages of Slow" in " ".join(said(3))


def test_a_class_with_an_empty_slot_is_in_no_comparison_and_named_for_it() -> None:
    ran = slots("Fast", "Middle", "Slow", empty="Fast")
    said = headline(
        [FAST, MIDDLE, SLOW], ran, [verdict("Middle", "Slow", 1.8, 2.2)], [verdict("Slow", "Middle", 0.4, 0.6)]
    )
    assert said[0] == "Middle serves the most pages, 880 a second; every other class is shown to serve fewer."
    assert said[-1] == "Without a ratio, as no page was served in some slot: Fast."


@pytest.mark.parametrize(("named", "whom"), [(None, "No classes can"), ("Fast", "No class can be compared with Fast")])
def test_where_nothing_can_be_compared_it_says_why(named: str | None, whom: str) -> None:
    said = headline([FAST, SLOW], slots("Fast", "Slow", empty="Fast"), [], [], named)
    assert said[0].startswith(whom)
    assert said[0].endswith("it takes a page in every slot of both.")


def test_what_the_harness_can_account_for_is_said_of_the_first() -> None:
    against = [verdict("Middle", "Fast", 0.9, 0.95, within_harness=True), verdict("Slow", "Fast", 0.1, 0.2)]
    said = headline([FAST, MIDDLE, SLOW], [], [], against)
    assert said[1] == "But what the harness takes can account for the difference from Fast to Middle."


def test_a_class_below_saturation_is_said_to_be_limited_by_its_users_alone() -> None:
    said = headline([changed(FAST, bound_by="users")], [], [], [])
    assert said[-1] == "Nothing but the number of users limits Fast."


@pytest.mark.parametrize("strategies", [[], [row("Failed", None)], [row("Failed", 0)]])
def test_where_no_page_was_served_it_says_that_alone(strategies: list[ClassRow]) -> None:
    for said in (
        headline(strategies, [], [], []),
        headline(strategies, [], [], [], "Failed"),
        headline_of_mixed_run(strategies),
        headline_of_one_class(strategies),
    ):
        assert said == ["No page was served."]


def test_classes_of_a_mixed_run_are_not_ranked() -> None:
    assert headline_of_mixed_run([FAST, SLOW]) == [
        "2 user classes at once served 1000 pages a second together. This does not show which of them is faster."
    ]
