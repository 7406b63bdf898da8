"""Users of a server that is down: they try more and more rarely, what they do not try is counted, and they return."""

from __future__ import annotations

import itertools
import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import PASSWORD_IN_URL
from tests.load.faulty_servers import Door
from tests.locust_runs import LocustRun, Page, locust

CLASSES = ("PsycopgCore", "PsycopgThreadsCore", "PsycopgAsyncCore", "AsyncpgCore")
FIRST_S, LONGEST_S, LEAST_SHARE = 0.05, 1.0, 0.5  # as docs/results.md says
TRIES = 7
"""After so many of each user, waits have grown to their limit."""
TASKS = """
from locust import task
from dbkit.load import PageUser
from dbkit.paging import core

class Tasks(PageUser):
    stack = "psycopg"
    @task
    def one(self):
        self.read_page(core, 0, 20)
"""


@pytest.fixture
def door(tcp_port: int) -> Iterator[Door]:
    door = Door(tcp_port)
    door.open()
    yield door
    door.close()


def url_of(door: Door) -> str:
    return f"postgresql://tester:{PASSWORD_IN_URL}@127.0.0.1:{door.port}/dbkit"


def by_class(run: LocustRun) -> dict[str, list[Page]]:
    pages = defaultdict(list)
    for page in run.pages:
        pages[page.context["user_class"]].append(page)
    return pages


Rows = dict[str, dict[str, str]]


def wait_for_pages(run: LocustRun, classes: tuple[str, ...]) -> None:
    before = {name: len(pages) for name, pages in by_class(run).items()}

    def all_have_come() -> bool:
        pages = by_class(run)
        return all(any(page.failure is None for page in pages[name][before.get(name, 0) :]) for name in classes)

    run.wait_until(all_have_come)


def refused(pages: list[Page]) -> list[Page]:
    return [page for page in pages if page.failure and page.failure.startswith("ConnectionRefused")]


def lose_the_server_and_find_it_again(run: LocustRun, door: Door, classes: tuple[str, ...]) -> Rows:
    """Have every class refused some times, and then served again, and end the run: its rows, by class."""
    wait_for_pages(run, classes)
    door.close()
    run.wait_until(lambda: all(len(refused(by_class(run)[name])) > TRIES for name in classes))
    door.open()
    wait_for_pages(run, classes)
    assert run.terminate() == 1
    return {row["user_class"]: row for row in run.rows("strategies")}


def test_users_back_off_and_return_on_every_stack(seeded_url: str, door: Door, tmp_path: Path) -> None:
    (tmp_path / "tasks.py").write_text(TASKS)
    classes = (*CLASSES, "Tasks")
    # one user a class, so that each page's wait can be distinguished from those before it
    arguments = ("-u", str(len(classes)), "-r", "100", "-t", "600s", "--plans", "none", "--think-time", "0.001")
    files = f"locustfiles/users.py,{tmp_path / 'tasks.py'}"
    with locust(
        tmp_path / "run", *arguments, *classes, url=url_of(door), locustfiles=files, record=True
    ) as run:  # fmt: skip
        rows = lose_the_server_and_find_it_again(run, door, classes)
        result = json.loads((run.folder / "run_comparison.json").read_text())
        for name, pages in by_class(run).items():  # Locust begins each page of a task, by a stint of its own
            waits_ms = [page.context["backed_off_ms"] for page in pages]
            after_failures = [
                after.context["backed_off_ms"] for page, after in itertools.pairwise(pages) if page.failure
            ]
            # the first one is tried again at once; a think time that has passed is a part of the waits
            assert after_failures[0] == 0
            for earlier_ms, later_ms in itertools.pairwise(after_failures):
                assert later_ms <= max(2 * earlier_ms / LEAST_SHARE, 1000 * FIRST_S) + 5
            assert 1000 * LONGEST_S * LEAST_SHARE - 2 <= after_failures[-1] <= 1000 * LONGEST_S
            assert sum(waits_ms) == pytest.approx(1000 * float(rows[name]["backed_off_s"]), rel=1e-4)
            assert sum(f"users of {name} waited" in warning for warning in result["warnings"]) == 1


def test_in_an_open_loop_what_is_due_meanwhile_is_not_begun(seeded_url: str, door: Door, tmp_path: Path) -> None:
    arguments = ("-u", "4", "-r", "100", "-t", "600s", "--plans", "none", "--arrivals", "400")
    with locust(tmp_path / "run", *arguments, *CLASSES, url=url_of(door), record=True) as run:
        rows = lose_the_server_and_find_it_again(run, door, CLASSES)
        for name in CLASSES:
            waited_s = float(rows[name]["backed_off_s"])
            assert waited_s > 1
            # of a hundred a second for each class, by chance
            assert int(rows[name]["not_begun"]) > 50 * waited_s
            assert rows[name]["sustained"] == "no"
