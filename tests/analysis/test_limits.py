"""Limits as people write them: every form is read, has one text, and what says nothing is refused in words."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbkit.analysis.limits import BEST, FIGURES, Limit, read_limit
from dbkit.errors import DbkitError


@pytest.mark.parametrize(
    ("text", "read", "words"),
    [
        ("p95_ms < 50", Limit("p95_ms", "<", 50), "p95 under 50 ms"),
        ("  p99_ms<=1e2 ", Limit("p99_ms", "<=", 100), "p99 at most at 100 ms"),
        ("failures = 0", Limit("failures", "=", 0), "failures at 0"),
        ("pages_per_s > 300", Limit("pages_per_s", ">", 300), "pages/s over 300"),
        ("max_ms < 80", Limit("max_ms", "<", 80), "max under 80 ms"),
        ("pages_per_s > 99 % of best", Limit("pages_per_s", ">", 0.99, "best"), "pages/s over 99 % of the best"),
        ("pages_per_s>=0.95*best", Limit("pages_per_s", ">=", 0.95, "best"), "pages/s at least at 95 % of the best"),
        ("p95_ms < 150% of best", Limit("p95_ms", "<", 1.5, "best"), "p95 under 150 % of the best"),
    ],
)
def test_a_limit_is_read_and_said(text: str, read: Limit, words: str) -> None:
    assert read_limit(text) == read
    assert read.words == words
    assert read_limit(str(read)) == read


@given(
    st.builds(
        Limit,
        st.sampled_from([*FIGURES]),
        st.sampled_from(["<", "<=", ">", ">="]),
        st.integers(1, 10**5).map(lambda number: number / 8),
    )
)
def test_the_text_of_a_limit_is_read_as_the_same_limit(limit: Limit) -> None:
    assert read_limit(str(limit)) == Limit(limit.figure, limit.comparison, float(f"{limit.number:g}"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "expected a figure, one of < <= > >= =, and a number, such as p95_ms < 50"),
        ("p95_ms 50", "expected a figure"),
        ("p95_ms != 50", "expected a figure"),
        ("p95_ms < fast", "expected a figure"),
        ("p95_ms < 50 ms", "expected a figure"),
        ("p95_ms < -1", "expected a number of at least 0, and not -1"),
        ("p95_ms < 1e999", "expected a number of at least 0, and not 1e999"),
        ("p96_ms < 50", "there is no figure p96_ms: choose one of pages, failures"),
        ("stack = 1", "there is no figure stack"),
        ("pages_per_s > 99 % of worst", "a share can be of best"),
        ("pages_per_s > 101 % of best", "write pages_per_s > 99 % of best"),
        ("p95_ms < 90 % of best", "or < 110 % of best where less is better"),
        ("pages_per_s = 99 % of best", "write pages_per_s > 99 % of best"),
        ("failures < 0", "no figure is below 0; write failures = 0"),
    ],
)
def test_what_is_no_limit_is_refused_in_words(text: str, said: str) -> None:
    with pytest.raises(DbkitError, match=re.escape(said)):
        read_limit(text)


def test_what_shares_can_be_of_is_up_to_the_caller() -> None:
    limit = read_limit("pages_per_s >= 0.95 * before", ["before"])
    assert limit == Limit("pages_per_s", ">=", 0.95, "before")
    assert limit.is_kept(96, 100) and limit.is_kept(95, 100) and not limit.is_kept(94, 100)
    with pytest.raises(DbkitError, match="a share can be of before"):
        read_limit(f"pages_per_s > 99 % of {BEST}", ["before"])
    with pytest.raises(DbkitError, match="a share can be of nothing"):
        read_limit("pages_per_s >= 0.95 * before", [])


@pytest.mark.parametrize(("comparison", "kept"), [("<", [1]), ("<=", [1, 2]), (">", [3]), (">=", [2, 3]), ("=", [2])])
def test_a_value_keeps_a_limit_or_does_not(comparison: str, kept: list[int]) -> None:
    limit = Limit("p95_ms", comparison, 2)
    assert [value for value in (1, 2, 3) if limit.is_kept(value)] == kept
