"""Loads and settings that vary, in real runs: every condition is run, with its own settings and in every process."""

from __future__ import annotations

import html
import itertools
import json
import re
import signal
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.conftest import PASSWORD, PASSWORD_IN_URL
from tests.locust_runs import LocustRun, connections, free_port, locust, named

SETTINGS = '''
"""Pages that are what the server says of their connection, and a record of each with its condition."""

import json, os
from dbkit.load import AsyncPageUser, Rounds, SyncPageUser, ThreadPageUser, Workload
from locust import events
from sqlalchemy import create_engine, text

last = None
SQL = """
SELECT pg_backend_pid(), current_database(), current_setting('statement_timeout'), current_setting('jit'),
       pg_sleep(0.01),
       (SELECT count(*) FROM pg_stat_activity WHERE application_name = current_setting('application_name'))
"""

def remember(rendered, key):
    global last
    last = rendered

def settings(session, key):
    pid, database, timeout, jit, _, connections = session.execute(text(SQL)).one()
    return {"pid": pid, "database": database, "timeout": timeout, "jit": jit, "connections": connections}

class Psycopg(SyncPageUser):
    workload = Workload("connections", range(50), check=remember)
    page_function = settings

class Threads(ThreadPageUser):
    workload = Psycopg.workload
    page_function = settings

class Asyncpg(AsyncPageUser):
    stack = "asyncpg"
    workload = Psycopg.workload
    page_function = settings

class OfAnApplication(Psycopg):
    engine = staticmethod(lambda url: create_engine(url))

class OfOneEngine(Psycopg):
    engine = create_engine(os.environ["SQLALCHEMY_URL"])

class Committing(Psycopg):
    end = "commit"

class Compare(Rounds):
    pass

file = None

@events.request.add_listener
def record(context, exception, **_):
    global file
    file = file or open(f"{os.environ['PAGES']}/{os.getpid()}", "w", 1)
    page = {"condition": context["condition"], "round_trips": context["round_trips"], "slot": context["slot"]}
    print(json.dumps(page | (last if exception is None else {"failed": str(exception)})), file=file)
'''
SHORT = ("--rounds", "1", "--slot-time", "0.2", "--warm-up", "0.05", "--max-slot-time", "5")


class Run:
    """A Locust of `SETTINGS`."""

    def __init__(self, run: LocustRun) -> None:
        self.locust = run

    @property
    def pages(self) -> list[dict[str, Any]]:
        """What the server said in each page, of all processes."""
        files = sorted(pages_of(self.locust.folder).iterdir())
        return [json.loads(line) for file in files for line in file.read_text().splitlines()]

    @property
    def by_condition(self) -> dict[str, list[dict[str, Any]]]:
        found: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
        for page in self.pages:
            assert "failed" not in page, page
            found[page["condition"]].append(page)
        return found

    @property
    def by_slot(self) -> dict[tuple[str, int], list[dict[str, Any]]]:
        """By condition and slot: a condition whose slot was disturbed has another one, with connections of its own."""
        found: defaultdict[tuple[str, int], list[dict[str, Any]]] = defaultdict(list)
        for condition, pages in self.by_condition.items():
            for page in pages:
                found[condition, page["slot"]].append(page)
        return found

    @property
    def comparison(self) -> dict[str, Any]:
        return dict(json.loads((self.locust.folder / "run_comparison.json").read_text()))

    def end(self) -> None:
        assert self.locust.wait() == 0, self.locust.output
        assert "Traceback" not in self.locust.output, self.locust.output


def pages_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}-pages")


class Starter:
    """Starts Locusts of `SETTINGS`, which end with the block."""

    def __init__(self, folder: Path, url: str, exits: ExitStack) -> None:
        self.folder, self.url, self.exits = folder, url, exits
        self.file = folder / "settings.py"
        self.file.write_text(SETTINGS)
        self.numbers = itertools.count()

    def __call__(self, *arguments: str, web: bool = False, **environment: str) -> Run:
        own = self.folder / str(next(self.numbers))
        pages_of(own).mkdir()
        name = f"run{own.name}"
        engine_url = self.url.replace("postgresql:", "postgresql+psycopg:")
        variables = {"PAGES": str(pages_of(own)), "SQLALCHEMY_URL": engine_url}
        files = ("--report", str(own / "report.html"), "--summary", str(own / "summary.md"))
        run = locust(
            own,
            *(*SHORT, *files, *arguments),
            url=named(self.url, name),
            locustfiles=str(self.file),
            web=web,
            environment=variables | environment,
        )
        return Run(self.exits.enter_context(run))


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory, seeded_url: str) -> Iterator[Starter]:
    with ExitStack() as exits:
        yield Starter(tmp_path_factory.mktemp("conditions"), seeded_url, exits)


CROSSED = ("--loads", "1,4", "--vary", "pool-size=1..2", "--vary", "end=rollback,autocommit", "--max-overflow", "0")


def expected_conditions(*classes: str) -> set[str]:
    return {
        f"{name}, {users}, end={end}, pool-size={size}"
        for name in classes
        for users in ("1 user", "4 users")
        for end in ("rollback", "autocommit")
        for size in ("1", "2")
    }


@pytest.fixture(scope="module")
def crossed(start: Starter) -> dict[str, list[Run]]:
    """The same conditions in one process, in two, and under a master with workers of their own."""
    port = str(free_port())
    worker = ("--worker", "--master-host", "127.0.0.1", "--master-port", port)
    classes = ("Psycopg", "Asyncpg", "Threads")
    runs = {
        "one process": [start(*CROSSED, *classes)],
        "two processes": [start(*CROSSED, *classes, "--processes", "2")],
        # workers have all from the master
        "separate": [
            start("--master", "--master-bind-port", port, "--expect-workers", "2", *CROSSED, "Psycopg"),
            start(*worker, "Psycopg"),
            start(*worker, "Psycopg"),
        ],
    }
    for run in itertools.chain(*runs.values()):
        run.end()
    return runs


@pytest.mark.parametrize("name", ["one process", "two processes", "separate"])
def test_every_class_runs_under_every_load_with_each_value_of_each_setting(
    crossed: dict[str, list[Run]], name: str
) -> None:
    leading = crossed[name][0]
    classes = ["Psycopg"] if name == "separate" else ["Psycopg", "Asyncpg", "Threads"]
    slots = [row for row in leading.comparison["slots"] if not row["replaced"]]
    assert Counter(row["condition"] for row in slots) == Counter(expected_conditions(*classes))
    pages = [page for run in crossed[name] for page in run.pages]
    assert {page["condition"] for page in pages} == expected_conditions(*classes)
    for row in leading.comparison["strategies"]:
        assert row["condition"].startswith(f"{row['user_class']}, {row['users']} user")
        assert row["settings"] == dict(re.findall(r"([a-z-]+)=(\w+)", row["condition"]))
        assert row["end"] == row["settings"]["end"]


@pytest.mark.parametrize("name", ["one process", "two processes", "separate"])
def test_a_slot_has_the_settings_of_its_condition_and_other_pools_hold_no_connection(
    crossed: dict[str, list[Run]], name: str
) -> None:
    processes = 1 if name == "one process" else 2
    for run in crossed[name]:
        for (condition, _), pages in run.by_slot.items():
            size = int(condition[-1]) * (processes if name == "two processes" else 1)
            assert len({page["pid"] for page in pages}) <= size, condition
            # classes of other stacks may have read with the same settings; the last ones' may still be closing
            assert min(page["connections"] for page in pages) <= 3 * size, condition
            trips = median(page["round_trips"] for page in pages)
            assert (trips < 2) is ("end=autocommit" in condition), condition


def test_tables_show_what_varies_and_hide_what_does_not(crossed: dict[str, list[Run]]) -> None:
    [run] = crossed["one process"]
    headings = [line.split() for line in run.locust.stdout.splitlines() if line.startswith("user class")]
    assert headings and all(heading[:5] == ["user", "class", "users", "end", "pool-size"] for heading in headings)
    report = html.unescape((run.locust.folder / "report.html").read_text())
    assert '<th scope="col">pool-size</th>' in report
    assert 'data-chart="ladder"' in report
    rows = run.locust.rows("strategies")
    assert {(row["users"], row["end"], row["pool-size"]) for row in rows} == {
        (users, end, size) for users in "14" for end in ("rollback", "autocommit") for size in "12"
    }
    assert [*rows[0]].index("pool-size") == [*rows[0]].index("users") + 2


def test_connections_are_closed_when_the_run_has_ended(crossed: dict[str, list[Run]], seeded_url: str) -> None:
    for runs in crossed.values():
        for run in runs:
            assert connections(seeded_url, f"run{run.locust.folder.name}") == 0


def test_each_setting_reaches_the_server(start: Starter, database_url: str, seeded_url: str) -> None:
    """Statement timeouts, JIT, pool classes and pre-pings, and another database by its name."""
    other = named(database_url, "pooled")
    runs = {
        "server": start("--vary", "statement-timeout=5,7s", "--vary", "jit=on,off", "Psycopg", "Asyncpg"),
        "pool": start(
            *("--vary", "pool-class=queue,lifo,null", "--vary", "pre-ping=off,on"),
            *("-u", "3", "--pool-size", "3", "Psycopg", "Asyncpg"),
        ),
        "database": start(
            *("--vary", "database=direct,pooled", "Psycopg", "OfAnApplication", "--processes", "2"),
            DBKIT_DATABASE_URL_POOLED=other,
        ),
    }
    for run in runs.values():
        run.end()
    for condition, pages in runs["server"].by_condition.items():
        [said] = {(page["timeout"], page["jit"]) for page in pages}
        assert said == ("5s" if "statement-timeout=5" in condition else "7s", "on" if "jit=on" in condition else "off")
    assert len(runs["server"].by_condition) == 8
    by_pool = runs["pool"].by_condition
    for (condition, _), pages in runs["pool"].by_slot.items():
        pids = {page["pid"] for page in pages}
        if "pool-class=null" in condition:
            assert len(pids) == len(pages), condition
        else:
            assert len(pids) <= 3, condition
            if "pre-ping=on" in condition:
                without = by_pool[condition.replace("pre-ping=on", "pre-ping=off")]
                assert median(page["round_trips"] for page in pages) > median(page["round_trips"] for page in without)
    database, seeded = (urlsplit(url).path.removeprefix("/") for url in (database_url, seeded_url))
    for condition, pages in runs["database"].by_condition.items():
        assert {page["database"] for page in pages} == {database if "database=pooled" in condition else seeded}
    for path in runs["database"].locust.files():
        assert other not in path.read_text(errors="replace"), path
        assert database not in path.read_text(errors="replace"), path


def test_the_url_of_another_database_is_nowhere_shown(start: Starter, password_url: str, seeded_url: str) -> None:
    run = start(*CROSSED[:2], "--vary", "database=direct,pooled", "Psycopg", DBKIT_DATABASE_URL_POOLED=password_url)
    run.end()
    assert {row["settings"]["database"] for row in run.comparison["strategies"]} == {"direct", "pooled"}
    for path in run.locust.files():
        content = path.read_text(errors="replace")
        assert PASSWORD not in content and PASSWORD_IN_URL not in content, path


def test_page_sizes_are_varied_with_their_keys_and_pages_are_right(start: Starter, seeded_url: str) -> None:
    folder = start.folder / "sizes"
    arguments = (*SHORT, "-u", "2", "--vary", "page-size=2,5", "PsycopgJoined", "AsyncpgJoined")
    with locust(folder, *arguments, url=seeded_url, locustfiles="locustfiles/rounds.py", record=True) as run:
        assert run.wait() == 0, run.output
        assert {page.failure for page in run.pages} == {None}
        sizes = {(page.context["condition"].rpartition("=")[2], str(page.context["key"][1])) for page in run.pages}
        assert sizes == {("2", "2"), ("5", "5")}
        comparison = json.loads((folder / "run_comparison.json").read_text())
    assert comparison["workloads"][0]["pages"].startswith("2 todos or 5 todos")
    assert {(row["settings"]["page-size"], row["rows"] > 10) for row in comparison["strategies"]}


REFUSED = {
    "pool-size=1,2": ("OfAnApplication", "has an engine of its own, which stays as the application sets it up"),
    "jit=on,off": ("OfOneEngine", "has an engine of its own"),
    "end=commit,rollback": ("Committing", "its pages end by commit, as it says itself"),
    "page-size=1,2": ("Psycopg", "only pages of the todo list have it"),
    "database=direct,pooled": ("OfOneEngine", "its engine has a database already"),
}


def test_a_setting_that_a_class_cannot_have_is_refused_in_one_line(start: Starter) -> None:
    runs = {varied: start("--vary", varied, name) for varied, (name, _) in REFUSED.items()}
    for varied, run in runs.items():
        name, reason = REFUSED[varied]
        assert run.locust.wait() == 2
        [line] = [line for line in run.locust.output.splitlines() if "Starting Locust" not in line]
        assert line.startswith(f"dbkit: error: {varied.partition('=')[0]} cannot vary for {name}: ")
        assert reason in line
        assert run.pages == []


def test_a_worker_without_the_url_of_another_database_says_so_and_leaves(start: Starter, seeded_url: str) -> None:
    port = str(free_port())
    varied = ("--vary", "database=direct,pooled", "Psycopg")
    leading = start(
        *("--master", "--master-bind-port", port, "--expect-workers", "1", *varied),
        DBKIT_DATABASE_URL_POOLED=seeded_url,
    )
    worker = start("--worker", "--master-host", "127.0.0.1", "--master-port", port, "Psycopg")
    assert worker.locust.wait() == 2
    assert "database=pooled has no URL: set DBKIT_DATABASE_URL_POOLED" in worker.locust.stderr
    leading.locust.process.send_signal(signal.SIGINT)
    leading.locust.wait()
    assert leading.comparison["strategies"] == []


def test_loads_and_settings_are_run_from_the_web_form_and_bad_ones_are_refused_there(start: Starter) -> None:
    run = start("Psycopg", "OfAnApplication", web=True)

    def refused(**form: object) -> str:
        answer = run.locust.swarm(**form)
        assert not answer["success"]
        return str(answer["message"])

    assert "--loads: invalid value '3,1'" in refused(loads="3,1")
    assert "pool-size is given twice" in refused(vary="pool-size=1,2 pool-size=3,4")
    assert "pool-size cannot vary for OfAnApplication" in refused(vary="pool-size=1,2")
    assert "longer than --budget 1" in refused(loads="1,2", budget="1")
    answer = run.locust.swarm(loads="1,3", vary="end=commit,rollback", rounds=1)
    assert answer["success"], answer

    def has_ended() -> bool:
        path = run.locust.folder / "run_comparison.json"
        return path.exists() and run.comparison["state"] == "complete"

    run.locust.wait_until(has_ended)
    conditions = {(row["user_class"], row["users"], row["settings"]["end"]) for row in run.comparison["strategies"]}
    assert conditions == {
        (name, users, end)
        for name in ("Psycopg", "OfAnApplication")
        for users in (1, 3)
        for end in ("commit", "rollback")
    }
    state = run.locust.get("/dbkit/state?version=none").json()
    assert state["result"]["workloads"][0]["ladder"]["along"] == "users"
    assert run.locust.terminate() == 0


def test_what_was_measured_of_a_ladder_is_kept_when_it_is_ended(start: Starter) -> None:
    run = start("--loads", "1,2,3", "--rounds", "1000", "--budget", "2h", "Psycopg")
    run.locust.wait_until(lambda: any(page["slot"] == 4 for page in run.pages))
    run.locust.process.send_signal(signal.SIGINT)
    run.end()
    assert run.comparison["state"] == "cut short"
    assert {row["users"] for row in run.comparison["strategies"]} == {1, 2, 3}
