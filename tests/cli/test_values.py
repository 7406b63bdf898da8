"""What command lines take as numbers and times, and what they answer to the rest."""

from __future__ import annotations

import argparse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbkit.cli.values import ValueType, duration, integer, share


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        *(("2", 2), ("0.8", 0.8), (".5", 0.5), ("1e1", 10), ("2s", 2), ("0.5s", 0.5)),
        *(("3m", 180), ("1h20m", 4800), ("1m30s", 90), ("3h30m10s", 12610), ("90m", 5400)),
    ],
)
def test_a_time_is_seconds_or_has_locusts_form(text: str, seconds: float) -> None:
    assert duration(positive=True)(text) == seconds


@given(st.integers(0, 99), st.integers(0, 99), st.integers(0, 99))
def test_hours_minutes_and_seconds_add_up(hours: int, minutes: int, seconds: int) -> None:
    assert duration()(f"{hours}h{minutes}m{seconds}s") == (hours * 60 + minutes) * 60 + seconds


@given(st.integers(0, 10**13).map(lambda ms: ms / 1000))
def test_a_time_is_written_so_that_it_is_read_as_the_same(seconds: float) -> None:
    assert duration()(duration().write(seconds)) == seconds


TIME = "expected a time such as 2, 0.5 or 1m30s"


@pytest.mark.parametrize(
    ("value_type", "text", "expected"),
    [
        *((duration(positive=True), text, f"{TIME}, above 0") for text in ("0", "0s", "-1", "x", "")),
        *(
            (duration(), text, f"{TIME}, of at least 0")
            for text in ("-0.1", "nan", "inf", "30s1m", "1m 30s", "s", "2d")
        ),
        *((integer(1), text, "expected an integer of at least 1") for text in ("0", "-1", "2.5", "x", "")),
        *((share(), text, "expected a number from 0 to 1") for text in ("-0.1", "1.1", "nan", "x")),
        (integer(), "x", "expected an integer"),
    ],
)
def test_a_bad_value_is_answered_with_what_was_expected(value_type: ValueType, text: str, expected: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError) as refused:
        value_type(text)
    assert str(refused.value) == f"invalid value {text!r}: {expected}"
