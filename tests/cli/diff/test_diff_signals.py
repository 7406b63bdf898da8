"""A signal to `dbkit diff`, or the end of one of its processes, leaves results and nothing else."""

from __future__ import annotations

import json
import signal

import psutil
import pytest

from tests.cli.diff.runs import diff, leftovers, started, wait_for, wait_until
from tests.locust_runs import DEADLINE_S
from tests.repositories import Shop


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_under_load_ends_it_with_results_and_nothing_left(
    shop: Shop, shop_url: str, number: signal.Signals
) -> None:
    results = shop.root.parent / "results"
    arguments = ("main..main", "--rounds", "500", "--csv", str(results / "diff"), "--", "shop_load.py", "PsycopgTitles")
    with started(shop, shop_url, *arguments) as process:
        wait_for(process, "round 2")
        process.send_signal(number)
        process.communicate(timeout=DEADLINE_S)
    assert process.returncode in (3, 4)
    assert json.loads((results / "diff_comparison.json").read_text())["state"] == "cut short"
    assert leftovers(shop) == []
    assert shop.is_clean()


def test_a_signal_before_the_load_ends_it_with_nothing_left(shop: Shop, shop_url: str) -> None:
    shop.change("def shelves", "import time; time.sleep(600)\n\n\ndef shelves")
    with started(shop, shop_url, "main", "--", "shop_load.py") as process:
        wait_until(lambda: any("page_facts" in line for line in leftovers(shop)))
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=DEADLINE_S)
    assert (process.returncode, errors.splitlines()[-1]) == (143, "python -m dbkit: interrupted")
    assert leftovers(shop) == []


@pytest.mark.parametrize(
    "role, processes, who", [("--master", 1, "the process that makes the result"), ("--worker", 2, "main (")]
)
def test_a_process_that_is_killed_under_load_is_named(
    shop: Shop, shop_url: str, role: str, processes: int, who: str
) -> None:
    options = ("--rounds", "500", "--processes", str(processes))
    arguments = ("main..main", *options, "--", "shop_load.py", "PsycopgTitles")
    with started(shop, shop_url, *arguments) as process:
        wait_for(process, "round 2")
        next(each for each in psutil.Process(process.pid).children() if role in each.cmdline()).kill()
        _, errors = process.communicate(timeout=DEADLINE_S)
    last = errors.splitlines()[-1]
    assert last.startswith(f"python -m dbkit: error: {who}") and last.endswith("has ended: it was killed by SIGKILL")
    assert process.returncode == 2
    assert leftovers(shop) == []
    assert shop.is_clean()


def test_what_a_killed_command_leaves_ends_and_is_removed_at_the_next_start(shop: Shop, shop_url: str) -> None:
    shop.change("def shelves", "import time; time.sleep(600)\n\n\ndef shelves")
    with started(shop, shop_url, "main", "--", "shop_load.py") as process:
        wait_until(lambda: any("page_facts" in line for line in leftovers(shop)))
        process.kill()
        process.communicate(timeout=DEADLINE_S)
    wait_until(lambda: not any("page_facts" in line for line in leftovers(shop)))
    assert diff(shop, shop_url, "none..main", "--", "shop_load.py").returncode == 2
    assert shop.git("status", "--short") == " M shop/pages.py\n"
    assert "before" not in shop.git("worktree", "list")
