"""What the user can put right: one line that says how, exit code 2, before any user starts, and no process left."""

from __future__ import annotations

import re
import subprocess
import sys
import uuid
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg import sql

from dbkit.database.url import DatabaseUrl
from dbkit.todo.dataset import Shape, create
from tests.locust_runs import DEADLINE_S, LOCUST, REPOSITORY, USERS_FILE, free_port, locust

SECRET = "s3cret"
OTHER = f"mysql://user:{SECRET}@127.0.0.1/shop"
MALFORMED = f"postgresql://user:{SECRET}@127.0.0.1:port/shop"
ROUNDS_FILE = "locustfiles/rounds.py"
SHORT_RUN = ("-u", "2", "-r", "2", "-t", "2s")


@dataclass(frozen=True)
class Case:
    """A mistake, and a part of the line that reports it."""

    said: str
    arguments: tuple[str, ...] = ()
    database: str = "good"
    """Which of the URLs that the fixture knows, or a URL, by variable."""
    environment: dict[str, str] = field(default_factory=dict)
    configuration: str = ""
    """Lines of a configuration file."""
    command: tuple[str, ...] = LOCUST
    locustfiles: str = USERS_FILE
    run: tuple[str, ...] = SHORT_RUN


def rounds(said: str, *arguments: str, environment: dict[str, str] | None = None) -> Case:
    """A mistake in what rounds are to compare."""
    return Case(said, arguments, environment=environment or {}, locustfiles=ROUNDS_FILE, run=("-u", "2"))


def searched(said: str, limit: str, *arguments: str) -> Case:
    """A mistake in what a search looks for."""
    return rounds(said, "--limit", limit, "--max-users", "20", *arguments)


PSYCOPG_FIRST = "psycopg was imported before gevent patched the process"
LOCUST_AFTER_PSYCOPG = "import psycopg; from locust.main import main; main()"

CASES = {
    # The database
    "unreachable host": Case("is the server running there?", database="unreachable"),
    "unreachable host, two processes": Case(
        "is the server running there?", ("--processes", "2"), database="unreachable"
    ),
    "wrong password": Case("check user and password", database="wrong password"),
    "unknown database": Case("create it with createdb", database="unknown"),
    "another database by flag": Case("'mysql'", ("--database-url", OTHER)),
    "another database by variable": Case("'mysql'", database=OTHER),
    "another database by file": Case("'mysql'", database="", configuration=f"database-url = {OTHER}"),
    "malformed URL": Case("malformed", database=MALFORMED),
    # The dataset
    "no tables": Case("python seed.py", database="empty"),
    "somebody else's schema": Case("without dbkit's mark", database="foreign"),
    "a table missing": Case("damaged", database="without comments"),
    # Options, each of which may come by any of three ways
    "page size by flag": Case("--page-size: invalid value '0'", ("--page-size", "0")),
    "page size by flag, two processes": Case(
        "--page-size: invalid value '0'", ("--page-size", "0", "--processes", "2")
    ),
    "page size by variable": Case("--page-size: invalid value '-1'", environment={"DBKIT_PAGE_SIZE": "-1"}),
    "page size by file": Case("--page-size: invalid value 'x'", configuration="page-size = x"),
    "think time": Case("--think-time: invalid value '-1'", ("--think-time=-1",)),
    "end of a page": Case("--end: invalid value 'foo': expected rollback, commit or autocommit", ("--end", "foo")),
    "page order": Case(
        "--page-order: invalid value 'foo': expected random or sequential", environment={"DBKIT_PAGE_ORDER": "foo"}
    ),
    # Pools
    "pools too large": Case("lower --pool-size", ("-u", "200", "--pool-size", "30")),
    "pools too large, two processes": Case(
        "lower --pool-size", ("-u", "200", "--pool-size", "60", "--processes", "2", "PsycopgCore")
    ),
    "pools too large for the web UI": Case(
        "lower --pool-size", ("--headful", "--web-port", str(free_port()), "--pool-size", "200", "PsycopgCore")
    ),
    # Loads and settings to compare
    "loads that descend": rounds("--loads: invalid value '5,2': expected ascending numbers", "--loads", "5,2"),
    "loads that are no numbers": rounds("--loads: invalid value ','", environment={"DBKIT_LOADS": ","}),
    "a load of nobody": rounds("--loads: invalid value '0,1'", "--loads", "0,1"),
    "a load beyond the server": rounds(
        "with pool-size=90, 150 users the pools could open", "--loads", "1,150", "--vary", "pool-size=1,90"
    ),
    "a load without a pool beyond the server": rounds(
        "with pool-class=null, 200 users the pools could open",
        *("--loads", "1,200", "--vary", "pool-class=queue,null", "PsycopgCore"),
    ),
    "no arrivals": rounds("--arrivals: invalid value '0': expected ascending numbers above 0", "--arrivals", "0"),
    "arrivals that descend": rounds("--arrivals: invalid value '9,5'", environment={"DBKIT_ARRIVALS": "9,5"}),
    "arrivals that nobody serves": Case("--arrivals needs -u", ("--arrivals", "50"), run=()),
    "arrivals and loads": rounds("give one of them, and -u", "--arrivals", "50", "--loads", "1,2"),
    "arrivals after thinking": rounds("with --arrivals leave it out", "--arrivals", "50", "--think-time", "1s"),
    "arrivals beside bare pages": rounds("give one of the two", "--arrivals", "50", "--calibrate"),
    "several rates without rounds": Case("compares conditions that run one at a time", ("--arrivals", "50,100")),
    "loads without rounds": Case("--loads compares conditions that run one at a time", ("--loads", "1,2")),
    "settings without rounds": Case("--vary compares conditions", environment={"DBKIT_VARY": "pool-size=1,2"}),
    "a setting that cannot vary": rounds("--vary: colour cannot vary: write NAME=VALUE,VALUE", "--vary", "colour=1,2"),
    "a bad value of a setting": rounds("pool-size: invalid value '0': expected an integer", "--vary", "pool-size=0,1"),
    "a bad word of a setting": rounds("end: invalid value 'undo'", environment={"DBKIT_VARY": "end=commit,undo"}),
    "a setting with one value": rounds("pool-size does not vary", "--vary", "pool-size=5"),
    "a setting twice": rounds("pool-size is given twice", "--vary", "pool-size=1,2", "--vary", "pool-size=3,4"),
    "a range that descends": rounds("pool-size: invalid range '5..1'", "--vary", "pool-size=5..1"),
    "a database that has no URL": rounds(
        "database=pooled has no URL: set DBKIT_DATABASE_URL_POOLED", "--vary", "database=direct,pooled"
    ),
    "a database by its URL": rounds("database: expected names such as", "--vary", f"database=direct,{OTHER}"),
    "another database whose URL is malformed": rounds(
        "DBKIT_DATABASE_URL_POOLED: the database URL is malformed",
        *("--vary", "database=direct,pooled"),
        environment={"DBKIT_DATABASE_URL_POOLED": MALFORMED},
    ),
    "a setting of async sessions": rounds(
        "session-close cannot vary for PsycopgCore: its stack, psycopg, has no async session",
        *("--vary", "session-close=with,finally", "PsycopgCore"),
    ),
    "longer than an hour": rounds("longer than an hour", "--loads", "1,2,5,10", "--rounds", "100"),
    "longer than the budget": rounds("in 5 rounds take about 2 min 20 s, longer than --budget 60", "--budget", "1m"),
    # A limit to search for
    "a limit without rounds": Case("--limit compares conditions", ("--limit", "p95_ms < 50", "--max-users", "5")),
    "a limit on a figure that is not there": searched("there is no figure p96_ms: choose one of pages", "p96_ms < 50"),
    "a limit that compares nothing": searched("--limit: invalid value 'p95_ms 50': expected a figure", "p95_ms 50"),
    "a share of nothing": searched("a share can be of best", "pages_per_s > 99 % of worst"),
    "a limit by variable": rounds("no figure is below 0", environment={"DBKIT_LIMIT": "failures < 0"}),
    "a limit with nothing to search in": rounds(
        "set --max-users or --max-arrivals, or --vary", "--limit", "p95_ms < 5"
    ),
    "a limit with a setting that is no number": rounds(
        "needs something to search in", "--limit", "p95_ms < 50", "--vary", "end=commit,rollback"
    ),
    "a limit with two settings to search in": rounds(
        "searches in one setting, and pool-size and max-overflow vary",
        *("--limit", "p95_ms < 50", "--vary", "pool-size=1..5", "--vary", "max-overflow=0..5"),
    ),
    "most users without a limit": rounds("--max-users is for a search", "--max-users", "20"),
    "most arrivals without a limit": rounds("--max-arrivals is for a search", "--max-arrivals", "20"),
    "most users that are less than none": searched("--max-users: invalid value '-1'", "p95_ms < 50", "--max-users=-1"),
    "more users than can be searched": searched("and at most 10000", "p95_ms < 50", "--max-users", "1000000"),
    "a limit with loads": searched("--loads does not go with --limit", "p95_ms < 50", "--loads", "1,2"),
    "a limit with a ladder of rates": rounds(
        "--arrivals with several rates does not go with --limit",
        *("--limit", "p95_ms < 50", "--arrivals", "5,10", "--vary", "pool-size=1,2"),
    ),
    "a limit with users and arrivals": searched("take one of them", "p95_ms < 50", "--max-arrivals", "5"),
    "a limit that arrivals do not break": rounds(
        "does not go with --max-arrivals", "--limit", "pages_per_s > 5", "--max-arrivals", "50"
    ),
    "a limit and bare pages": searched("--calibrate does not go with --limit", "p95_ms < 50", "--calibrate"),
    "a limit and a reference": searched(
        "--reference does not go with --limit", "p95_ms < 50", "--reference", "PsycopgCore"
    ),
    "more users than the server has connections for": searched(
        "the pools could open 800 connections", "p95_ms < 50", "--pool-class", "null", "--max-users", "200"
    ),
    "a search that its budget is too short for": searched(
        "takes 2 min 48 s or more for 20 classes, longer than --budget 20: give a longer",
        "p95_ms < 50",
        "--budget",
        "20",
    ),
    # Checks on figures
    "a check of no figure": Case("--check: there is no figure speed", ("--check", "speed > 5")),
    "a check without a number": Case("--check: invalid value 'rows <'", ("--check", "rows < 5; rows <")),
    "a check of no class": Case(
        "--check: 'PsycopgJoinned: rows < 5' is of PsycopgJoinned, which is not among the classes: PsycopgCore",
        ("--check", "PsycopgJoinned: rows < 5", "PsycopgCore"),
    ),
    "a check of a class that is not chosen": rounds(
        "is of PsycopgLazy, which is not among the classes: PsycopgCore",
        *("--check", "PsycopgLazy: rows < 5", "PsycopgCore"),
    ),
    "a check against no class": Case(
        "--check: 'rows < PsycopgLasy': a share can be of one of the classes: PsycopgCore",
        ("--check", "rows < PsycopgLasy", "PsycopgCore"),
    ),
    "a check against a revision that is not measured": Case(
        "there is no before in this run; `dbkit diff` measures it", environment={"DBKIT_CHECK": "rows <= before"}
    ),
    "a check against a file that is not given": Case(
        "give its file with --baseline", configuration="check = p95_ms <= 1.1 * baseline"
    ),
    "a check on what a before and after alone knows": Case(
        "'bytes_from_server < 5000' is for `dbkit diff` alone", ("--check", "bytes_from_server < 5000")
    ),
    "a check that is never so": Case("write p95_ms <= or >=", ("--check", "p95_ms = 5")),
    "neither pass nor fail": Case("expected pass or fail", ("--undecided", "ignore")),
    # A file of an earlier run
    "a baseline that is not there": Case("no.json: no such file; name a *_comparison.json", ("--baseline", "no.json")),
    "a baseline that is none": Case("Makefile: not JSON", environment={"DBKIT_BASELINE": "Makefile"}),
    "a baseline of another format": Case(
        "old.json: format 1, and this dbkit reads format", ("--baseline", str(Path(__file__).with_name("old.json")))
    ),
    # Files to be written at the end
    "report into a file": Case("choose another place with --report", ("--report", "Makefile/report.html")),
    "report onto a folder": Case("it is a folder; choose another place with --report", ("--report", "docs")),
    "summary into a file": Case("choose another place with --summary", environment={"DBKIT_SUMMARY": "Makefile/x.md"}),
    "JUnit XML into a file": Case("choose another place with --junit", ("--junit", "Makefile/junit.xml")),
    "two outputs in one file": Case("--summary and --junit are the same file", ("--summary", "a", "--junit", "a")),
    # The order of imports
    "psycopg before gevent": Case(PSYCOPG_FIRST, command=(sys.executable, "-c", LOCUST_AFTER_PSYCOPG)),
    "gevent asked not to patch": Case(PSYCOPG_FIRST, environment={"LOCUST_SKIP_MONKEY_PATCH": "1"}),
}


@dataclass(frozen=True)
class Outcome:
    exit_code: int
    stdout: str
    stderr: str
    leftovers: list[str]

    @property
    def lines(self) -> list[str]:
        """What is said on stderr besides Locust's own log."""
        return [line for line in self.stderr.splitlines() if line and not re.match(r"\[\d{4}-\d\d-\d\d ", line)]


@contextmanager
def scratch(server_url: str, statements: str, shape: Shape | None) -> Iterator[str]:
    """A database of its own, with a dataset if a shape is given, then changed by the statements."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    url = urlsplit(server_url)._replace(path=f"/{name}").geturl()
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        if shape is not None:
            create(DatabaseUrl.parse(url), shape, replace=False)
        if statements:
            with psycopg.connect(url) as scratch_connection:
                scratch_connection.execute(statements)
        yield url
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture(scope="module")
def urls(password_url: str, seeded_url: str) -> Iterator[dict[str, str]]:
    """The databases that cases name."""
    good, small = urlsplit(password_url), Shape(users=2, todos=3, comments=1)
    with ExitStack() as exits:
        yield {
            "good": password_url,
            "unreachable": f"postgresql://user:{SECRET}@127.0.0.1:1/shop",
            "wrong password": password_url.replace(f":{SECRET}", f":other-{SECRET}"),
            "unknown": good._replace(path="/no_such_database").geturl(),
            "empty": exits.enter_context(scratch(seeded_url, "", None)),
            "foreign": exits.enter_context(scratch(seeded_url, "CREATE SCHEMA dbkit", None)),
            "without comments": exits.enter_context(scratch(seeded_url, "DROP TABLE dbkit.comment", small)),
        }


@pytest.fixture(scope="module")
def outcomes(
    request: pytest.FixtureRequest, urls: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[Outcome]]]:
    """How the chosen cases end: run side by side, as each is one short process."""
    folder = tmp_path_factory.mktemp("cases")

    def run(name: str) -> Outcome:
        case = CASES[name]
        configuration = folder / f"{name}.conf"
        configuration.write_text(case.configuration)
        with locust(
            folder / name,
            *case.run,
            *(["--config", str(configuration)] if case.configuration else []),
            *case.arguments,
            url=urls.get(case.database, case.database) or None,
            locustfiles=case.locustfiles,
            environment=case.environment,
            command=case.command,
        ) as process:
            return Outcome(process.wait(), process.stdout, process.stderr, process.leftovers())

    chosen = [
        str(item.callspec.params["name"])
        for item in request.session.items
        if isinstance(item, pytest.Function) and "outcomes" in item.fixturenames
    ]
    with ThreadPoolExecutor(max_workers=3) as pool:
        yield {name: pool.submit(run, name) for name in chosen}


@pytest.mark.parametrize("name", CASES)
def test_a_mistake_is_reported_on_one_line_before_any_user_starts(
    outcomes: dict[str, Future[Outcome]], name: str
) -> None:
    case, outcome = CASES[name], outcomes[name].result()
    assert outcome.exit_code == 2, outcome.stderr
    # each process that reads pages looks at the database for itself
    assert len(set(outcome.lines)) == 1, outcome.stderr
    assert len(outcome.lines) == 1 or "processes" in name, outcome.stderr
    line = outcome.lines[0]
    assert re.match(r"(dbkit|locust): error: ", line)
    assert case.said in line
    assert outcome.stdout == ""
    for sign_of_a_start in ("pawn", "Ramping", "Traceback"):
        assert sign_of_a_start not in outcome.stderr
    assert SECRET not in outcome.stderr
    assert outcome.leftovers == []


def test_an_unknown_class_is_reported_by_locust_itself(seeded_url: str, tmp_path: Path) -> None:
    with locust(tmp_path / "run", "PsycopgJoinned", url=seeded_url) as run:
        assert run.wait() == 1
        assert "Unknown User(s): PsycopgJoinned" in run.stderr


@pytest.mark.parametrize(
    ("database", "said", "by"),
    [
        ("unreachable", "is the server running there?", "flag"),
        ("wrong password", "check user and password", "variable"),
        ("unknown", "create it with createdb", "flag"),
        ("foreign", "without dbkit's mark", "variable"),
        (OTHER, "'mysql'", "flag"),
        (MALFORMED, "malformed", "variable"),
    ],
)
def test_seeding_reports_a_mistake_on_one_line(
    urls: dict[str, str], monkeypatch: pytest.MonkeyPatch, database: str, said: str, by: str
) -> None:
    url = urls.get(database, database)
    monkeypatch.setenv("DBKIT_DATABASE_URL", url if by == "variable" else "")
    done = subprocess.run(
        [sys.executable, "seed.py", *(["--database-url", url] if by == "flag" else [])],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(r"seed\.py: error: .+\n", done.stderr)
    assert said in done.stderr
    assert SECRET not in done.stderr
