"""No password is in what a run leaves, says or shows, nor in a list of processes, however dbkit came to know it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, urlsplit

import psutil
import pytest

from tests.conftest import PASSWORD, PASSWORD_IN_URL
from tests.locust_runs import DEADLINE_S, REPOSITORY, LocustRun, locust

FORMS = {form.encode() for form in (PASSWORD, PASSWORD_IN_URL, quote(PASSWORD), repr(PASSWORD)[1:-1])}
LOCUSTFILE = """
import os
import asyncpg, psycopg
from sqlalchemy import text
from dbkit.load import Rounds, Workload, page_users

def good(session, key):
    return [session.scalar(text("SELECT 1"))]

def telling(session, key):
    raise ValueError(f"cannot reach {os.environ['TOLD_URL']} by {os.environ['TOLD_WORDS']}")

def lost(session, key):
    psycopg.connect(os.environ["TOLD_URL"])

async def refused(session, key):
    await asyncpg.connect(os.environ["TOLD_URL"])

def unknown(session, key):
    session.execute(text("SELECT 1 FROM no_such_table WHERE word = :word"), {"word": os.environ["TOLD_URL"]})

workload = Workload("a workload", keys=[1], check=None)
page_users(workload, stacks=["psycopg", "psycopg-threads", "asyncpg"], good=good)
page_users(workload, stacks=["psycopg", "asyncpg"], telling=telling, unknown=unknown)
page_users(workload, stacks=["psycopg"], lost=lost)
page_users(workload, stacks=["asyncpg"], refused=refused)

class Compare(Rounds):
    pass
"""
GOOD = ("PsycopgGood", "PsycopgThreadsGood", "AsyncpgGood")
SHORT = ("-u", "2", "--rounds", "1", "--slot-time", "0.3", "--warm-up", "0", "--loglevel", "DEBUG")
TOLD_URL = f"postgresql://tester:{PASSWORD_IN_URL}@127.0.0.1:1/dbkit"
TOLD = {"TOLD_URL": TOLD_URL, "TOLD_WORDS": f"host=127.0.0.1 password={PASSWORD}"}


def outputs(folder: Path) -> tuple[str, ...]:
    files = {"report": "html", "summary": "md", "junit": "xml", "html": "locust.html", "logfile": "log"}
    return tuple(part for option, end in files.items() for part in (f"--{option}", str(folder / f"mine.{end}")))


def assert_no_password_in(content: bytes, where: object) -> None:
    for form in FORMS:
        assert form not in content, where


def assert_no_password_in_processes() -> None:
    for process in psutil.process_iter(["cmdline"]):
        assert_no_password_in("\0".join(process.info["cmdline"] or ()).encode(), process)


def assert_run_left_no_password(run: LocustRun, folder: Path) -> None:
    assert_no_password_in(run.output.encode(), run)
    files = [path for path in folder.rglob("*") if path.is_file() and path.name not in ("load.py", "pgpass")]
    assert {path.suffix for path in files} >= {".html", ".md", ".xml", ".csv", ".json"}
    for path in files:
        assert_no_password_in(path.read_bytes(), path)


def by_url(password_url: str, folder: Path) -> dict[str, str]:
    return {"DBKIT_DATABASE_URL": password_url}


def by_variable(password_url: str, folder: Path) -> dict[str, str]:
    return {"DBKIT_DATABASE_URL": without_password(password_url), "PGPASSWORD": PASSWORD}


def by_file(password_url: str, folder: Path) -> dict[str, str]:
    (folder / "pgpass").write_text(f"*:*:*:*:{PASSWORD}\n")
    (folder / "pgpass").chmod(0o600)
    return {"DBKIT_DATABASE_URL": without_password(password_url), "PGPASSFILE": str(folder / "pgpass")}


def without_password(url: str) -> str:
    return url.replace(f":{PASSWORD_IN_URL}@", "@")


Way = Callable[[str, Path], dict[str, str]]


@pytest.mark.parametrize(
    ("way", "classes", "exit_code"),
    [(by_url, (), 1), (by_variable, (), 1), (by_file, GOOD, 0)],
    ids=["by URL", "by variable", "by file"],
)
def test_a_run_shows_no_password(
    password_url: str, tmp_path: Path, way: Way, classes: tuple[str, ...], exit_code: int
) -> None:
    (tmp_path / "load.py").write_text(LOCUSTFILE)
    environment = way(password_url, tmp_path) | TOLD
    arguments = (*SHORT, *outputs(tmp_path), *("--processes", "2", "--round-trip", "1ms"), *classes)
    with locust(
        tmp_path / "run",
        *arguments,
        url=None,
        locustfiles=str(tmp_path / "load.py"),
        environment=environment,
        fresh=True,  # so that it is in the list of processes by its own command
    ) as run:
        while run.process.poll() is None:
            assert_no_password_in_processes()
            time.sleep(0.1)
        assert run.wait() == exit_code, run.output
    assert_run_left_no_password(run, tmp_path)


def test_the_web_ui_shows_no_password(password_url: str, tmp_path: Path) -> None:
    (tmp_path / "load.py").write_text(LOCUSTFILE)
    environment = by_url(password_url, tmp_path) | TOLD
    arguments = (*SHORT[:-2], *outputs(tmp_path), "--class-picker")
    with locust(
        tmp_path / "run", *arguments, url=None, locustfiles=str(tmp_path / "load.py"), web=True, environment=environment
    ) as run:
        shown = [run.get("/").content, str(run.swarm(shape_class="Compare")).encode()]
        shown.append(str(run.swarm(shape_class="Compare", database_url=TOLD_URL)).encode())
        run.wait_until(lambda: run.get("/dbkit/state").json()["status"]["words"] == "the run has ended")
        paths = ["/", "/stats/requests", "/exceptions", "/logs", "/tasks", "/stats/report", "/dbkit/state"]
        paths += [f"/stats/{name}/csv" for name in ("requests", "failures")]
        paths += [f"/dbkit/download/{name}" for name in ("report.html", "summary.md", "comparison.json")]
        answers = [run.get(path) for path in paths]
        assert all(answer.ok for answer in answers)
        for place, content in enumerate([*shown, *(answer.content for answer in answers)]):
            assert_no_password_in(content, place)
        assert run.terminate() == 1, run.output
    assert_run_left_no_password(run, tmp_path)


COMMANDS = {
    "bench": ("bench", "--pages", "2", "--strategy", "core", "--round-trip", "1ms"),
    "try": ("try", "LOCUSTFILE"),
    "diff": ("diff", "--before", ".", "--after", ".", "--counts-only", "--", "LOCUSTFILE"),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_no_other_command_shows_a_password(password_url: str, tmp_path: Path, command: str) -> None:
    (tmp_path / "load.py").write_text(LOCUSTFILE)
    arguments = [part.replace("LOCUSTFILE", "load.py") for part in COMMANDS[command]]
    environment = {**os.environ, **by_url(password_url, tmp_path), **TOLD, "PYTHONPATH": str(REPOSITORY)}
    with (tmp_path / "output").open("wb") as output:
        started = subprocess.Popen(
            [sys.executable, "-m", "dbkit", *arguments],
            cwd=tmp_path,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
        deadline = time.monotonic() + DEADLINE_S
        while started.poll() is None:
            assert_no_password_in_processes()
            assert time.monotonic() < deadline
            time.sleep(0.05)
    content = (tmp_path / "output").read_bytes()
    assert len(content) > 100
    assert started.returncode == (0 if command == "bench" else 1), content
    assert_no_password_in(content, command)


def test_the_password_of_these_tests_is_one_that_has_to_be_hidden(password_url: str) -> None:
    assert urlsplit(password_url).password == PASSWORD_IN_URL
    with pytest.raises(AssertionError):
        assert_no_password_in(password_url.encode(), "the URL")
