"""The worked examples, run as they are written, each on a database of its own with the rows of its own script.

What their pages count is tested in `tests.test_example_counts`.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
import requests
from psycopg import sql

from tests.examples import CLASSES, STATEMENTS, FindShop, file_of, run_python, shop_databases
from tests.locust_runs import DEADLINE_S, REPOSITORY, LocustRun, free_port, locust
from tests.started import TRY_PAGES, finished

ROUNDS = "examples/rounds.py"
IN_TWO_PROCESSES = ("shop/artists", "fastapi_app/load")
"""Those whose rounds are run so; at once all are."""


@pytest.fixture(scope="module")
def find_shop(server_url: str) -> Iterator[FindShop]:
    with shop_databases(server_url) as find:
        yield find


# Their rows


def rows_of(url: str) -> dict[str, str]:
    """A fingerprint of each table."""
    with psycopg.connect(url) as connection:
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'shop'").fetchall()
        found = {}
        for (table,) in tables:
            query = sql.SQL("SELECT count(*) || ' ' || md5(string_agg(t::text, '' ORDER BY id)) FROM shop.{} t")
            row = connection.execute(query.format(sql.Identifier(table))).fetchone()
            assert row is not None
            found[table] = row[0]
    return found


def test_the_script_makes_the_same_rows_every_time_and_keeps_what_is_there(
    find_shop: FindShop, database_url: str
) -> None:
    run_python("-m", "examples.shop.data", database_url)
    rows = rows_of(database_url)
    assert {"artist", "album", "track", "customer", "invoice", "invoice_line"} == rows.keys()
    assert rows == rows_of(find_shop("shop/albums"))
    assert "there already" in run_python("-m", "examples.shop.data", database_url)
    assert rows == rows_of(database_url)


# where they are first missed: as pages are verified, as keys are found, before a writing page
@pytest.mark.parametrize("example", ["shop/albums", "shop/customers", "shop/shoppers"])
def test_without_its_rows_an_example_says_in_one_line_what_to_do(
    database_url: str, tmp_path: Path, example: str
) -> None:
    with locust(tmp_path / "run", "-t", "30s", url=database_url, locustfiles=file_of(example)) as run:
        assert run.wait() == 2
        (line,) = [line for line in run.output.splitlines() if "load its tables first" in line]
        assert re.search('relation "shop.[a-z]+" does not exist', line)
        assert "Traceback" not in run.output


# Each as it is written


@pytest.fixture(scope="module")
def mixed(find_shop: FindShop, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], LocustRun]:
    """An example in two processes with all its classes at once, ended when each has read pages."""

    def run(example: str) -> LocustRun:
        classes = CLASSES[example]
        arguments = ("--processes", "2", "-u", str(len(classes)), "-r", "100")
        folder = tmp_path_factory.mktemp("mixed") / "run"
        with locust(folder, *arguments, url=find_shop(example), locustfiles=file_of(example), record=True) as run:
            run.wait_until(lambda: {page.context["user_class"] for page in run.pages} == classes)
            assert run.terminate() == 0, run.output
            assert run.leftovers() == []
        return run

    return run


@pytest.mark.parametrize("example", CLASSES)
def test_all_classes_at_once_in_two_processes(mixed: Callable[[str], LocustRun], example: str) -> None:
    run = mixed(example)
    assert "Traceback" not in run.output, run.output
    assert {page.failure for page in run.pages} == {None}
    rows = {row["user_class"]: row for row in run.rows("strategies")}
    assert rows.keys() == CLASSES[example]
    assert all(int(row["pages"]) > 0 and row["failures"] == "0" for row in rows.values())
    assert sum(int(row["pages"]) for row in rows.values()) == len(run.pages)
    if example == "shop/albums":
        assert {name: float(rows[name]["statements"]) for name in STATEMENTS} == STATEMENTS


@pytest.fixture(scope="module")
def in_rounds(
    find_shop: FindShop, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, tuple[LocustRun, str]]]:
    """Each example with one more class, so that its classes take turns; side by side. With the databases they used."""
    slots = ("-u", "2", "--rounds", "1", "--slot-time", "0.1", "--warm-up", "0")
    folder = tmp_path_factory.mktemp("in rounds")
    with ExitStack() as exits:
        runs = {}
        for example in CLASSES:
            url, own = find_shop(example), folder / example.replace("/", "_")
            processes = ("--processes", "2") if example in IN_TWO_PROCESSES else ()
            arguments = (*slots, *processes, "--report", f"{own}/report.html", "--summary", f"{own}/summary.md")
            files = f"{file_of(example)},{ROUNDS}"
            runs[example] = exits.enter_context(locust(own, *arguments, url=url, locustfiles=files, record=True)), url
        for run, _ in runs.values():
            assert run.wait() == 0, run.output
            assert run.leftovers() == []
        yield runs


@pytest.mark.parametrize("example", CLASSES)
def test_each_class_alone_in_rounds(in_rounds: dict[str, tuple[LocustRun, str]], example: str) -> None:
    run, _ = in_rounds[example]
    assert "Traceback" not in run.output, run.output
    comparison = json.loads((run.folder / "run_comparison.json").read_text())
    assert comparison["state"] == "complete"
    rows = {row["user_class"]: row for row in comparison["strategies"]}
    assert rows.keys() == CLASSES[example]
    assert all(row["pages"] > 0 and not row["failures"] for row in rows.values())
    for file in ("report.html", "summary.md"):
        text = (run.folder / file).read_text()
        assert all(name in text for name in CLASSES[example])


def test_what_pages_write_is_put_back_before_each_turn(in_rounds: dict[str, tuple[LocustRun, str]]) -> None:
    run, url = in_rounds["shop/orders"]
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT count(*) FROM shop.invoice WHERE id > 2000").fetchone()
    assert row is not None
    # the orders of the last turn are left, and none of those before it, nor of anything but its pages
    slots = [page.context["slot"] for page in run.pages]
    assert len(set(slots)) >= len(CLASSES["shop/orders"])
    assert row[0] == slots.count(max(slots))


def connections(server_url: str, url: str) -> int:
    """Connections to the database at `url`."""
    with psycopg.connect(server_url) as connection:
        name = urlsplit(url).path.removeprefix("/")
        row = connection.execute("SELECT count(*) FROM pg_stat_activity WHERE datname = %s", [name]).fetchone()
    assert row is not None
    return int(row[0])


def test_runs_in_the_web_ui_are_started_and_stopped_again_on_the_applications_engine(
    find_shop: FindShop, server_url: str, tmp_path: Path
) -> None:
    example = "fastapi_app/load"
    url = find_shop(example)
    with locust(tmp_path / "run", url=url, locustfiles=file_of(example), web=True, record=True) as run:
        for _ in range(2):
            seen = len(run.pages)
            answer = run.swarm(user_count=len(CLASSES[example]))
            assert answer["success"] is True, answer

            def all_have_read(seen: int = seen) -> bool:
                return {page.context["user_class"] for page in run.pages[seen:]} == CLASSES[example]

            run.wait_until(all_have_read)
            assert run.stop()["success"] is True
            run.wait_until(lambda: run.template_arguments()["state"] == "stopped")
            run.wait_until(lambda: connections(server_url, url) == 0)
        comparison = run.get("/dbkit/download/comparison.json").json()
        assert {row["user_class"] for row in comparison["strategies"]} == CLASSES[example]
        assert run.terminate() == 0
        assert {page.failure for page in run.pages} == {None}
        assert "Traceback" not in run.output, run.output


@pytest.mark.parametrize("example", CLASSES)
def test_dbkit_try_reads_a_page_by_every_class(find_shop: FindShop, example: str) -> None:
    command = (sys.executable, *TRY_PAGES, file_of(example))
    done = finished(command, REPOSITORY, {**os.environ, "DBKIT_DATABASE_URL": find_shop(example)}, DEADLINE_S)
    assert done.returncode == 0, done.stdout + done.stderr
    tried = done.stdout
    table = tried[tried.index("\nuser class ") :].splitlines()
    lines = [line.replace(",", " ").split() for line in table if re.match("[A-Z][A-Za-z]+[, ].* given *$", line)]
    assert {line[0] for line in lines} == CLASSES[example], tried
    assert "warning" not in tried and "failed" not in tried, tried
    if example == "shop/albums":
        statements = {line[0]: int(line[1]) for line in lines}
        assert {name: statements[name] for name in STATEMENTS} == STATEMENTS
    if example == "shop/orders":  # an INSERT of several rows is one statement
        assert {int(line[1]) for line in lines} == {3, 4}


# From nothing, and the application itself


def test_the_two_commands_of_the_readme_run_where_there_is_no_database(tmp_path: Path) -> None:
    folder = tmp_path / "somewhere else"
    folder.mkdir()
    readme = (REPOSITORY / "examples" / "README.md").read_text()
    fill, compare = re.findall(r"^    ((?:python|locust) .*)$", readme, re.MULTILINE)[:2]
    assert "the shop is filled" in run_in(folder, fill)
    # the same, but shorter
    compared = run_in(folder, f"{compare} --rounds 1 --slot-time 0.1 --warm-up 0 -u 2")
    assert all(name in compared for name in CLASSES["shop/albums"])
    assert (folder / "results" / "albums_comparison.json").exists()
    app = f"locust -f {file_of('fastapi_app/load')},{ROUNDS} --headless -u 1 --rounds 1 --slot-time 0.1 --warm-up 0"
    assert all(name in run_in(folder, app) for name in CLASSES["fastapi_app/load"])


def run_in(folder: Path, command: str) -> str:
    """What a command says that is written for the repository's folder, run in another: its database is there."""
    program, *arguments = command.replace("examples/", f"{REPOSITORY}/examples/").split()
    module = ["-m", "locust"] if program == "locust" else []
    return run_python(*module, *arguments, folder=folder, PYTHONPATH=os.pathsep.join(python_path()))


def python_path() -> list[str]:
    return [str(REPOSITORY), *filter(None, [os.environ.get("PYTHONPATH")])]


@contextmanager
def application(url: str) -> Iterator[str]:
    """The FastAPI application on a free port, as people start it; its address."""
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "examples.fastapi_app.main:app", "--port", str(port)]
    environment = os.environ | {"SHOP_DATABASE_URL": url}
    with subprocess.Popen(command, cwd=REPOSITORY, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            for line in process.stderr:
                if "running on" in line:
                    break
            else:
                pytest.fail("the application did not start")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def test_the_applications_own_tests_hold_what_its_pages_cost(find_shop: FindShop) -> None:
    plugin = ("-p", "dbkit.pytest_plugin", "-p", "no:cacheprovider")
    shown = run_python("-m", "pytest", "-q", *plugin, "examples/fastapi_app", url=find_shop("fastapi_app/load"))
    assert "4 passed" in shown


def test_the_application_answers_requests(find_shop: FindShop) -> None:
    def get(path: str) -> Any:
        return requests.get(address + path, timeout=DEADLINE_S)

    def post(customer_id: int, track_ids: list[int]) -> Any:
        order: Any = {"customer_id": customer_id, "track_ids": track_ids}
        return requests.post(f"{address}/orders", json=order, timeout=DEADLINE_S)

    with application(find_shop("fastapi_app/load")) as address:
        first, second = get("/albums").json(), get("/albums?page=1").json()
        assert [album["id"] for album in first + second] == list(range(1, 41))
        assert get("/albums/3").json() == first[2]
        assert get("/albums/0").status_code == 404
        order = post(7, [1, 2])
        assert order.status_code == 201
        assert order.json()["id"] > 2000
        assert get("/customers/7/invoices").json()[-1] == order.json()
        assert post(7, [0]).status_code == 422
        assert post(0, [1]).status_code == 422
