"""What goes wrong while processes start again for the next round: code that changes or fails, and signals."""

from __future__ import annotations

import signal

import pytest

from tests.cli.diff.runs import (
    SHORT,
    diff,
    from_start,
    in_workers,
    leftovers,
    rounds_before_it_was_cut_short,
    started,
    wait_until,
)
from tests.locust_runs import DEADLINE_S
from tests.repositories import Shop


@pytest.mark.parametrize(
    "at_start, then, rounds",
    [(1, "", set()), (3, "", {1}), (3, "raise ValueError('a name that is not there yet')", {1})],
    ids=["before the first round", "before the second", "so that it cannot be imported"],
)
def test_files_that_change_meanwhile_end_it_with_what_was_measured_before(
    shop: Shop, shop_url: str, at_start: int, then: str, rounds: set[int]
) -> None:
    code = f"""
    if os.environ["DBKIT_SIDE_NAME"] == "working tree":
        with open(os.path.join(os.path.dirname(__file__), "shop", "pages.py"), "a") as pages:
            pages.write("# somebody goes on\\n")
        {then}
    """
    in_workers(shop, from_start(at_start, code))
    results = shop.root.parent / "results"
    done = diff(shop, shop_url, "main", *SHORT, "--csv", str(results / "diff"), "--", "shop_load.py", "PsycopgTitles")
    assert done.returncode == 2
    assert "shop/pages.py has changed since the run began, so the run ends here: " in done.stderr
    assert "Traceback" not in done.stderr
    assert "a name" not in done.stderr
    assert rounds_before_it_was_cut_short(results) == rounds


def test_processes_that_cannot_start_again_are_named_and_what_was_measured_is_written(
    shop: Shop, shop_url: str
) -> None:
    in_workers(shop, from_start(3, "raise ValueError('not once more')"))
    results = shop.root.parent / "results"
    arguments = ("main..main", *SHORT, "--csv", str(results / "diff"), "--", "shop_load.py", "PsycopgTitles")
    done = diff(shop, shop_url, *arguments)
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert (
        last.startswith("python -m dbkit: error: main")
        and "a load process has ended: " in last
        and "not once more" in last
    )
    assert rounds_before_it_was_cut_short(results) == {1}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_processes_start_again_ends_it_with_results_and_nothing_left(
    shop: Shop, shop_url: str, number: signal.Signals
) -> None:
    written = in_workers(shop, from_start(3, "time.sleep(600)"))
    results = shop.root.parent / "results"
    arguments = ("main..main", *SHORT, "--csv", str(results / "diff"), "--", "shop_load.py", "PsycopgTitles")
    with started(shop, shop_url, *arguments) as process:
        wait_until(lambda: len(written.read_text().splitlines()) == 4)
        process.send_signal(number)
        _, errors = process.communicate(timeout=DEADLINE_S)
    assert "Traceback" not in errors
    assert process.returncode in (3, 4)
    assert rounds_before_it_was_cut_short(results) == {1}
    assert leftovers(shop) == []
