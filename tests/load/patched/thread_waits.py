"""A wait of a native thread is cancelled for its own page alone, and where its user is gone."""

from __future__ import annotations

from typing import Any, cast

import pytest

import dbkit.load  # noqa: F401  # first, as it patches the process
from dbkit.load.native_pool import Abandoned, ThreadWait

NO_CONNECTION = cast(Any, None)  # it is looked at where a wait is under way


def test_a_cancel_that_comes_after_its_page_leaves_the_next_one_alone() -> None:
    wait = ThreadWait(60)
    wait.begin_page()
    wait.cancel(lambda: False)
    wait.begin(NO_CONNECTION)
    wait.end()


def test_a_cancel_between_two_waits_ends_the_next_one_of_its_page_and_lets_it_roll_back() -> None:
    wait = ThreadWait(60)
    wait.begin_page()
    wait.cancel(lambda: True)
    with pytest.raises(Abandoned):
        wait.begin(NO_CONNECTION)
    wait.begin(NO_CONNECTION)
    wait.end()


def test_a_page_that_goes_on_after_a_cancel_is_refused_all_but_its_rollback_until_the_next_page() -> None:
    wait = ThreadWait(60)
    wait.begin_page()
    wait.check()
    for _ in range(2):
        wait.cancel(lambda: True)
    with pytest.raises(Abandoned):
        wait.begin(NO_CONNECTION)
    wait.cancel(lambda: True)
    wait.begin(NO_CONNECTION)
    wait.end()
    for _ in range(2):
        with pytest.raises(Abandoned):
            wait.check()
    wait.begin_page()
    wait.check()
    wait.begin(NO_CONNECTION)
    wait.end()


def test_a_cancel_that_found_no_wait_is_forgotten_with_its_page() -> None:
    wait = ThreadWait(60)
    wait.begin_page()
    wait.cancel(lambda: True)
    wait.begin_page()
    wait.begin(NO_CONNECTION)
    wait.end()
