"""The report of a before and after: both sides beside each other, and nothing of them executed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from dbkit.analysis.before_after import COMPARED
from dbkit.analysis.change_words import headline_of_revisions
from dbkit.analysis.page_facts import compare_facts
from dbkit.analysis.result import Result
from dbkit.analysis.revisions import PAGE_COUNTS, REVISION, Side
from dbkit.output.html import report
from tests.analysis.test_before_after import ALIKE, OTHER_PLAN, SIDES, page, side, verdict
from tests.browser import browser, browser_page
from tests.slots import class_row, plain_result


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as started:
        yield started


def diff_result(sql: str = "SELECT abs($1)") -> Result:
    after = side(page(times=21, rendered="[2]"), page(name="Same"), page(name="Rewritten", sql=sql), plan=OTHER_PLAN)
    before = side(page(), page(name="Same"), page(name="Rewritten"))
    names = {name: f"Page, {REVISION}={name}" for name in ("main", "HEAD")}
    rows = [class_row("Page", condition=key, label=key, settings={REVISION: name}) for name, key in names.items()]
    verdicts = [verdict("pages_per_s", 0.5, 0.6), *ALIKE[1:]]
    result = plain_result(strategies=rows, verdicts=verdicts, revisions=compare_facts(before, after, SIDES))
    result.headline = headline_of_revisions(result)
    return result


def test_both_sides_stand_beside_each_other(chromium: Browser, tmp_path: Path) -> None:
    (file := tmp_path / "report.html").write_text(report(diff_result()))
    with browser_page(chromium) as tab:
        tab.page.goto(file.as_uri())
        section = tab.page.locator("#revisions")
        cells = section.locator("tbody tr").first.locator("th, td").all_inner_texts()
        assert [cell.strip() for cell in cells[:4]] == ["Page", "✗", "1 → 21", "3 → 23"]
        assert cells[4].strip() == "0.55 ✗\n[0.50, 0.60]"
        opened = section.locator("details").first
        assert opened.locator("h4").all_inner_texts()[:2] == ["main", "HEAD"]
        assert "20 more a page than before · sent by shop/pages.py:9 in page" in opened.inner_text()
        assert opened.locator("pre").last.inner_text().splitlines()[-2:] == ["-[1]", "+[2]"]
        assert "Seq Scan using" not in section.inner_text()
        assert tab.page.get_by_text("No plans were taken").count() == 0  # they stand above
        assert tab.errors == []


def test_counts_and_quantities_fit_beside_each_other(chromium: Browser, tmp_path: Path) -> None:
    result = diff_result()
    assert result.revisions is not None
    result.verdicts = [verdict(quantity, 1.01, 12.85) for quantity in COMPARED]
    none = {"discarded_rows": 0, "connections": 0}
    for change in result.revisions.pages:
        change.before = dict.fromkeys(PAGE_COUNTS, 2) | none | {"bytes_from_server": 3814}
        change.after = dict.fromkeys(PAGE_COUNTS, 21) | none | {"bytes_from_server": 5845}
    (file := tmp_path / "report.html").write_text(report(result))
    with browser_page(chromium, width=1300) as tab:
        tab.page.goto(file.as_uri())
        table = tab.page.locator("#revisions .dbkit-scroll")
        assert table.locator("thead th").count() == 2 + len(PAGE_COUNTS) - len(none) + len(COMPARED)
        assert table.evaluate("each => each.scrollWidth <= each.clientWidth")


def test_a_report_of_counts_alone_has_nothing_on_times(chromium: Browser, tmp_path: Path) -> None:
    result = diff_result()
    result.strategies, result.verdicts = [], []
    (file := tmp_path / "report.html").write_text(report(result))
    with browser_page(chromium) as tab:
        tab.page.goto(file.as_uri())
        headings = ["Before and after", "What it was measured on", "How to read it"]
        assert tab.page.locator("h2").all_inner_texts() == headings
        assert tab.page.locator(".dbkit-contents a").all_inner_texts() == headings
        assert "nothing was read" not in tab.page.locator("header").inner_text()
        assert tab.errors == []


def test_texts_of_pages_and_statements_are_shown_and_not_executed(chromium: Browser, tmp_path: Path) -> None:
    hostile = "<img src=x onerror=\"document.title='executed'\"></code></pre><script>document.title='executed'</script>"
    result = diff_result(sql=f"SELECT '{hostile}'")
    assert result.revisions is not None
    result.revisions.before = Side(name="main", subject=hostile)
    for change in result.revisions.pages:
        change.page_diff = hostile
    (file := tmp_path / "report.html").write_text(report(result))
    with browser_page(chromium) as tab:
        tab.page.goto(file.as_uri())
        assert "executed" not in tab.page.title()
        assert tab.page.locator("#revisions").inner_text().count("onerror") >= 2
