"""The Strategies tab in a real browser: opened from the form, filled by a run, drawn, downloaded."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests
from playwright.sync_api import Browser, Page, expect

from dbkit.measure.tally import SHOWN_PARTS
from tests.browser import Tab, browser, browser_page
from tests.locust_runs import DEADLINE_S, LocustRun, locust

ROUNDS = "locustfiles/rounds.py"
CLASSES = ("PsycopgJoined", "PsycopgAsyncCore", "AsyncpgSelectin")
QUICK = ("--rounds", "3", "--slot-time", "0.3", "--warm-up", "0.1", "--page-size", "7")
DOWNLOADS = ("report.html", "summary.md", "strategies.csv", "slots.csv", "comparison.json")
LINES = len(CLASSES)
DRAWN = {"pages": LINES, "p95": LINES, "parts": len(SHOWN_PARTS), "latency": LINES, "verdicts": LINES - 1}
MIXED = "run mixed: these classes shared one interpreter"
SECRET = "s3cret"
CUT_LABELS = "labels => labels.filter(each => each.scrollWidth > each.clientWidth).map(each => each.innerText)"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as started:
        yield started


@pytest.fixture(scope="module")
def waiting(seeded_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocustRun]:
    """Locust in which nothing has been started. Tests leave it so."""
    with locust(tmp_path_factory.mktemp("waiting") / "run", *CLASSES, url=seeded_url, web=True) as run:
        yield run


@pytest.fixture(scope="module")
def guarded(seeded_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocustRun]:
    """Locust that asks for a login."""
    folder = tmp_path_factory.mktemp("guarded")
    with locust(folder / "run", "--web-login", *CLASSES, url=seeded_url, web=True) as run:
        yield run


@pytest.fixture
def tab(chromium: Browser) -> Iterator[Tab]:
    """A page that at the end has shown no error and asked nobody but Locust."""
    with browser_page(chromium) as opened:
        opened.page.set_default_timeout(DEADLINE_S * 1000)
        expect.set_options(timeout=DEADLINE_S * 1000)
        yield opened
        assert opened.errors == []
        assert {urlsplit(url).hostname for url in opened.requests} == {"127.0.0.1"}


def strategies(page: Page) -> Page:
    """Click Locust's tab."""
    page.get_by_role("tab", name="Strategies").click()
    return page


def names(page: Page) -> list[str]:
    """The user classes in the table, in its order."""
    return [text.strip(" ●■▲◆✚") for text in page.locator(".dbkit-comparison tbody th").all_inner_texts()]


def wait_for_traces(page: Page, chart: str, count: int) -> None:
    """Until a chart draws so many lines, or groups of bars."""
    selector = f"#dbkit-{chart} .trace"
    page.wait_for_function("([each, count]) => document.querySelectorAll(each).length === count", arg=[selector, count])


def wait_for_classes(page: Page, count: int) -> None:
    """Until the table has so many rows."""
    selector = ".dbkit-comparison tbody tr"
    page.wait_for_function("([each, count]) => document.querySelectorAll(each).length === count", arg=[selector, count])


def wait_for_end(page: Page) -> None:
    expect(page.locator("#dbkit-status")).to_have_text("the run has ended")


def reload_stopped(page: Page, run: LocustRun) -> None:
    """Reload when Locust has stopped the test: its page asks no more for the state once it has seen it stopping.

    That is what it may still be given for two seconds after the end (2.47, web.py, `memoize`).
    """
    run.wait_until(lambda: run.get("/stats/requests").json()["state"] == "stopped")
    page.reload()


def start(page: Page, **fields: object) -> None:
    """Fill in the form, press Start and wait for Locust's tabs."""
    fill(page, **fields)
    page.get_by_role("button", name="Start").click()
    expect(page.get_by_role("tab", name="Statistics")).to_be_visible()


def fill(page: Page, **fields: object) -> None:
    page.get_by_label("Number of users (peak concurrency)").fill("4")
    page.get_by_label("Ramp up (users started/second)").fill("100")
    if fields:
        page.get_by_role("button", name="Custom parameters").click()
    for label, value in fields.items():
        page.get_by_label(f"{label.replace('_', ' ')} (").fill(str(value))


def test_the_form_links_to_the_tab_which_links_back(waiting: LocustRun, tab: Tab) -> None:
    page = tab.page
    page.goto(waiting.web_url)
    page.get_by_role("link", name="Strategies").click()
    expect(page.locator("#dbkit-status")).to_have_text("nothing has been measured yet")
    expect(page.get_by_role("heading", name="Start new load test")).to_be_hidden()
    page.get_by_role("link", name="Start a run").click()
    expect(page.get_by_role("heading", name="Start new load test")).to_be_visible()
    expect(page.locator("#dbkit-status")).to_be_hidden()
    assert urlsplit(page.url).path == "/"


def test_rounds_from_the_form_to_the_downloads(password_url: str, tmp_path: Path, tab: Tab) -> None:
    with locust(tmp_path / "run", *CLASSES, *QUICK, url=password_url, locustfiles=ROUNDS, web=True) as run:
        page = tab.page
        page.goto(run.web_url)

        # what the form offers, and what it refuses
        fill(page, Page_Size=0)
        expect(page.get_by_label("Rounds (")).to_have_value("3")
        assert page.locator("form label").evaluate_all(CUT_LABELS) == []
        page.get_by_role("button", name="Start").click()
        expect(page.get_by_text("--page-size: invalid value '0': expected an integer of at least 1")).to_be_visible()
        page.get_by_label("Page Size").fill("9")
        page.get_by_label("Rounds (").fill("1000")
        page.get_by_role("button", name="Start").click()

        # it fills while the rounds run
        strategies(page)
        wait_for_classes(page, len(CLASSES))
        where = re.compile(r"round \d+ of 1000 · slot \d+ of \d+: \w+, .+ left")
        expect(page.locator("#dbkit-status")).to_contain_text(where)
        so_far = run.get("/dbkit/download/comparison.json").json()
        assert (so_far["state"], so_far["warnings"][0].partition(":")[0]) == ("running", "still running")
        assert {verdict["quantity"] for verdict in so_far["verdicts"]} >= {"pages_per_s", "p95_ms", "client_cpu_ms"}
        page.get_by_role("button", name="Stop").click()
        wait_for_end(page)
        expect(page.locator("#dbkit .dbkit-warnings").first).to_contain_text("cut short")

        # complete
        reload_stopped(page, run)
        page.get_by_role("button", name="New").click()
        fill(page, Rounds=3, Page_Size=9, Check="Nobody: rows < 5")
        page.get_by_role("button", name="Start", exact=True).click()
        expect(page.get_by_text("is of Nobody, which is not among the classes")).to_be_visible()
        fill(page, Check=f"statements <= 2; {CLASSES[0]}: failures = 0")
        page.get_by_role("button", name="Start", exact=True).click()
        expect(page.locator("#dbkit")).not_to_contain_text("cut short")
        wait_for_end(page)
        assert sorted(names(page)) == sorted(CLASSES)
        for chart, count in DRAWN.items():
            wait_for_traces(page, chart, count)

        checks = page.locator("#dbkit .dbkit-checks li").all_inner_texts()
        assert len(checks) == len(CLASSES) + 1 and all(line.startswith("✓") for line in checks)

        # the files, by the page's own links: one and the same result
        files = {}
        for name in DOWNLOADS:
            with page.expect_download() as download:
                page.locator(f'.dbkit-downloads a[href$="/{name}"]').click()
            assert download.value.suggested_filename.endswith(name)
            files[name] = Path(download.value.path()).read_text()
        comparison = json.loads(files["comparison.json"])
        assert [row["user_class"] for row in comparison["strategies"]] == names(page)
        assert comparison == json.loads((run.folder / "run_comparison.json").read_text())
        assert comparison["measured_on"]["options"]["page_size"] == 9
        assert {entry["strategy"] for entry in comparison["plans"]} == {"joined", "core", "selectin"}
        assert not [warning for warning in comparison["warnings"] if re.match("still|cut", warning)]
        rows = list(csv.DictReader(io.StringIO(files["strategies.csv"])))
        shown = page.locator(".dbkit-comparison tbody tr td:nth-of-type(1)")
        exact = [shown.nth(place).get_attribute("title") for place in range(len(rows))]
        assert exact == [row["pages_per_s"] for row in rows]
        assert len(list(csv.DictReader(io.StringIO(files["slots.csv"])))) == len(comparison["slots"])
        assert comparison["headline"][0] in files["report.html"]
        assert SECRET not in page.content() + "".join(files.values())

        # Locust's other tabs are as they were
        page.get_by_role("tab", name="Statistics").click()
        expect(page.locator("#dbkit")).to_be_hidden()
        page.go_back()
        expect(page.locator("#dbkit")).to_be_visible()
        page.reload()
        expect(page.locator("#dbkit-status")).to_have_text("the run has ended")
        assert names(page) == [row["user_class"] for row in comparison["strategies"]]
        assert run.terminate() == 0
        assert "Traceback" not in run.output, run.output


def test_a_mixed_run_is_warned_of_where_its_figures_are(seeded_url: str, tmp_path: Path, tab: Tab) -> None:
    with locust(tmp_path / "run", *CLASSES, "--think-time", "0.02", url=seeded_url, web=True) as run:
        page = tab.page
        page.goto(run.web_url)
        page.get_by_role("button", name="Advanced options").click()
        page.get_by_label("Run time").fill("600")
        start(page)
        strategies(page)
        wait_for_classes(page, len(CLASSES))
        expect(page.locator("#dbkit-status")).to_contain_text(
            re.compile(r"^4 users · running for .+ · load process at \d+ % of a core · .+ left$")
        )
        expect(page.locator("#dbkit .dbkit-warnings").first).to_contain_text(MIXED)
        expect(page.locator("#dbkit-parts").locator("..").get_by_role("heading")).to_contain_text("last seconds")
        wait_for_traces(page, "pages", len(CLASSES) + 1)  # and the users
        expect(page.locator("#dbkit-verdicts")).to_be_hidden()
        before = page.locator(".dbkit-comparison").inner_text()
        page.wait_for_function("before => document.querySelector('.dbkit-comparison').innerText !== before", arg=before)
        page.get_by_role("button", name="Stop").click()
        wait_for_end(page)
        expect(page.locator("#dbkit .dbkit-warnings").first).to_contain_text("cut short")
        assert MIXED in requests.get(f"{run.web_url}/dbkit/download/report.html", timeout=DEADLINE_S).text
        # and again: what was is forgotten
        reload_stopped(page, run)
        page.get_by_role("button", name="New").click()
        fill(page)
        page.get_by_role("button", name="Start", exact=True).click()
        expect(page.locator("#dbkit-status")).to_contain_text("running for")


TWO_WORKLOADS = """
from dbkit.load import Rounds, Workload, page_users
from dbkit.todo.strategies import core, joined

users = Workload("<b>users</b>", keys=[(page, 7) for page in range(9)])
lists = Workload("lists", keys=[(page, 3) for page in range(9)])
page_users(users, stacks=["psycopg", "asyncpg"], prefix="Users", core=core, joined=joined)
page_users(lists, stacks=["psycopg"], prefix="Lists", core=core, joined=joined)

class Compare(Rounds):
    pass
"""


def test_each_workload_has_its_own_tables_and_charts(seeded_url: str, tmp_path: Path, tab: Tab) -> None:
    (tmp_path / "two.py").write_text(TWO_WORKLOADS)
    with locust(tmp_path / "run", *QUICK, url=seeded_url, locustfiles=str(tmp_path / "two.py"), web=True) as run:
        run.swarm()
        page = tab.page
        page.goto(f"{run.web_url}/?tab=strategies")
        wait_for_end(page)
        assert page.locator("h2.dbkit-workload").all_text_contents() == ["<b>users</b>", "lists"]
        found = page.locator(".dbkit-comparison")
        names = [each.locator("tbody th").all_inner_texts() for each in found.all()]
        assert [{name.strip(" ●■▲◆✚") for name in each} for each in names] == [
            {"UsersPsycopgCore", "UsersPsycopgJoined", "UsersAsyncpgCore", "UsersAsyncpgJoined"},
            {"ListsPsycopgCore", "ListsPsycopgJoined"},
        ]
        for chart, of_users, of_lists in (("pages", 4, 2), ("p95", 4, 2), ("latency", 4, 2), ("verdicts", 3, 1)):
            wait_for_traces(page, chart, of_users)
            wait_for_traces(page, f"{chart}-2", of_lists)
        references = run.get("/dbkit/download/comparison.json").json()["references"]
        for place, workload in enumerate(("<b>users</b>", "lists")):
            label = references[workload][0]["label"]
            assert found.nth(place).locator("thead th").nth(2).get_attribute("title") == (
                f"pages a second, as a multiple of what {label} has, with a 95 % interval"
            )


def test_the_class_picker_runs_what_was_picked(seeded_url: str, tmp_path: Path, tab: Tab) -> None:
    with locust(
        tmp_path / "run", "--class-picker", "--think-time", "0.02", url=seeded_url, web=True, record=True
    ) as run:
        page = tab.page
        page.goto(run.web_url)
        for box in page.get_by_role("row").filter(has_text=re.compile("Psycopg|Selectin|Lazy|Core|Subquery")).all():
            box.get_by_role("checkbox").uncheck()
        start(page)
        strategies(page)
        wait_for_classes(page, 1)
        assert names(page) == ["AsyncpgJoined"]
        assert {read.context["user_class"] for read in run.pages} == {"AsyncpgJoined"}
        page.get_by_role("button", name="Stop").click()
        wait_for_end(page)


def test_other_classes_cannot_be_picked_while_a_run_goes_on(seeded_url: str, tmp_path: Path) -> None:
    arguments = ("--class-picker", "--think-time", "0.02")
    with locust(tmp_path / "run", *arguments, url=seeded_url, web=True, record=True) as run:
        assert run.swarm(user_classes="PsycopgJoined")["success"]
        run.wait_until(lambda: run.pages)
        answer = run.swarm(user_classes="AsyncpgCore")
        assert (answer["success"], "stop it before" in answer["message"]) == (False, True)
        assert run.swarm(user_count=3)["success"]  # the same ones with more users
        run.wait_until(lambda: run.template_arguments()["user_count"] == 3)
        run.stop()
        strategies = run.get("/dbkit/download/comparison.json").json()["strategies"]
        assert [(row["user_class"], row["users"]) for row in strategies] == [("PsycopgJoined", 3)]


def test_rounds_need_a_worker(seeded_url: str, tmp_path: Path) -> None:
    with locust(tmp_path / "run", "--master", *QUICK, url=seeded_url, locustfiles=ROUNDS, web=True) as run:
        answer = run.swarm()
        assert (answer["success"], "no worker is connected" in answer["message"]) == (False, True)


def test_the_class_picker_picks_for_rounds_and_offers_no_run_without_them(
    seeded_url: str, tmp_path: Path, tab: Tab
) -> None:
    arguments = ("--class-picker", *QUICK)
    with locust(tmp_path / "run", *arguments, url=seeded_url, locustfiles=ROUNDS, web=True) as run:
        assert run.template_arguments()["available_shape_classes"] == ["Compare"]
        answer = run.swarm(user_classes="PsycopgJoined", shape_class="Default")
        assert (answer["success"], "choose Compare" in answer["message"]) == (False, True)
        answer = run.swarm(user_classes="NoSuchClass", shape_class="Compare")
        assert (answer["success"], "there is no user class NoSuchClass" in answer["message"]) == (False, True)
        answer = run.swarm(user_classes=["PsycopgJoined", "AsyncpgCore"], shape_class="Compare")
        assert answer["success"], answer
        page = tab.page
        page.goto(f"{run.web_url}/?tab=strategies")
        wait_for_end(page)
        assert sorted(names(page)) == ["AsyncpgCore", "PsycopgJoined"]
        slots = requests.get(f"{run.web_url}/dbkit/download/slots.csv", timeout=DEADLINE_S).text
        assert {row["round"] for row in csv.DictReader(io.StringIO(slots))} == {"1", "2", "3"}


def test_it_works_under_a_path_of_its_own_and_with_workers(seeded_url: str, tmp_path: Path, tab: Tab) -> None:
    arguments = ("--web-base-path", "/load", "--processes", "2", "--think-time", "0.02")
    with locust(tmp_path / "run", *arguments, *CLASSES, url=seeded_url, web=True, web_path="/load") as run:
        run.swarm(user_count=6)
        page = tab.page
        page.goto(f"{run.web_url}/?tab=strategies")
        wait_for_classes(page, len(CLASSES))
        wait_for_traces(page, "p95", len(CLASSES) + 1)
        page.get_by_role("button", name="Stop").click()
        wait_for_end(page)
        comparison = requests.get(f"{run.web_url}/dbkit/download/comparison.json", timeout=DEADLINE_S).json()
        assert comparison["measured_on"]["pages_in_all"] == sum(row["pages"] for row in comparison["strategies"])


@pytest.mark.parametrize("path", ["state", "download/report.html", "charts.js", "plotly.js"])
def test_nothing_is_shown_without_a_login_where_one_is_asked_for(guarded: LocustRun, path: str) -> None:
    answer = guarded.get(f"/dbkit/{path}")
    assert answer.text.startswith("Locust auth exception")  # nobody can log in yet: no user is known


@pytest.mark.parametrize(
    ("path", "said"), [("comparison.json", "nothing has been measured yet"), ("x.csv", "there is no")]
)
def test_a_missing_download_is_reported(waiting: LocustRun, path: str, said: str) -> None:
    answer = waiting.get(f"/dbkit/download/{path}")
    assert (answer.status_code, said in answer.text) == (404, True)
    for other in ("report.html", "%2e%2e/pyproject.toml", "__init__.py"):
        assert waiting.get(f"/dbkit/{other}").status_code == 404
