"""Users that get no page are named while that lasts, with what they wait for: in the log, the tab, the result."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import requests

from tests.conftest import PASSWORD_IN_URL
from tests.load.faulty_servers import waiting
from tests.locust_runs import DEADLINE_S, locust

STACKS = ("Psycopg", "PsycopgThreads", "PsycopgAsync", "Asyncpg")
PAGES = """
from sqlalchemy import text
from dbkit.load import Workload, page_users

def sleeps(session, number):
    session.execute(text("SELECT pg_sleep(300)"))

def quick(session, number):
    session.execute(text("SELECT 1"))

pages = Workload("pages", keys=range(10), check=None)
page_users(pages, sleeps=sleeps, quick=quick)
"""
POOL = "for a connection of their pool"
ANSWER = "for their page: for an answer of the server"
LET_IN = "for the server, or a pooler before it, to let them in"


def test_users_behind_a_small_pool_are_named(seeded_url: str, tmp_path: Path) -> None:
    (tmp_path / "pages.py").write_text(PAGES)
    arguments = ("--pool-size", "1", "--max-overflow", "0", "--pool-timeout", "300", "--verify-keys", "0",
                 "--plans", "none", "--drain-timeout", "0.2", "--think-time", "0.05")  # fmt: skip
    expected = {f"of {stack}Sleeps": ANSWER for stack in STACKS} | {f"of {stack}Quick": POOL for stack in STACKS}
    with locust(
        tmp_path / "run", *arguments, url=seeded_url, locustfiles=str(tmp_path / "pages.py"), web=True
    ) as run:  # fmt: skip
        assert run.swarm(user_count=3 * 2 * len(STACKS), spawn_rate=100)["success"]

        def are_named(said: str, verb: str) -> bool:
            return all(re.search(f"{who} {verb} for more than 5 s {what}", said) for who, what in expected.items())

        run.wait_until(lambda: are_named(run.stderr, "(have|has) waited"))
        run.wait_until(lambda: are_named(run.get("/dbkit/state").text, "waited"))
        run.stop()
        warnings = json.loads((run.folder / "run_comparison.json").read_text())["warnings"]
        for who, what in expected.items():
            assert sum(f"{who} waited for more than 5 s {what}" in each for each in warnings) == 1, (who, warnings)
        run.terminate()


def test_users_that_wait_for_a_place_are_named_with_the_option(seeded_url: str, tmp_path: Path) -> None:
    (tmp_path / "pages.py").write_text(PAGES)
    arguments = ("--max-in-flight", "1", "--verify-keys", "0", "--plans", "none", "--drain-timeout", "0.2")
    classes = [f"{stack}Sleeps" for stack in STACKS]
    with locust(
        tmp_path / "run",
        *arguments,
        *classes,
        "-u",
        "8",
        "-r",
        "100",
        url=seeded_url,
        locustfiles=str(tmp_path / "pages.py"),
    ) as run:

        def is_named(user_class: str) -> bool:
            words = (
                f"of {user_class} (have|has) waited for more than 5 s for a place for their page, .* --max-in-flight"
            )
            return re.search(words, run.stderr) is not None

        run.wait_until(lambda: sum(map(is_named, classes)) >= len(classes) - 1)
        run.terminate()
        warnings = json.loads((run.folder / "run_comparison.json").read_text())["warnings"]
        assert sum("--max-in-flight" in each for each in warnings) >= len(classes) - 1


@pytest.mark.parametrize("processes", [(), ("--processes", "2")])
def test_users_that_are_not_let_in_are_named(
    seeded_url: str, tcp_port: int, tmp_path: Path, processes: tuple[str, ...]
) -> None:
    with waiting(tcp_port) as way:
        url = f"postgresql://tester:{PASSWORD_IN_URL}@127.0.0.1:{way.port}/dbkit?sslmode=disable&connect_timeout=600"
        arguments = ("-u", "4", "-r", "100", "-t", "600s", "--pool-class", "null", "--plans", "none",
                     "--think-time", "0.05", "--drain-timeout", "0.2", *processes)  # fmt: skip
        with locust(tmp_path / "run", *arguments, "AsyncpgCore", url=url, record=True) as run:
            run.wait_until(lambda: len({page.process for page in run.pages}) == (2 if processes else 1))
            way.holds = True
            run.wait_until(lambda: run.stderr.count("waited for more than 5 s") == (2 if processes else 1))
            way.holds = False
            run.terminate()
            warnings = json.loads((run.folder / "run_comparison.json").read_text())["warnings"]
            [warning] = [each for each in warnings if LET_IN in each]
            # those of all processes that had waited for so long by then
            assert re.match("([2-4] users|1 user) of AsyncpgCore waited for more than 5 s", warning)


def test_who_still_waits_is_named_with_their_number_after_a_reset_of_the_statistics(
    seeded_url: str, tmp_path: Path
) -> None:
    (tmp_path / "pages.py").write_text(PAGES)
    arguments = ("--verify-keys", "0", "--plans", "none", "--drain-timeout", "0.2", "--processes", "2", "AsyncpgSleeps")
    with locust(
        tmp_path / "run", *arguments, url=seeded_url, locustfiles=str(tmp_path / "pages.py"), web=True
    ) as run:  # fmt: skip
        run.wait_until(lambda: run.template_arguments()["worker_count"] == 2)
        assert run.swarm(user_count=6, spawn_rate=100)["success"]

        def are_named() -> bool:
            return f"6 users of AsyncpgSleeps waited for more than 5 s {ANSWER}" in run.get("/dbkit/state").text

        run.wait_until(are_named)
        assert requests.post(f"{run.web_url}/stats/reset", timeout=DEADLINE_S).ok
        run.wait_until(are_named)
        run.stop()
        run.terminate()
