"""Users with tasks of their own, by Locust's `@task`: which pages their tasks read, and under which names."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.locust_runs import LocustRun, locust

TASKS = """
from functools import partial
from itertools import count
from locust import constant, task
from sqlalchemy import text
from dbkit.load import PageUser, Workload

numbers = Workload("numbers", keys=[1], next_key=lambda rendered, number: number + 1 if number < 3 else None)

def number_page(session, number):
    session.execute(text("SELECT 1"))
    return [number]

def doubled(factor):
    def page(session, number):
        session.execute(text("SELECT 1"))
        return "no page that has a next one"
    return page

class Pages:
    def page(self, session, number):
        session.execute(text("SELECT 1"))
        return number

class TaskUser(PageUser):
    abstract = True
    workload = numbers
    page_function = number_page
    wait_time = constant(0.01)

    def on_start(self):
        self.turns = count()

    @task
    def read_some(self):
        assert self.read_page(doubled(2), 70) == "no page that has a next one"
        assert self.read_page(partial(Pages().page), 71) == 71
        assert self.read_page(doubled(3), 72, name="tripled") == "no page that has a next one"
        assert self.read_page() == [next(self.turns) % 3 + 1]

class PsycopgTasks(TaskUser):
    stack = "psycopg"

class PsycopgThreadsTasks(TaskUser):
    stack = "psycopg-threads"

class AsyncpgTasks(TaskUser):
    stack = "asyncpg"
"""
NAMES = {70: "doubled.page", 71: "Pages.page", 72: "tripled"}

NO_TASKS = """
from locust import task
from dbkit.load import SyncPageUser

class Mixin:  # Locust takes no tasks from it
    @task
    def read(self):
        pass

class Lost(Mixin, SyncPageUser):
    pass
"""

NO_FUNCTION = """
from locust import constant, task
from dbkit.load import SyncPageUser

class Nothing(SyncPageUser):
    wait_time = constant(0.01)

    @task
    def read(self):
        self.read_page()
"""
CLASSES = ("PsycopgTasks", "PsycopgThreadsTasks", "AsyncpgTasks")


@pytest.fixture(scope="module")
def run(seeded_url: str, tmp_path_factory: pytest.TempPathFactory) -> LocustRun:
    """A run in which each user has read its workload's pages over and over."""
    folder = tmp_path_factory.mktemp("tasks")
    (folder / "tasks.py").write_text(TASKS)
    with locust(folder / "run", "-u", "3", url=seeded_url, locustfiles=str(folder / "tasks.py"), record=True) as run:
        run.wait_until(lambda: all(len(keys(run, name)) > 10 for name in CLASSES))
        assert run.terminate() == 0, run.output
    return run


def keys(run: LocustRun, user_class: str) -> list[int]:
    """The keys of the pages of a class's own function, in order."""
    pages = [page for page in run.pages if page.context["user_class"] == user_class]
    return [page.context["key"] for page in pages if page.context["key"] not in NAMES]


@pytest.mark.parametrize("user_class", CLASSES)
def test_pages_that_follow_one_another_do_so_from_task_to_task(run: LocustRun, user_class: str) -> None:
    found = keys(run, user_class)
    assert found == ([1, 2, 3] * len(found))[: len(found)]


def test_a_page_of_another_function_is_not_asked_for_the_next_key(run: LocustRun) -> None:
    assert {page.failure for page in run.pages} == {None}
    assert "Traceback" not in run.output


def test_requests_have_the_name_of_their_function_or_the_one_that_is_given(run: LocustRun) -> None:
    named = {page.context["key"]: page.strategy for page in run.pages if page.context["key"] in NAMES}
    assert named == NAMES


def test_tasks_that_locust_does_not_find_are_a_mistake_in_one_line(seeded_url: str, tmp_path: Path) -> None:
    (tmp_path / "lost.py").write_text(NO_TASKS)
    with locust(tmp_path / "run", url=seeded_url, locustfiles=str(tmp_path / "lost.py")) as run:
        assert run.wait() == 2
    (line,) = [line for line in run.stderr.splitlines() if "error" in line]
    assert "Lost has no page_function and no tasks of its own" in line


def test_a_task_that_reads_no_function_is_named(seeded_url: str, tmp_path: Path) -> None:
    (tmp_path / "nothing.py").write_text(NO_FUNCTION)
    with locust(tmp_path / "run", url=seeded_url, locustfiles=str(tmp_path / "nothing.py")) as run:
        run.wait_until(lambda: "Nothing has no page_function: call read_page with a function" in run.output)
        run.terminate()
