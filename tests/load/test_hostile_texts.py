"""Names, keys, pages and errors of somebody who means ill, in a run that people watch: in the browser, and in files."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from dbkit.output.csv_files import FORMULA_BEGINNINGS
from tests.browser import browser, browser_page
from tests.locust_runs import DEADLINE_S, locust

MARKUP = "<img src=x onerror=hacked=1></script><script>hacked=1</script>"
FORMULA = "=cmd|' /C calc'!A0"
LOCUSTFILE = f"""
from locust import task
from sqlalchemy import literal, select, text
from dbkit.load import SyncPageUser, Workload, page_users

MARKUP, FORMULA = {MARKUP!r}, {FORMULA!r}

def good(session, key):
    return [session.scalar(select(literal(key)))]

def failing(session, key):
    raise LookupError(f"{{FORMULA}}{{MARKUP}}")

def refused(session, key):
    session.execute(text('SELECT "=cmd<img src=x onerror=hacked=1>"'))

for number, name in enumerate((MARKUP, FORMULA, "-1+2", "@SUM(1)")):
    workload = Workload(f"{{name}} of a workload", keys=[MARKUP, FORMULA], check=None)
    strategies = {{name: good, f"{{name}} failing": failing, f"{{name}} refused": refused}}
    for place, (strategy, function) in enumerate(strategies.items()):
        globals()[f"Class{{number}}{{place}}"] = type(
            f"Class{{number}}{{place}}",
            (SyncPageUser,),
            {{"workload": workload, "strategy": strategy, "page_function": function, "__module__": __name__}},
        )

class Tasks(SyncPageUser):
    @task
    def read(self):
        self.read_page(good, 1, name=f"{{FORMULA}}{{MARKUP}}")
        raise RuntimeError(f"{{FORMULA}}{{MARKUP}}")
"""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as started:
        yield started


def assert_nothing_ran(page: Page) -> None:
    assert page.evaluate("typeof hacked") == "undefined"
    assert page.locator("[onerror], [onload]").count() == 0


def cells(text: str) -> set[str]:
    return {cell for row in csv.reader(io.StringIO(text, newline="")) for cell in row}


def test_they_are_shown_and_do_nothing(chromium: Browser, seeded_url: str, tmp_path: Path) -> None:
    (tmp_path / "hostile.py").write_text(LOCUSTFILE)
    arguments = ("--think-time", "0.05", "--csv-full-history")
    with locust(
        tmp_path / "run", *arguments, url=seeded_url, locustfiles=str(tmp_path / "hostile.py"), web=True, record=True
    ) as run:
        assert run.swarm(user_count=13)["success"]
        run.wait_until(lambda: len({page.context["user_class"] for page in run.pages}) == 13)
        with browser_page(chromium) as tab:
            page = tab.page
            expect.set_options(timeout=DEADLINE_S * 1000)
            page.goto(f"{run.web_url}/?tab=strategies")
            page.wait_for_function("document.querySelectorAll('.dbkit-comparison tbody tr').length >= 12")
            expect(page.locator("#dbkit")).to_contain_text(MARKUP)
            page.wait_for_selector("#dbkit-latency .trace")
            assert_nothing_ran(page)
            for name, shown in (
                ("Statistics", MARKUP),
                ("Failures", "LookupError"),
                ("Exceptions", "RuntimeError"),
                ("Current ratio", "Class"),
                ("Logs", "LookupError"),
            ):
                page.get_by_role("tab", name=name).click()
                expect(page.locator("body")).to_contain_text(shown)
                assert_nothing_ran(page)
            assert tab.errors == []
            run.stop()
            for path in ("/stats/report", "/dbkit/download/report.html"):
                (tmp_path / "saved.html").write_text(run.get(path).text)
                page.goto((tmp_path / "saved.html").as_uri())
                expect(page.locator("body")).to_contain_text(MARKUP)
                assert_nothing_ran(page)
        summary = run.get("/dbkit/download/summary.md").text
        assert MARKUP not in summary and MARKUP in summary.replace("\\", "")
        downloads = [f"/stats/{name}/csv" for name in ("requests", "failures", "requests_full_history")]
        downloads += ["/exceptions/csv", "/dbkit/download/strategies.csv", "/dbkit/download/slots.csv"]
        texts = [run.get(path).text for path in downloads]
        assert run.terminate() in (0, 1)
        assert "Traceback" not in re.sub(r"(?s)(a page of|RuntimeError|Tasks).*", "", run.stderr)
    texts += [file.read_text() for file in Path(tmp_path / "run").glob("*.csv")]
    assert_no_formulas(texts)


def assert_no_formulas(texts: list[str]) -> None:
    found = set[str]().union(*map(cells, texts))
    assert any(cell.startswith(f"'{FORMULA}") for cell in found)
    assert not [cell for cell in found if cell.startswith(FORMULA_BEGINNINGS)]
    numbers = [cell for cell in found if re.fullmatch(r"[\d.]+", cell)]
    assert len(numbers) > 20  # figures are as they were
