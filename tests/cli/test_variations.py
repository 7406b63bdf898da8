"""Ladders of loads and settings that vary, as they are written: what is accepted, and what a bad one is answered."""

from __future__ import annotations

import argparse

import pytest
from configargparse import ArgumentParser
from hypothesis import given
from hypothesis import strategies as st

from dbkit.analysis.condition import Variation, variants
from dbkit.cli.options import OPTIONS, VARYING, read_variations_of
from dbkit.cli.variations import ladder, rates, read_ladder, read_rates
from dbkit.errors import DbkitError
from tests.cli.test_bad_input import OTHER, SECRET

LADDER = ladder("users")
RATES = rates("pages a second")


@given(steps=st.sets(st.integers(1, 10_000), min_size=1))
def test_ascending_numbers_are_a_ladder(steps: set[int]) -> None:
    text = ",".join(map(str, sorted(steps)))
    assert LADDER(text) == text
    assert read_ladder(text) == tuple(sorted(steps))


@given(steps=st.lists(st.integers(-5, 20), min_size=1))
def test_other_numbers_are_none(steps: list[int]) -> None:
    if steps != sorted({step for step in steps if step > 0}):
        with pytest.raises(argparse.ArgumentTypeError, match="expected ascending numbers of at least 1"):
            LADDER(",".join(map(str, steps)))


def test_no_ladder_is_none() -> None:
    assert LADDER("") == ""


@pytest.mark.parametrize("text", ["0.5", "1e3", "0.2,1,100000"])
def test_ascending_rates_are_read_as_numbers(text: str) -> None:
    assert RATES(text) == text
    assert read_rates(text) == tuple(map(float, text.split(",")))


@pytest.mark.parametrize(
    "text",
    ["0", "-1", "nan", "1,nan,3", "inf", "1,inf", "2,1", "1,1", "100.0001,100.0002", "100001", "1e300", "1,", "x"],
)
def test_rates_that_nobody_can_ask_at_are_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="expected ascending numbers above 0 and at most 100000"):
        RATES(text)


def test_settings_are_read_with_their_values_in_the_order_in_which_they_are_given() -> None:
    assert read_variations_of("pool-size=5,1..3 statement-timeout=0,1m30s end=commit,rollback") == (
        Variation("pool-size", ("5", "1", "2", "3")),
        Variation("statement-timeout", ("0", "90")),
        Variation("end", ("commit", "rollback")),
    )


@given(text=st.text(alphabet="abdeintz-=.,: 0125/@", max_size=40))
def test_any_text_is_settings_or_is_answered_in_one_line(text: str) -> None:
    try:
        found = read_variations_of(text)
    except DbkitError as mistake:
        assert str(mistake) and "\n" not in str(mistake)
    else:
        assert {each.name for each in found} <= {*VARYING}
        assert all(len(each.values) > 1 for each in found)


@pytest.mark.parametrize(
    "text", [f"database=direct,{OTHER}", f"database={OTHER}", OTHER, f"{OTHER}=1,2", f"pool-size=1,2 {OTHER}"]
)
def test_a_url_in_the_place_of_a_name_is_not_shown(text: str) -> None:
    with pytest.raises(DbkitError) as raised:
        read_variations_of(text)
    assert SECRET not in str(raised.value)


@pytest.mark.parametrize(
    ("arguments", "environment", "configuration"),
    [
        (("--vary", "pool-size=1,2", "--vary", "end=commit,rollback"), {}, ""),
        (("--vary=pool-size=1,2 end=commit,rollback",), {}, ""),
        ((), {"DBKIT_VARY": "pool-size=1,2 end=commit,rollback"}, ""),
        ((), {}, "vary = pool-size=1,2 end=commit,rollback"),
        (
            ("--vary", "pool-size=1..2", "--vary", "end=commit,rollback"),
            {"DBKIT_VARY": "jit=on,off"},
            "vary = jit=on,off",
        ),
    ],
    ids=["flags", "a flag", "a variable", "a line of a file", "flags before all"],
)
def test_settings_come_by_flags_by_a_variable_or_by_a_line_of_a_file(
    arguments: tuple[str, ...], environment: dict[str, str], configuration: str
) -> None:
    parser = ArgumentParser()
    OPTIONS["vary"].add_to(parser)
    options = parser.parse_args(arguments, env_vars=environment, config_file_contents=configuration)
    assert options.vary == "pool-size=1,2 end=commit,rollback"


def test_each_value_comes_with_each_of_the_others() -> None:
    both = variants([Variation("pool-size", ("1", "2")), Variation("end", ("commit", "rollback"))])
    assert both == [
        (("end", "commit"), ("pool-size", "1")),
        (("end", "commit"), ("pool-size", "2")),
        (("end", "rollback"), ("pool-size", "1")),
        (("end", "rollback"), ("pool-size", "2")),
    ]
    assert variants([]) == [()]
