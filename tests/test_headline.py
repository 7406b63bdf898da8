"""The answer in words: who serves the most, how sure that is, why, and what limits it."""

from __future__ import annotations

from typing import Any

import pytest

from dbkit.headline import headline, headline_of_mixed_run, headline_of_one_class


def row(user_class: str, pages_per_s: float | None, **figures: Any) -> dict[str, Any]:
    figures = {
        "users": 10,
        "failures": 0,
        "p50_ms": 9.0,
        "p95_ms": 12.0,
        "statements": 1.0,
        "rows": 20.0,
        "client_cpu_ms": 1.1,
    } | figures
    return {"user_class": user_class, "pages_per_s": pages_per_s, "bound_by": "client CPU", **figures}


def verdict(user_class: str, reference: str, low: float | None, high: float | None, **more: Any) -> dict[str, Any]:
    shown = low is not None and high is not None and not low <= 1 <= high
    return {
        "quantity": "pages_per_s",
        "user_class": user_class,
        "reference": reference,
        "ratio": 1.0,
        "low": low,
        "high": high,
        "shown": shown,
        "sentence": f"{user_class} serves 2.00× the pages of {reference}"
        if shown
        else "no difference shown [0.90, 1.10]",
        **more,
    }


FAST, SLOW = row("Fast", 900.4), row("Slow", 100, statements=21.0, rows=60.0, client_cpu_ms=None)


def test_it_says_who_serves_the_most_with_how_many_users_and_how_fast() -> None:
    first = headline([FAST, SLOW], [], [])[0]
    assert (
        first
        == "Fast serves the most pages: 900 a second with 10 users, half of them within 9 ms and 95 % within 12 ms."
    )


def test_one_class_alone_is_not_said_to_serve_the_most() -> None:
    assert headline([row("Only", 5.04, users=1)], [], [])[0].startswith("Only serves 5.04 pages a second with 1 user, ")


def test_those_that_are_not_shown_to_be_slower_are_named() -> None:
    against = [
        verdict("Middle", "Fast", 0.9, 1.01),
        verdict("Other", "Fast", 0.95, 1.2),
        verdict("Slow", "Fast", 0.1, 0.2),
    ]
    assert "Not shown to serve fewer: Middle [0.90, 1.01], Other [0.95, 1.20]." in headline([FAST, SLOW], [], against)


def test_one_that_is_shown_to_serve_more_in_the_same_rounds_is_not_said_to_serve_fewer() -> None:
    told = headline([FAST, SLOW], [], [verdict("Slow", "Fast", 1.04, 1.17)])
    assert "Not shown to serve fewer: Slow [1.04, 1.17]." in told


def test_failures_of_the_first_are_told_next_to_its_speed() -> None:
    assert headline([FAST | {"failures": 7, "pages": 900}, SLOW], [], [])[1] == "But 7 of its 900 pages failed."


def test_one_class_without_rounds_is_told_with_the_most_users_that_there_were() -> None:
    assert headline_of_one_class([FAST])[0].startswith("Fast serves 900 pages a second with up to 10 users, ")


def test_where_all_others_are_shown_to_be_slower_it_says_so() -> None:
    told = headline([FAST, SLOW], [], [verdict("Slow", "Fast", 0.1, 0.2)])
    assert "Every other class is shown to serve fewer." in told


def test_too_few_rounds_are_told_and_no_difference_is_claimed() -> None:
    few = [verdict("Slow", "Fast", None, None)]
    told = headline([FAST, SLOW], [verdict("Fast", "Slow", None, None)], few)
    assert "The rounds are too few to tell whether others serve as many." in told
    assert not any("×" in sentence or "Every other" in sentence for sentence in told)


def test_a_difference_that_is_shown_comes_with_its_reason() -> None:
    told = headline([FAST, SLOW], [verdict("Fast", "Slow", 1.8, 2.2)], [verdict("Slow", "Fast", 0.4, 0.6)])
    assert "Fast serves 2.00× the pages of Slow." in told
    fast = "A page of Fast takes 1 statement, 20 rows and 1.1 ms of client CPU"
    assert f"{fast}; one of Slow takes 21 statements and 60 rows." in told


def test_a_difference_that_is_not_shown_is_told_as_that() -> None:
    told = headline([FAST, SLOW], [verdict("Fast", "Slow", 0.9, 1.1)], [verdict("Slow", "Fast", 0.9, 1.1)])
    assert "Fast against Slow: no difference shown [0.90, 1.10]." in told


def test_it_ends_with_what_limits_the_first() -> None:
    assert headline([FAST, SLOW], [], [])[-1] == "Fast is bound by client CPU."


@pytest.mark.parametrize("strategies", [[], [row("Failed", None)], [row("Failed", 0)]])
def test_where_no_page_was_served_it_says_that_alone(strategies: list[dict[str, Any]]) -> None:
    for told in (headline(strategies, [], []), headline_of_mixed_run(strategies), headline_of_one_class(strategies)):
        assert told == ["No page was served."]


def test_classes_of_a_mixed_run_are_not_ranked() -> None:
    assert headline_of_mixed_run([FAST, SLOW]) == [
        "2 user classes at once served 1000 pages a second together. Which of them is faster cannot be told from this."
    ]
