"""A real PostgreSQL for every test that asks for one: over its socket, and over TCP with a password."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import sqlalchemy
from hypothesis import settings
from psycopg import sql

# threads of its own gain nothing with small matrices, and spin while other processes need the cores
os.environ["OPENBLAS_NUM_THREADS"] = "1"

from dbkit.database.embedded import serve
from dbkit.database.url import DatabaseUrl
from dbkit.todo.dataset import Shape, create
from tests.locust_runs import free_port

pytest.register_assert_rewrite("tests.users_engines")  # its assertions say what differs, as a test's do

# how long an example takes says how busy the machine is
settings.register_profile("dbkit", deadline=None)
settings.load_profile("dbkit")
EXAMPLES = "--examples"

PASSWORD = "s3cret/pass@word"
PASSWORD_IN_URL = "s3cret%2Fpass%40word"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(EXAMPLES, type=int, metavar="<number>", help="examples of each property-based test; default 100")
    parser.addoption("--sqlalchemy", metavar="<version>", help="refuse to run with another SQLAlchemy, such as 2.0")


def pytest_configure(config: pytest.Config) -> None:
    if (examples := config.getoption(EXAMPLES)) is not None:
        settings.register_profile("soak", settings.get_profile("dbkit"), max_examples=examples)
        settings.load_profile("soak")
    wanted = config.getoption("--sqlalchemy")
    if wanted is not None and not f"{sqlalchemy.__version__}.".startswith(f"{wanted}."):
        raise pytest.UsageError(f"expected SQLAlchemy {wanted}: this is {sqlalchemy.__version__}")


def pytest_report_header() -> str:
    return f"SQLAlchemy {sqlalchemy.__version__}"


@pytest.fixture(scope="session")
def server_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("server")


@pytest.fixture(scope="session")
def server_url(server_folder: Path, tcp_port: int) -> str:
    """A server of this test run alone; its superuser is trusted over the socket, TCP asks for a password."""
    settings = {"shared_preload_libraries": "pg_stat_statements"}  # for tests that count by it
    url = serve(server_folder, {"listen_addresses": "127.0.0.1", "port": str(tcp_port)} | settings)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE ROLE tester SUPERUSER LOGIN PASSWORD {}").format(PASSWORD))
        row = connection.execute("SELECT current_setting('hba_file')").fetchone()
        assert row is not None
        with open(row[0], "a") as hba:
            hba.write("host all all 127.0.0.1/32 scram-sha-256\n")
        connection.execute("SELECT pg_reload_conf()")
    return url


@pytest.fixture(scope="session")
def tcp_port() -> int:
    return free_port()


@pytest.fixture
def database_url(server_url: str) -> Iterator[str]:
    """A fresh, empty database on the test server, by its socket."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        database = DatabaseUrl.parse(server_url)
        yield f"postgresql://{database.user}@/{name}?host={database.host}&port={database.port}"
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture(scope="session")
def seeded_url(server_url: str) -> str:
    """The test server's own database with the default dataset, by its socket. Leave the dataset as it is."""
    create(DatabaseUrl.parse(server_url), Shape(), replace=False)
    return server_url


@pytest.fixture(scope="session")
def password_url(seeded_url: str, tcp_port: int) -> str:
    """The same database over TCP, with a password that needs percent-encoding."""
    return f"postgresql://tester:{PASSWORD_IN_URL}@127.0.0.1:{tcp_port}/dbkit"


@pytest.fixture(scope="session", params=["socket", "tcp with a password"])
def each_url(request: pytest.FixtureRequest, seeded_url: str, password_url: str) -> str:
    """The default dataset by both ways in."""
    return seeded_url if request.param == "socket" else password_url


LONG_FILES = (
    *("test_diff_counts", "test_diff_rounds", "test_diff_restarts", "test_diff_signals"),
    *("test_lanes", "test_page_ends", "test_signals", "test_try", "test_rounds", "test_locust_runs", "test_tab"),
    *("test_embedded", "test_event_names", "test_silent_network", "test_surviving", "test_back_off", "test_passwords"),
    *(
        "test_ci_doc",
        "test_checks",
        "test_own_pages",
        "test_limit",
        "test_open_loop",
        "test_conditions",
        "test_round_trip",
        "test_pooler",
        "test_own_pages_doc",
    ),
    *("test_examples", "test_example_counts", "test_report", "test_serve", "test_paging", "test_bad_input"),
    *("test_dataset", "test_compose", "test_bench", "test_verdict", "test_pytest_plugin"),
    *("test_environments", "test_redirect", "test_checkouts"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take long come first: begun last, one of them would leave the other processes idle."""
    place = {name: number for number, name in enumerate(LONG_FILES)}
    items.sort(key=lambda item: place.get(item.path.stem, len(place)))
