"""The web form over HTTP, as a browser posts it: what it shows, what it refuses, and runs again and again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
import requests

from dbkit.cli.options import OPTIONS as CLI_OPTIONS
from dbkit.database.url import DatabaseUrl
from dbkit.todo.dataset import Shape, create
from tests.locust_runs import DEADLINE_S, LocustRun, connections, locust, named

APPLICATION_NAME = "web form"
OPTIONS = {
    "page_size": "20",
    "page_order": "random",
    "think_time": "0.0",
    "seed": "1",
    "pool_size": "5",
    "max_overflow": "10",
    "pool_timeout": "30.0",
    "statement_timeout": "0.0",
    "end": "rollback",
}
SECRET = "s3cret"


@pytest.fixture(scope="module")
def web(password_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocustRun]:
    """Locust waiting in its web UI with three classes, a stack each. Tests leave it waiting."""
    classes = ("PsycopgJoined", "PsycopgAsyncJoined", "AsyncpgJoined")
    with locust(
        tmp_path_factory.mktemp("web") / "run",
        *classes,
        url=named(password_url, APPLICATION_NAME),
        web=True,
        record=True,
    ) as run:
        yield run
        assert run.terminate() == 0
        assert "Traceback" not in run.output, run.output
        assert SECRET not in run.output
        assert run.leftovers() == []


def runs(web: LocustRun) -> tuple[int, int, int]:
    return web.template_arguments()["user_count"], web.output.count("Ramping"), len(web.pages)


def refusal(web: LocustRun, **form: object) -> str:
    """Why a run with these fields is refused. No run starts."""
    before = runs(web)
    answer = web.swarm(**form)
    if answer["success"]:  # wrongly; it is not to be in the way of other tests
        web.wait_until(lambda: web.template_arguments()["state"] == "running")
        web.stop()
    assert answer["success"] is False
    assert runs(web) == before
    return str(answer["message"])


def test_the_form_shows_the_options_with_their_help_and_not_the_database(web: LocustRun, password_url: str) -> None:
    arguments = web.template_arguments()
    shown = arguments["extra_options"]
    for name, default in OPTIONS.items():
        assert str(shown[name]["default_value"]) == default
        assert shown[name]["help_text"] == CLI_OPTIONS[name].help
    assert shown["end"]["choices"] == ["rollback", "commit", "autocommit"]
    assert shown["page_order"]["choices"] == ["random", "sequential"]
    assert "database_url" not in shown
    page, database = web.get("/").text, DatabaseUrl.parse(password_url)
    for hidden in (SECRET, f":{database.port}", f"{database.user}@", "postgresql://"):
        assert hidden not in page


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("page_size", "0"),
        ("page_size", "-1"),
        ("page_size", "abc"),
        ("page_size", "2.5"),
        ("page_size", ""),
        ("page_order", "foo"),
        ("think_time", "-1"),
        ("think_time", "nan"),
        ("think_time", "inf"),
        ("slot_time", "0s"),
        ("pool_timeout", "30s1m"),
        ("seed", "foo"),
        ("pool_size", "0"),
        ("max_overflow", "-1"),
        ("pool_timeout", "0"),
        ("statement_timeout", "-1"),
        ("statement_timeout", "foo"),
        ("end", "foo"),
        ("end", ""),
    ],
)
def test_a_bad_value_is_refused_and_nothing_starts(web: LocustRun, name: str, value: str) -> None:
    assert refusal(web, **{name: value}).startswith(f"--{name.replace('_', '-')}: ")


def test_a_bad_value_is_answered_in_the_words_of_the_command_line(web: LocustRun) -> None:
    expected = "expected a time such as 2, 0.5 or 1m30s, above 0"
    assert refusal(web, slot_time="x") == f"--slot-time: invalid value 'x': {expected}"
    assert refusal(web, page_size="0") == "--page-size: invalid value '0': expected an integer of at least 1"


def test_times_may_have_locusts_form(web: LocustRun) -> None:
    seen = len(web.pages)
    answer = web.swarm(think_time="0.02s", pool_timeout="1m30s", warm_up="0.3", calibrate="false")
    assert answer["success"] is True, answer
    web.wait_until(lambda: len(web.pages) > seen)
    web.stop()
    options = web.get("/dbkit/download/comparison.json").json()["measured_on"]["options"]
    assert {name: options[name] for name in ("think_time", "pool_timeout", "warm_up", "calibrate")} == {
        **{"think_time": 0.02, "pool_timeout": 90, "warm_up": 0.3, "calibrate": False},
    }


@pytest.mark.parametrize(
    "name",
    ["database_url", "csv_prefix", "html_file", "loglevel", "logfile", "locustfile", "processes", "headless", "config",
     "config_users", "list_commands", "help", "tags", "exit_code_on_error", "nonsense", "__class__"],
)  # fmt: skip
def test_an_option_that_the_form_does_not_show_cannot_be_set(web: LocustRun, name: str) -> None:
    assert name in refusal(web, **{name: "1"})


@pytest.mark.parametrize("form", [{"pool_size": 100}, {"max_overflow": 1000}, {"pool_size": 30, "max_overflow": 5}])
def test_pools_that_the_server_does_not_allow_are_refused_and_nothing_starts(
    web: LocustRun, form: dict[str, int]
) -> None:
    assert "lower --pool-size" in refusal(web, **form)


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "https://evil.example:8089", "http://127.0.0.1:1", "http://127.0.0.1", "null", ""]
)
@pytest.mark.parametrize("path", ["/swarm", "/stop", "/stats/reset"])
def test_the_page_of_another_site_can_do_nothing(web: LocustRun, origin: str, path: str) -> None:
    before = runs(web)
    form = {"user_count": 1, "spawn_rate": 1}
    answer = requests.post(web.web_url + path, data=form, headers={"Origin": origin}, timeout=DEADLINE_S)
    assert answer.status_code == 403
    assert answer.json()["success"] is False
    assert runs(web) == before


@pytest.mark.parametrize("path", ["/", "/stats/requests", "/dbkit/state", "/dbkit/download/comparison.json"])
def test_the_page_of_another_site_can_read_nothing(web: LocustRun, path: str) -> None:
    answer = requests.get(web.web_url + path, headers={"Origin": "http://evil.example"}, timeout=DEADLINE_S)
    assert (answer.status_code, "another site" in answer.text) == (403, True)


def test_runs_can_be_started_and_stopped_again_and_again_with_other_values(web: LocustRun, seeded_url: str) -> None:
    locust_process = psutil.Process(web.process.pid)
    seen = len(web.pages)
    for page_size, end in ((7, "rollback"), (20, "commit"), (3, "autocommit"), (7, "rollback")):
        answer = web.swarm({"Origin": web.web_url}, user_count=6, page_size=page_size, end=end, think_time=0.02)
        assert answer["success"] is True, answer

        def all_three_read(seen: int = seen) -> bool:
            return {page.stack for page in web.pages[seen:]} == {"psycopg", "psycopg-async", "asyncpg"}

        web.wait_until(all_three_read)
        assert web.template_arguments()["state"] == "running"
        assert web.stop()["success"] is True
        web.wait_until(lambda: web.template_arguments()["state"] == "stopped")
        web.wait_until(lambda: connections(seeded_url, APPLICATION_NAME) == 0)
        pages = web.pages[seen:]
        seen += len(pages)
        assert {page.failure for page in pages} == {None}
        assert {page.context["rows"] for page in pages if page.context["key"][0] < 2000 // page_size} == {2 * page_size}
        assert (min(page.context["round_trips"] for page in pages) == 1) is (end == "autocommit")
        # every run ends its loop thread: the main one is left, once the system has put the others away
        web.wait_until(lambda: locust_process.num_threads() == 1)


def test_values_that_were_refused_leave_the_next_run_as_it_was(web: LocustRun) -> None:
    seen = len(web.pages)
    refusal(web, page_size=0)
    assert web.swarm(page_size=4, think_time=0.02)["success"] is True
    web.wait_until(lambda: len(web.pages) > seen)
    assert web.stop()["success"] is True
    assert {page.context["rows"] for page in web.pages[seen:]} == {8}


def test_a_run_without_dataset_is_refused_and_nothing_starts(database_url: str, tmp_path: Path) -> None:
    create(DatabaseUrl.parse(database_url), Shape(users=1, todos=10), replace=False)
    with locust(tmp_path / "run", "PsycopgJoined", url=database_url, web=True, record=True) as run:
        with psycopg.connect(database_url) as connection:
            connection.execute("DROP SCHEMA dbkit CASCADE")
        assert "python seed.py" in refusal(run)


def test_what_was_reset_in_the_web_ui_is_reset_in_the_result(web: LocustRun) -> None:
    seen = len(web.pages)
    assert web.swarm(user_count=3, run_time="600", think_time=0.02)["success"] is True
    web.wait_until(lambda: len(web.pages) > seen + 20)
    assert requests.post(f"{web.web_url}/stats/reset", timeout=DEADLINE_S).ok
    before = len(web.pages)
    web.wait_until(lambda: len(web.pages) > before + 20)
    web.stop()
    comparison = web.get("/dbkit/download/comparison.json").json()
    assert len(web.pages) - before <= comparison["measured_on"]["pages_in_all"] < len(web.pages) - seen - 20
    stats = web.get("/stats/requests/csv").text.splitlines()
    assert comparison["measured_on"]["pages_in_all"] == int(stats[-1].split(",")[2])
    assert any(warning.startswith("cut short") for warning in comparison["warnings"])
