"""Loads and settings as people see them: lines along users with their intervals, in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser

from dbkit.analysis.result import Result
from dbkit.output.html import report
from tests.analysis.test_conditions import END, POOL, result_of
from tests.analysis.test_open_loop import result as result_of_arrivals
from tests.browser import Tab, browser, browser_page
from tests.slots import known, plain_result

DRAWN = """
(chart) => chart.data.map(({name, x, y, error_y, line}) => ({
  name, x: [...x], y: [...y], above: [...error_y.array], below: [...error_y.arrayminus], dash: line.dash,
}))
"""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as started:
        yield started


def opened(tab: Tab, result: Result, folder: Path) -> list[list[dict[str, Any]]]:
    """What each chart along something has drawn."""
    (folder / "report.html").write_text(report(result))
    tab.page.goto((folder / "report.html").as_uri())
    charts = tab.page.locator('[data-chart="ladder"]')
    return [charts.nth(place).evaluate(DRAWN) for place in range(charts.count())]


def test_pages_and_p95_are_lines_along_users_with_the_intervals_of_their_rows(
    chromium: Browser, tmp_path: Path
) -> None:
    result = result_of("Fast", "Slow", loads=(1, 10, 50))
    with browser_page(chromium) as tab:
        pages, p95 = opened(tab, result, tmp_path)
        assert tab.errors == []
        assert tab.page.locator("#ladder h2").inner_text() == "How far"
        ticks = tab.page.locator('[data-chart="ladder"] .xtick').all_text_contents()
        assert ticks == ["1", "10", "50"] * 2
    for lines, figure in ((pages, "pages_per_s"), (p95, "p95_ms")):
        assert [(line["name"], line["x"]) for line in lines] == [("Fast", [1, 10, 50]), ("Slow", [1, 10, 50])]
        for line in lines:
            rows = [row for row in result.strategies if row.user_class == line["name"]]
            centres = [known(getattr(row, figure)) for row in rows]
            assert line["y"] == pytest.approx(centres)
            ends = [(known(getattr(row, f"{figure}_low")), known(getattr(row, f"{figure}_high"))) for row in rows]
            drawn = zip(centres, line["below"], line["above"], strict=True)
            assert [(y - below, y + above) for y, below, above in drawn] == [pytest.approx(pair) for pair in ends]


def test_below_three_rounds_lines_have_no_intervals(chromium: Browser, tmp_path: Path) -> None:
    with browser_page(chromium) as tab:
        for lines in opened(tab, result_of("Fast", loads=(1, 10), rounds=2), tmp_path):
            assert [(line["below"], line["above"]) for line in lines] == [([0, 0], [0, 0])]
        assert tab.errors == []


def test_without_loads_lines_go_along_the_pool_and_others_have_no_such_part(chromium: Browser, tmp_path: Path) -> None:
    with browser_page(chromium) as tab:
        pages, _ = opened(tab, result_of("Fast", variations=(END, POOL)), tmp_path)
        assert [(line["name"], line["x"]) for line in pages] == [
            (f"Fast, end={end}", [1, 2, 10, 20]) for end in END.values
        ]
        assert len({line["dash"] for line in pages}) == 2
        assert opened(tab, result_of("Fast", "Slow"), tmp_path) == []
        assert tab.page.locator("#ladder, a[href='#ladder']").count() == 0
        assert tab.errors == []


def test_charts_of_single_conditions_show_one_load_and_say_which(chromium: Browser, tmp_path: Path) -> None:
    with browser_page(chromium) as tab:
        opened(tab, result_of("Fast", "Slow", loads=(1, 10, 50)), tmp_path)
        for kind in ("latency", "counts", "verdicts", "slots"):
            chart = tab.page.locator(f'[data-chart="{kind}"]').first
            drawn = {each for each in chart.evaluate("({data}) => data.map(({meta}) => meta)") if each}
            assert drawn and drawn <= {"Fast, 10 users", "Slow, 10 users"}, kind
        bars = tab.page.locator('[data-chart="parts"]').evaluate("({layout}) => layout.yaxis.ticktext")
        assert [bar.partition("</span> ")[2] for bar in bars] == ["Fast, 10 users", "Slow, 10 users"]
        words = "With 10 users, at which the most pages were served. The other loads are in the tables."
        for section in ("verdicts", "latency", "reasons", "counts", "time"):
            assert words in tab.page.locator(f"#{section}").inner_text(), section
        rows = tab.page.locator("#comparison tbody tr")
        assert rows.count() == 6
        assert tab.page.locator("#comparison thead th").all_inner_texts()[:4] == [
            "user class",
            "users",
            "pages/s",
            "× Slow",
        ]
        assert tab.errors == []


def test_words_beside_the_charts_say_what_goes_from_left_to_right_and_why_times_are_missing() -> None:
    assert "Values of pool-size from left to right" in report(result_of("Fast", variations=(POOL,)))
    kept, broken = report(result_of_arrivals(50, 60)), report(result_of_arrivals(900, 950))
    assert "Pages asked for a second from left to right" in kept
    why = "Pages were not served as fast as they were asked for, so there are no response times."
    assert why in broken and why not in kept
    assert "Not sustained: pages piled up" in kept
    assert "Not sustained: pages piled up" not in report(result_of("Fast"))


def test_arrivals_of_a_run_are_listed_as_users_are() -> None:
    run = plain_result(measured_on={"options": {"arrivals": "20,50", "arrival_spacing": "poisson"}})
    assert "20, 50 a second, poisson" in report(run)
