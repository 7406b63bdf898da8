"""Lanes as users meet them: each page that begins is one Locust request, whatever happens to its user.

Page functions write down in files of their own that a page begins, which is compared with what was reported to Locust.
"""

from __future__ import annotations

import itertools
import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import psycopg
import pytest
from psycopg import sql

from dbkit.database.stacks import STACKS
from dbkit.database.url import DatabaseUrl
from dbkit.todo.dataset import Shape, create
from tests.locust_runs import LocustRun, Page, connections, locust, named

CUT_OFF = "CutOff: the page had not come back when its user was stopped, nor within --drain-timeout"
NATIVE = tuple(stack for stack in STACKS if stack != "psycopg")
"""Stacks whose pages are read beside the hub."""

PAGES = '''
import json, os, time
import gevent
from dbkit.database.stacks import STACKS
from dbkit.load import PageUser, Rounds
from dbkit.paging import core, joined
from locust import between, constant, constant_pacing, events, task
from locust.exception import StopUser
from sqlalchemy import text

begun = {}
running = False

@events.test_start.add_listener
def start(**_):
    global running
    running = True

@events.test_stop.add_listener
def stop(**_):
    global running
    running = False  # what is read now is read for its plan

def write_down(name):
    """In one write, which no thread and no process can break."""
    if not running:
        return
    file = begun.get(os.getpid())
    if file is None:
        file = os.open(f"{os.environ['BEGUN']}/{os.getpid()}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        file = begun.setdefault(os.getpid(), file)
    os.write(file, f"{name}\\n".encode())

def noted(name, function):
    def read(session, page, page_size):
        write_down(name)
        return function(session, page, page_size)
    read.__name__ = name
    return read

def nap(session, page, page_size):
    session.execute(text(f"SELECT pg_sleep({page % 3 / 100})"))
    return core(session, page, page_size)

def hold(session, page, page_size):
    session.execute(text("SELECT pg_sleep(300)"))

def fail(session, page, page_size):
    raise LookupError("no page today")

def classes(kind, function, **attributes):
    """A class of each stack, whose name and whose pages' name is the kind and the stack."""
    for stack in STACKS:
        name = f"{kind} {stack}"
        own = {"stack": stack, "page_function": noted(name, function), **attributes}
        globals()[name] = type(name, (PageUser,), own)
'''


class Run:
    """A Locust whose pages are written down as they begin, and as they are reported to Locust."""

    def __init__(self, run: LocustRun, begun: Path) -> None:
        self.locust = run
        self._begun = begun

    @property
    def begun(self) -> Counter[str]:
        """Pages that have begun, by name."""
        return Counter(name for file in self._begun.iterdir() for name in file.read_text().split("\n") if name)

    @property
    def pages(self) -> dict[str, list[Page]]:
        """Pages that were reported to Locust, by name."""
        pages: defaultdict[str, list[Page]] = defaultdict(list)
        for page in self.locust.pages:
            pages[page.strategy].append(page)
        return pages

    @property
    def reported(self) -> Counter[str]:
        return Counter({name: len(pages) for name, pages in self.pages.items()})

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Those of the classes in the result."""
        comparison = json.loads((self.locust.folder / "run_comparison.json").read_text())
        return list(comparison["strategies"])

    @property
    def unfinished(self) -> Counter[str]:
        return Counter({row["user_class"]: row["unfinished"] for row in self.rows if row["unfinished"]})

    def wait_for(self, pages: int, *names: str) -> None:
        """Wait until so many more pages of each of these names have been reported."""
        before = self.reported
        self.locust.wait_until(lambda: all(self.reported[name] >= before[name] + pages for name in names))

    def wait_for_users(self, count: int) -> None:
        self.locust.wait_until(lambda: self.locust.web_stats()["user_count"] == count)

    def assert_no_page_is_lost(self) -> None:
        """Each that has begun is reported to Locust, once; and all add up to the same."""
        assert self.begun == self.reported
        assert {row["user_class"]: row["pages"] for row in self.rows if row["pages"]} == self.reported
        assert int(self.locust.rows()[-1]["Request Count"]) == self.reported.total()
        assert self.locust.rows("exceptions") == []
        assert "Traceback" not in self.locust.output, self.locust.output


def names(kind: str) -> list[str]:
    return [f"{kind} {stack}" for stack in STACKS]


@contextmanager
def run(folder: Path, url: str, locustfile: str, *arguments: str, web: bool = False) -> Iterator[Run]:
    """Start Locust with `PAGES` and what is added to it."""
    file, begun = folder / "locustfile.py", folder / "begun"
    file.write_text(PAGES + locustfile)
    begun.mkdir()
    arguments = ("--exit-code-on-error", "0", "--drain-timeout", "1", *arguments)
    environment = {"BEGUN": str(begun)}
    with locust(
        folder / "run", *arguments, url=url, locustfiles=str(file), environment=environment, web=web, record=True
    ) as started:
        yield Run(started, begun)


# No page is lost


@pytest.mark.parametrize(
    "options",
    [
        ("--pool-size", "5"),
        ("--pool-size", "1", "--max-overflow", "0"),
        ("--think-time", "0.02"),
        ("--processes", "2"),
    ],
    ids=" ".join,
)
def test_users_killed_at_any_moment_lose_no_page_and_count_none_twice(
    seeded_url: str, tmp_path: Path, options: tuple[str, ...]
) -> None:
    arguments = ("-u", "12", "-r", "100", "-t", "60s", *options)
    with run(tmp_path, seeded_url, "classes('nap', nap)", *arguments) as killed:
        killed.wait_for(10, *names("nap"))
        assert killed.locust.terminate() == 0
        killed.assert_no_page_is_lost()
        assert killed.locust.leftovers() == []


def test_ramps_up_and_down_and_another_start_lose_no_page(seeded_url: str, tmp_path: Path) -> None:
    file = "classes('nap', nap)\nclasses('hold', hold)"
    with run(tmp_path, seeded_url, file, web=True) as ramped:
        before = Counter[str]()
        for users in ((8, 24, 8), (16,)):
            for count in users:
                assert ramped.locust.swarm(user_count=count)["success"]
                ramped.wait_for_users(count)
                ramped.wait_for(3, *names("nap"))
            ramped.locust.stop()
            assert ramped.begun == ramped.reported
            assert Counter({row["user_class"]: row["pages"] for row in ramped.rows}) == ramped.reported - before
            assert ramped.unfinished.keys() >= {*names("hold")}
            before = ramped.reported
        assert ramped.locust.terminate() == 0


def test_a_graceful_stop_cuts_no_page_and_no_user_finishes_its_thinking(seeded_url: str, tmp_path: Path) -> None:
    file = """
classes('nap', nap)
classes('think', core, wait_time=constant(300))
"""
    arguments = ("-u", "16", "--stop-timeout", "300")
    with run(tmp_path, seeded_url, file, *arguments, web=True) as graceful:
        assert graceful.locust.swarm(user_count=16)["success"]
        graceful.wait_for(10, *names("nap"))
        graceful.locust.stop()
        assert not graceful.unfinished
        assert graceful.begun == graceful.reported
        assert graceful.locust.terminate() == 0
        graceful.assert_no_page_is_lost()


def test_a_graceful_stop_goes_with_rounds(seeded_url: str, tmp_path: Path) -> None:
    file = "classes('nap', nap)\nclass Compare(Rounds): pass"
    arguments = ("-u", "3", "--rounds", "1", "--slot-time", "0.2", "--stop-timeout", "300")
    with run(tmp_path, seeded_url, file, *arguments) as graceful:
        assert graceful.locust.wait() == 0  # were a user waited for at the closed gate, this would take hours
        assert not graceful.unfinished
        assert graceful.begun == graceful.reported


def test_pages_that_fail_at_once_leave_others_their_turn(seeded_url: str, tmp_path: Path) -> None:
    file = "classes('nap', nap)\nclasses('fail', fail)"
    with run(tmp_path, seeded_url, file, "-u", "16", "-r", "100", "-t", "60s") as failing:
        failing.wait_for(20, *names("nap"), *names("fail"))
        assert failing.locust.terminate() == 0
        failing.assert_no_page_is_lost()
        for name in names("fail"):
            assert {page.failure for page in failing.pages[name]} == {"LookupError: no page today"}
        for name in names("nap"):
            assert {page.failure for page in failing.pages[name]} == {None}


def test_pages_come_back_once_a_server_is_there_that_let_nobody_in(database_url: str, tmp_path: Path) -> None:
    create(DatabaseUrl.parse(database_url), Shape(users=2, todos=40), replace=False)
    name = sql.Identifier(DatabaseUrl.parse(database_url).database)

    def allow_connections(allow: bool) -> None:
        # by the database of the test server, as this one lets nobody in
        with psycopg.connect(database_url, dbname="postgres", autocommit=True) as connection:
            connection.execute(sql.SQL("ALTER DATABASE {} WITH ALLOW_CONNECTIONS {}").format(name, sql.Literal(allow)))
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND NOT %s",
                [DatabaseUrl.parse(database_url).database, allow],
            )

    def has_turned(since: Counter[str], good: bool) -> bool:
        return all(
            any((page.failure is None) == good for page in pages.pages[name][since[name] :]) for name in names("core")
        )

    # the first pages begin when nobody is let in, and so does the first connection of each stack
    file = """
def wait_for_it(user):
    write_down("waiting")
    while not os.path.exists(os.environ["BEGUN"] + ".go"):
        gevent.sleep(0.01)

classes('core', core, wait_time=constant(0.01), on_start=wait_for_it)
"""
    with run(tmp_path, database_url, file, web=True) as pages:
        assert pages.locust.swarm(user_count=8)["success"]
        pages.locust.wait_until(lambda: pages.begun["waiting"] == 8)
        for allow in (False, True, False, True):
            allow_connections(allow)
            (tmp_path / "begun.go").touch()
            since = pages.reported
            pages.locust.wait_until(partial(has_turned, since, good=allow))
        pages.locust.stop()
        reported, begun = pages.reported, pages.begun - Counter(waiting=8)
        # where a stack's first connection cannot be opened, no page function of its threads is called
        assert begun <= reported and (reported - begun).keys() <= {"core psycopg-threads"}
        assert pages.locust.rows("exceptions") == []
        assert pages.locust.terminate() == 0


# Page functions and users of one's own

LISTENERS = """
classes('stops', core)
classes('naps', core)
classes('shapeless', lambda session, page, page_size: {(1, 2): 3})

@events.request.add_listener
def wait(name, **_):
    if name.startswith("stops"):
        raise StopUser
    if name.startswith("naps"):
        gevent.sleep(0.01)
"""


def test_listeners_may_wait_or_end_the_user_and_a_page_may_have_no_size(seeded_url: str, tmp_path: Path) -> None:
    arguments = ("-u", "24", "-r", "100", "-t", "60s")
    with run(tmp_path, seeded_url, LISTENERS, *arguments) as listened:
        listened.wait_for(10, *names("shapeless"), *names("naps"))
        assert listened.locust.terminate() == 0
        assert listened.locust.rows("exceptions") == []
        assert "Traceback" not in listened.locust.output
        # a listener that raises keeps the page from those after it, Locust's own too
        heard = {name: count for name, count in listened.begun.items() if not name.startswith("stops")}
        assert heard == {name: listened.reported[name] for name in heard}
        assert int(listened.locust.rows()[-1]["Request Count"]) == sum(row["pages"] for row in listened.rows)


def test_a_listener_can_end_the_test(seeded_url: str, tmp_path: Path) -> None:
    file = """
classes('nap', nap)

@events.init.add_listener
def listen(environment, **_):
    @environment.events.request.add_listener
    def quit(**_):
        if environment.stats.num_requests == 20:
            environment.runner.quit()
"""
    with run(tmp_path, seeded_url, file, "-u", "8", "-r", "100", "-t", "60s") as ended:
        assert ended.locust.wait() == 0
        ended.assert_no_page_is_lost()


TASKS = """
other = {name: noted(f"other {name}", nap) for name in STACKS}

for stack in STACKS:
    class Tasks(PageUser):
        strategy = f"own {stack}"
        page_function = noted(f"own {stack}", core)

        @task(3)
        def one(self):
            self.read_page()
            write_down(f"one {self.stack}")

        @task
        def another(self):
            self.read_page(other[self.stack])
            write_down(f"another {self.stack}")

    Tasks.stack = stack
    globals()[f"Tasks {stack}"] = type(f"Tasks {stack}", (Tasks,), {"stack": stack})
del Tasks
"""


@pytest.mark.parametrize("in_rounds", [False, True])
def test_tasks_of_ones_own_read_a_page_each(seeded_url: str, tmp_path: Path, in_rounds: bool) -> None:
    rounds = "class Compare(Rounds): pass" if in_rounds else ""
    of_rounds = ("--rounds", "1", "--slot-time", "0.3", "--warm-up", "0.1") if in_rounds else ("-t", "60s")
    with run(tmp_path, seeded_url, TASKS + rounds, "-u", "8", "-r", "100", *of_rounds) as tasks:
        if in_rounds:
            assert tasks.locust.wait() == 0, tasks.locust.output
        else:
            tasks.wait_for(5, *names("own"), *names("other"))
            assert tasks.locust.terminate() == 0
        reported, begun = tasks.reported, tasks.begun
        for stack in STACKS:
            read = begun[f"own {stack}"] + begun[f"other {stack}"]
            assert reported[f"own {stack}"] + reported[f"other {stack}"] == read
            # a task goes on when its page has come back, and not before
            assert begun[f"one {stack}"] <= reported[f"own {stack}"]
            assert begun[f"another {stack}"] <= reported[f"other {stack}"]
            # of eight users at the most, the last page of each
            assert read - begun[f"one {stack}"] - begun[f"another {stack}"] <= 8
            assert reported[f"own {stack}"] > 0
        assert tasks.locust.rows("exceptions") == []
        assert "Traceback" not in tasks.locust.output


WAITS = """
classes('between', core, wait_time=between(0.01, 0.02))
classes('constant', core, wait_time=constant(0.01))
classes('pacing', core, wait_time=constant_pacing(0.3))
"""


def test_wait_times_of_locusts_work_in_every_lane(seeded_url: str, tmp_path: Path) -> None:
    with run(tmp_path, seeded_url, WAITS, "-u", "12", "-r", "100", "-t", "60s") as waits:
        waits.wait_for(21, *(name for kind in ("between", "constant", "pacing") for name in names(kind)))
        assert waits.locust.terminate() == 0
        waits.assert_no_page_is_lost()
        for stack in STACKS:
            thought = {
                kind: [page.context["think_ms"] for page in waits.pages[f"{kind} {stack}"][1:]]
                for kind in ("between", "constant")
            }
            # timers may be a little early
            assert all(5 < ms <= 20 for ms in thought["between"])
            assert len({*thought["between"]}) == len(thought["between"])
            assert max(thought["constant"]) == pytest.approx(10)
            paced = waits.pages[f"pacing {stack}"][:21]
            cycles_ms = [
                page.response_ms + then.context["think_ms"]
                for page, then in itertools.pairwise(paced)
                if then.context["think_ms"]  # else the page has taken longer
            ]
            assert median(cycles_ms) == pytest.approx(300, rel=0.02)


# When pages are asked for

STARTS = """
classes('nap', nap)
starts = open(os.environ["BEGUN"] + ".starts", "w", 1)

@events.request.add_listener
def note(name, start_time, response_time, context, **_):
    print(json.dumps([name, start_time, response_time, context["think_ms"]]), file=starts)
"""


@pytest.mark.parametrize("think_time", ["0", "0.05"])
def test_a_page_is_asked_for_when_the_last_one_is_back_and_thinking_is_over(
    seeded_url: str, tmp_path: Path, think_time: str
) -> None:
    arguments = ("-u", "4", "-r", "100", "-t", "60s", "--think-time", think_time)
    with run(tmp_path, seeded_url, STARTS, *arguments) as one_user_a_stack:
        one_user_a_stack.wait_for(100, *names("nap"))
        assert one_user_a_stack.locust.terminate() == 0
        lines = (tmp_path / "begun.starts").read_text().splitlines()
    pages: defaultdict[str, list[tuple[float, float, float]]] = defaultdict(list)
    for name, asked_s, response_ms, think_ms in map(json.loads, lines):
        pages[name].append((asked_s, response_ms, think_ms))
    for name in names("nap"):
        for (asked_s, response_ms, _), (next_s, _, think_ms) in itertools.pairwise(pages[name]):
            # as times of day are rounded
            assert asked_s + (response_ms + think_ms) / 1000 == pytest.approx(next_s, rel=0, abs=1e-5)


# A lane beside the hub

STALL = """
from dbkit.load.native import sleep
from dbkit.load.context import context_of

classes('nap', nap)
counted = {stack: 0 for stack in STACKS}

def count(stack, function):
    def read(session, page, page_size):
        counted[stack] += 1
        return function(session, page, page_size)
    read.__name__ = f"nap {stack}"
    return read

for stack in STACKS:
    globals()[f"nap {stack}"].page_function = staticmethod(count(stack, nap))

def stall(stack, pages=10, limit_s=20):
    '''Hold the hub until so many pages of the stack have begun, or none could.'''
    before, until_s = counted[stack], time.perf_counter() + (1 if stack == "psycopg" else limit_s)
    while counted[stack] < before + pages and time.perf_counter() < until_s:
        sleep(0.001)
    return counted[stack] - before

def stall_each(environment):
    stalled = {}
    while len(stalled) < len(STACKS):
        gevent.sleep(0.01)
        for stack in STACKS:
            # where it is this stack's turn, and its pages count
            measures = context_of(environment).gate.window.measures(time.perf_counter())
            if stack not in stalled and counted[stack] >= 10 and measures:
                stalled[stack] = stall(stack)
    with open(os.environ["BEGUN"] + ".stalled", "w") as file:
        json.dump(stalled, file)

@events.test_start.add_listener
def begin(environment, **_):
    gevent.spawn(stall_each, environment)

@events.test_stop.add_listener
def end(environment, **_):
    slots = context_of(environment).recorder.process_slots
    with open(os.environ["BEGUN"] + ".stalls", "w") as file:
        json.dump([slot.hub_stall_ms for processes in slots.values() for slot in processes.values()], file)

class Compare(Rounds):
    pass
"""


def test_a_stall_of_the_hub_reaches_no_page_beside_it_and_the_slot_says_that_it_happened(
    seeded_url: str, tmp_path: Path
) -> None:
    arguments = ("-u", "2", "--rounds", "1", "--slot-time", "1", "--warm-up", "0")
    with run(tmp_path, seeded_url, STALL, *arguments) as stalled:
        assert stalled.locust.wait() == 0, stalled.locust.output
        went_on = json.loads((tmp_path / "begun.stalled").read_text())
        stalls_ms = json.loads((tmp_path / "begun.stalls").read_text())
    assert went_on.pop("psycopg") == 0
    assert went_on.keys() == {*NATIVE}
    assert min(went_on.values()) >= 10
    assert len(stalls_ms) >= len(STACKS)
    assert all(stall_ms > 25 for stall_ms in stalls_ms[: len(STACKS)])


# Slots


@pytest.mark.parametrize("warm_up", ["0", "0.1"])
def test_a_slots_connections_are_open_before_its_gate(seeded_url: str, tmp_path: Path, warm_up: str) -> None:
    file = "classes('nap', nap)\nclasses('hold', hold)\nclass Compare(Rounds): pass"
    # the users that hold are cut off, and leave connections behind that are of no use
    slots = ("--slot-time", "0.1", "--max-slot-time", "0.1", "--warm-up", warm_up, "--drain-timeout", "0.1")
    with run(tmp_path, seeded_url, file, "-u", "3", "--rounds", "3", *slots) as opened:
        assert opened.locust.wait() == 0, opened.locust.output
        for name in names("nap"):
            pages = opened.pages[name]
            assert {page.context["slot"] is None for page in pages} == {False}
            assert {page.context["connections"] for page in pages} == {0}
        assert all(opened.unfinished[name] for name in names("hold"))
        assert opened.begun == opened.reported


def test_slots_grow_until_each_user_has_read_three_pages_within_their_limit(seeded_url: str, tmp_path: Path) -> None:
    file = """
def slow(session, page, page_size):
    session.execute(text("SELECT pg_sleep(0.3)"))
    return core(session, page, page_size)

classes('slow', slow)
class Compare(Rounds): pass
"""
    arguments = ("-u", "2", "--rounds", "1", "--slot-time", "0.05", "--warm-up", "0")
    folders = {name: tmp_path / name for name in ("grown", "limited")}
    for folder in folders.values():
        folder.mkdir()
    with (
        run(folders["grown"], seeded_url, file, *arguments, "--max-slot-time", "60") as grown,
        run(folders["limited"], seeded_url, file, *arguments, "--max-slot-time", "0.05") as limited,
    ):
        for each in (grown, limited):
            assert each.locust.wait() == 0, each.locust.output
            assert each.begun == each.reported
        for name in names("slow"):
            measured = [page for page in grown.pages[name] if page.context["measured"]]
            assert len(measured) >= 2 * 3
            # each user's first page alone could begin
            assert limited.reported[name] <= 2 * 2


def test_bare_slots_count_their_pages_and_tell_nobody(seeded_url: str, tmp_path: Path) -> None:
    file = """
from dbkit.load.context import context_of

classes('nap', nap)
class Compare(Rounds): pass

@events.test_stop.add_listener
def end(environment, **_):
    slots = context_of(environment).recorder.process_slots
    with open(os.environ["BEGUN"] + ".bare", "w") as file:
        json.dump([slot.bare_pages for processes in slots.values() for slot in processes.values()], file)
"""
    arguments = ("-u", "2", "--rounds", "1", "--calibrate", "--slot-time", "0.3", "--warm-up", "0.1")
    with run(tmp_path, seeded_url, file, *arguments) as calibrated:
        assert calibrated.locust.wait() == 0, calibrated.locust.output
        bare_pages = json.loads((tmp_path / "begun.bare").read_text())
        bare = [pages for pages in bare_pages if pages is not None]
        assert len(bare_pages) - len(bare) >= len(STACKS) <= len(bare)
        begun, reported = calibrated.begun.total(), calibrated.reported.total()
        # warm-ups are begun, too, and a page at an edge counts in part
        assert 2 * 3 * len(STACKS) <= sum(bare) <= begun - reported
        assert sum(row["pages"] for row in calibrated.rows) <= reported
        reported_in = {page.context["slot"] for page in calibrated.locust.pages}
        assert reported_in == {number for number, pages in enumerate(bare_pages) if pages is None}


# Native threads

THREADS = """
import logging, threading
from gevent._hub_local import get_hub_if_exists

def has_hub(session, page, page_size):
    rendered = joined(session, page, page_size)
    # whatever is shared by threads has been used by now
    return rendered if get_hub_if_exists() is None else []

def patched(session, page, page_size):
    # one that waits for another thread would wait for ever
    with threading.Lock():
        time.sleep(0.001)
    for _ in range(100):
        logging.info(f"page {page} " * 20)
    return joined(session, page, page_size)

def levels():
    return [len(os.listdir(f"/proc/self/{name}")) for name in ("task", "fd")]

@events.test_start.add_listener
def before(**_):
    global level
    level = levels()

@events.test_stop.add_listener
def after(**_):
    until_s = time.perf_counter() + 5
    # a thread that has ended may take a moment more to leave the kernel's list
    while (now := levels())[0] > level[0] and time.perf_counter() < until_s:
        gevent.sleep(0.01)
    with open(os.environ["BEGUN"] + ".levels", "a") as file:
        print(json.dumps([level, now]), file=file)

class NoHub(PageUser):
    stack = "psycopg-threads"
    strategy = "no hub"
    page_function = noted("no hub", has_hub)

class Patched(PageUser):
    stack = "psycopg-threads"
    strategy = "patched"
    page_function = noted("patched", patched)
"""


def test_two_hundred_threads_share_a_small_pool_and_make_no_hub(seeded_url: str, tmp_path: Path) -> None:
    arguments = ("-u", "200", "-r", "200", "--pool-size", "3", "--max-overflow", "1", "--drain-timeout", "60", "NoHub")
    with run(tmp_path, seeded_url, THREADS, *arguments) as threads:
        threads.locust.wait_until(lambda: threads.reported["no hub"] >= 1000)
        assert threads.locust.terminate() == 0
        assert threads.begun["no hub"] == threads.reported["no hub"]
        assert {page.failure for page in threads.locust.pages} == {None}
        assert "Traceback" not in threads.locust.output


def test_threads_leave_nothing_behind_though_pages_use_what_gevent_has_patched(seeded_url: str, tmp_path: Path) -> None:
    with run(tmp_path, seeded_url, THREADS, web=True) as threads:
        for _ in range(4):
            assert threads.locust.swarm(user_count=8)["success"]
            threads.wait_for(20, "no hub", "patched")
            threads.locust.stop()
        assert threads.locust.terminate() == 0
        assert {page.failure for page in threads.locust.pages} == {None}
        # the first test may leave what lasts as long as the process
        _, *others = map(json.loads, (tmp_path / "begun.levels").read_text().splitlines())
        assert len(others) >= 3
        for before, after in others:
            assert after[0] <= before[0]
            assert after[1] < before[1] + 8  # where each thread left one behind there would be as many; Locust has some


KILLED = """
def napping(session, page, page_size):
    session.execute(text("SELECT pg_sleep(0.005)"))
    return core(session, page, page_size)

classes('hold', hold)
classes('keep', napping)
"""


def test_a_killed_users_query_is_gone_and_no_other_is_cancelled(seeded_url: str, tmp_path: Path) -> None:
    name = f"killed in a lane {os.getpid()}"
    # few connections, so that one whose user is gone is soon another's
    arguments = ("--pool-size", "3", "--max-overflow", "0")
    with run(tmp_path, named(seeded_url, name), KILLED, *arguments, web=True) as killed:

        def held() -> int:
            with psycopg.connect(seeded_url) as connection:
                row = connection.execute(
                    "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s AND query ~ 'pg_sleep.300'"
                    " AND state = 'active'",
                    [name],
                ).fetchone()
            assert row is not None
            return int(row[0])

        for _ in range(3):
            assert killed.locust.swarm(user_count=16)["success"]
            killed.locust.wait_until(lambda: held() >= 4)
            killed.wait_for(3, *names("keep"))
            for users in (12, 8, 4):
                assert killed.locust.swarm(user_count=users)["success"]
                killed.wait_for_users(users)
            killed.locust.stop()
            killed.locust.wait_until(lambda: connections(seeded_url, name) == 0)
        assert killed.locust.terminate() == 0
        # a query that was cancelled in another's stead would be a page that fails in another way
        assert {page.failure for page in killed.locust.pages} == {None, CUT_OFF}
