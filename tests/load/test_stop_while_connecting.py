"""A stop that comes while users connect leaves no connection: not in the process, and not on the server."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psutil
import psycopg
import pytest

from tests.conftest import PASSWORD_IN_URL
from tests.load.faulty_servers import Waiting, waiting
from tests.locust_runs import LocustRun, locust, named

CLASSES = ("PsycopgCore", "PsycopgThreadsCore", "PsycopgAsyncCore", "AsyncpgCore")
USERS_EACH = 3
NAME = "stopped while connecting"


@pytest.fixture
def way(tcp_port: int) -> Iterator[Waiting]:
    with waiting(tcp_port) as way:
        yield way


def url_of(way: Waiting) -> str:
    url = f"postgresql://tester:{PASSWORD_IN_URL}@127.0.0.1:{way.port}/dbkit?sslmode=disable&connect_timeout=600"
    return named(url, NAME)


def open_sockets(run: LocustRun, way: Waiting) -> int:
    """Those of the process to the server, as the system knows them now."""
    connections = psutil.Process(run.process.pid).net_connections("tcp")
    return sum(bool(each.raddr) and each.raddr[1] == way.port for each in connections)


def on_server(url: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT count(*) FROM pg_stat_activity WHERE application_name = %s", [NAME]).fetchone()
    assert row is not None
    return int(row[0])


def served(run: LocustRun) -> list[str]:
    """The class of each page so far."""
    return [page.context["user_class"] for page in run.pages if page.failure is None]


def all_are_served(run: LocustRun, since: int) -> bool:
    return len({*served(run)[since:]}) == len(CLASSES)


def assert_nothing_is_left(run: LocustRun, way: Waiting, url: str) -> None:
    assert open_sockets(run, way) == 0
    run.wait_until(lambda: way.open == on_server(url) == 0)


def test_pages_that_connect_leave_nothing_on_any_stack(seeded_url: str, way: Waiting, tmp_path: Path) -> None:
    users = USERS_EACH * len(CLASSES)
    arguments = ("--pool-class", "null", "--plans", "none", "--think-time", "0.05", "--drain-timeout", "0.2")
    with locust(tmp_path / "run", *arguments, *CLASSES, url=url_of(way), web=True, record=True) as run:
        for _ in range(2):
            assert run.swarm(user_count=users, spawn_rate=100)["success"]
            # the first connection of native threads is one for all of them
            run.wait_until(partial(all_are_served, run, len(served(run))))
            run.wait_until(lambda: run.template_arguments()["user_count"] == users)
            way.holds = True
            run.wait_until(lambda: way.open == on_server(seeded_url) == users)
            way.holds = False  # for what the end of a test reads of the server
            run.stop()
            assert_nothing_is_left(run, way, seeded_url)
        run.terminate()


def test_a_slot_that_connects_leaves_nothing(seeded_url: str, way: Waiting, tmp_path: Path) -> None:
    arguments = ("--pool-size", "8", "--plans", "none", "--rounds", "50", "--slot-time", "0.1", "--warm-up", "0")
    with locust(
        tmp_path / "run",
        *arguments,
        *CLASSES,
        url=url_of(way),
        locustfiles="locustfiles/rounds.py",
        web=True,
        record=True,
    ) as run:
        assert run.swarm(user_count=USERS_EACH, spawn_rate=100)["success"]
        run.wait_until(lambda: served(run))
        way.holds = True
        before = way.open
        # the next class of another stack opens a pool of its own
        run.wait_until(lambda: way.open > before)
        way.holds = False
        run.stop()
        assert_nothing_is_left(run, way, seeded_url)
        run.terminate()


LATE = """
from _thread import get_native_id
from pathlib import Path

from dbkit.load import ThreadPageUser, Workload
from gevent import monkey
from sqlalchemy import text

sleep = monkey.get_original("time", "sleep")
here = Path(__file__).parent

class Late(ThreadPageUser):
    workload = Workload("numbers", keys=range(10), check=None)

    def page_function(session, number):
        (here / "begun").write_text(str(get_native_id()))
        while not (here / "go").exists():
            sleep(0.01)
        try:
            session.execute(text("SELECT 1"))
        except BaseException:
            (here / "error").touch()
            raise
"""


def test_a_thread_that_connects_long_after_its_test_gets_an_error_and_ends(seeded_url: str, tmp_path: Path) -> None:
    (tmp_path / "late.py").write_text(LATE)
    arguments = ("--pool-class", "null", "--plans", "none", "--drain-timeout", "0.1", "--verify-keys", "0")
    with locust(tmp_path / "run", *arguments, url=seeded_url, locustfiles=str(tmp_path / "late.py"), web=True) as run:
        threads = psutil.Process(run.process.pid).threads

        def is_there() -> bool:
            return int((tmp_path / "begun").read_text()) in {thread.id for thread in threads()}

        assert run.swarm(user_count=1)["success"]
        run.wait_until((tmp_path / "begun").exists)
        run.stop()
        assert is_there()
        (tmp_path / "go").touch()
        run.wait_until(lambda: not is_there())
        assert (tmp_path / "error").exists()
        run.terminate()
        assert "Traceback" not in run.stderr
