"""Pages that fail: messages that group, the first traceback of each, in the log, the JSON file and the report."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.conftest import PASSWORD, PASSWORD_IN_URL
from tests.locust_runs import LocustRun, locust

FAILING = """
from sqlalchemy import text
from dbkit.load import Workload, page_users

class NoSuchAlbum(Exception):
    pass

def find(session, number):
    session.execute(text("SELECT 1"))
    if number % 2:
        raise NoSuchAlbum(f"no such album {number}")
    return number

def statement(session, number):
    hidden = "hid" + "den parameter"
    return session.execute(text("SELECT CAST(:x AS integer)"), {"x": hidden}).all()

albums = Workload("albums", keys=range(100), check=None)
page_users(albums, stacks=["psycopg", "psycopg-threads", "psycopg-async", "asyncpg"], find=find)
page_users(albums, stacks=["psycopg", "asyncpg"], statement=statement)
"""
ROUNDS = """
from dbkit.load import Rounds
class Compare(Rounds):
    pass
"""
FIND = {"PsycopgFind", "PsycopgThreadsFind", "PsycopgAsyncFind", "AsyncpgFind"}
MESSAGE = "NoSuchAlbum: no such album …"


@pytest.mark.parametrize("processes", [1, 2])
def test_why_pages_failed_is_in_the_log_the_json_file_and_the_report(
    password_url: str, tmp_path: Path, processes: int
) -> None:
    (tmp_path / "shop.py").write_text(FAILING)
    arguments = (
        "-u",
        "4",
        "-r",
        "100",
        "-t",
        "600s",
        "--think-time",
        "0.05",
        "--report",
        str(tmp_path / "report.html"),
    )
    in_processes = ("--processes", str(processes)) if processes > 1 else ()
    with locust(
        tmp_path / "run", *arguments, *in_processes, *sorted(FIND), url=password_url,
        locustfiles=str(tmp_path / "shop.py"), record=True,
    ) as run:  # fmt: skip

        def all_have_failed() -> bool:
            return {page.context["user_class"] for page in run.pages if page.failure} == FIND

        run.wait_until(all_have_failed)
        assert run.terminate() == 1
        failures = json.loads((run.folder / "run_comparison.json").read_text())["failures"]
        reported = [page for page in run.pages if page.failure]
        assert {(row["user_class"], row["message"]) for row in failures} == {(name, MESSAGE) for name in FIND}
        assert sum(row["count"] for row in failures) == len(reported)
        for row in failures:
            first, *_, last = row["traceback"].splitlines()
            assert re.fullmatch(r'  File ".*shop.py", line 11, in find', first)
            assert re.fullmatch(r"NoSuchAlbum: no such album \d+", last)
            assert row["traceback"].count("File") == 1
        # once in each process that it happened in, whichever class it was
        logged = re.findall(rf"a page of \w+ failed: {MESSAGE}\n  File .*shop.py", run.stderr)
        assert len(logged) == len({page.process for page in reported})
        assert "Traceback" not in run.output
        assert "NoSuchAlbum: no such album …" in (tmp_path / "report.html").read_text()
        assert_gives_nothing_away(run, tmp_path / "report.html")


def test_in_rounds_too_and_an_error_of_a_statement_gives_nothing_away(password_url: str, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(FAILING + ROUNDS)
    arguments = ("-u", "2", "--rounds", "2", "--slot-time", "0.2", "--report", str(tmp_path / "report.html"))
    with locust(
        tmp_path / "run", *arguments, "PsycopgFind", "PsycopgStatement", url=password_url,
        locustfiles=str(tmp_path / "shop.py"),
    ) as run:  # fmt: skip
        assert run.wait() == 1
        failures = json.loads((run.folder / "run_comparison.json").read_text())["failures"]
        [of_statement] = [row for row in failures if row["user_class"] == "PsycopgStatement"]
        assert of_statement["message"] == "22P02 InvalidTextRepresentation"
        assert "in statement" in of_statement["traceback"]
        assert of_statement["condition"] == "PsycopgStatement, 2 users"
        assert_gives_nothing_away(run, tmp_path / "report.html")


def assert_gives_nothing_away(run: LocustRun, *more: Path) -> None:
    for file in (*run.files(), *more):
        said = file.read_text(errors="replace")
        for secret in (PASSWORD, PASSWORD_IN_URL, "hidden parameter"):
            assert secret not in said, file
