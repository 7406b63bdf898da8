"""The report opens offline, shows the figures to the digit and runs nothing that is in them; so does the summary."""

from __future__ import annotations

import copy
import csv
import json
import math
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import combinations, pairwise, product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from msgspec.structs import replace as changed
from playwright.sync_api import Browser, expect

from dbkit.analysis.condition import Condition, Users
from dbkit.analysis.formats import limit, number, ratio
from dbkit.analysis.mixed_run import result_of_mixed_run
from dbkit.analysis.records import ClassRow
from dbkit.analysis.result import FORMAT, FailureRow, Plan, Result, State, Statement, WorkloadInfo
from dbkit.analysis.rounds import result_of_rounds
from dbkit.analysis.scaling import law_of
from dbkit.analysis.slot import Slot, UserClass
from dbkit.analysis.warnings import MIXED_WARNING
from dbkit.cli.main import main
from dbkit.errors import DbkitError, printable
from dbkit.measure.cost import COUNTS, PARTS
from dbkit.measure.tally import SHOWN_PARTS, Tally
from dbkit.output.csv_files import FILES
from dbkit.output.html import MOST_SLOTS, report
from dbkit.output.json_file import read_comparison
from dbkit.output.looks import looks
from dbkit.output.markdown import summary
from tests.analysis.test_scaling import KNEE, ladder
from tests.analysis.test_search import result_of as searched
from tests.analysis.test_search import run as run_search
from tests.analysis.test_search import search_of
from tests.browser import Tab, browser, browser_page
from tests.hostile import hostile
from tests.slots import QUIET, class_row, known, plain_result

STACKS = ("psycopg", "psycopg-async", "asyncpg")
ALL_STACKS = ("psycopg", "psycopg-threads", "psycopg-async", "asyncpg")
STRATEGIES = ("lazy", "selectin", "joined", "subquery", "core")
CLASSES = {
    name: UserClass(name, stack, strategy, "todo list")
    for stack in STACKS
    for strategy in STRATEGIES
    for name in [f"{stack.title().replace('-', '')}{strategy.title()}"]
}
REFERENCE = "AsyncpgCore"
"""The slowest class of `rounds_of`."""
TODO_LIST = WorkloadInfo(
    name="todo list",
    pages="20 todos, random order",
    check="each page is checked by check_page",
    writing_classes=[],
)
MEASURED_ON = {
    "measured_at": "2026-11-22T14:45:24+00:00",
    "python": "3.11.7",
    "packages": {"SQLAlchemy": "2.1.9"},
    "processor": "a <processor>",
    "cores": 2,
    "server": {"database": "postgresql://dbkit@/dbkit", "postgresql": "18.4", "settings": {"work_mem": "4MB"}},
    "options": {
        "num_users": 10,
        "rounds": 3,
        "slot_time": 1.0,
        "end": "commit",
        "pool_size": 5,
        "max_overflow": 5,
    },
}
STATEMENT = {
    "sql": "SELECT title\nFROM todo WHERE id < %(id)s",
    "source": "shop/pages.py:12 in page",
    "parameters": '{"id": 20}',
    "times": 21,
    "plan": "Seq Scan on todo  (actual time=0.01..0.02 rows=20.00 loops=1)\nExecution Time: 0.0423 ms",
    "execution_ms": 0.0423,
    "note": None,
}
PLANS = [
    {
        "workload": "todo list",
        "strategy": strategy,
        "which": which,
        "key": f"{page}, 20",
        "statements": [STATEMENT],
        "note": None,
    }
    for strategy in STRATEGIES
    for which, page in (("typical", 50), ("last", 99))
]
HOSTILE = (
    "<img src=x onerror=hacked=1>",
    "</script><script>hacked=1</script>",
    "\"><svg onload='hacked=1'>",
    '<a href="javascript:hacked=1">%{x}</a>',
    "{{ 7 * 7 }} &amp; <b>bold</b>",
    "Ä世🐘" * 20,
)


def tally(pages: int, response_ms: float) -> Tally:
    """The tally of pages that take from half to one and a half of that."""
    made = Tally()
    for place in range(pages):
        ms = response_ms * (0.5 + place / pages)
        shares = dict(zip(PARTS, (ms / 8, ms / 16, 0.0, ms / 2, ms * 5 / 16), strict=True))
        cost = {**dict.fromkeys(COUNTS, 2.0), "rows": 40.0, "think_ms": 3.0, **shares}
        made.add(cost, ms, failed=False)
    made.page_equivalents = pages
    return made


def rounds_of(user_classes: Sequence[UserClass], rounds: int = 3, planned_slots: int | None = None) -> Result:
    """Complete rounds, in which every class serves a tenth fewer pages than the one before it, and drifts a little."""
    slots: list[Slot] = []
    for round_number in range(1, rounds + 1):
        for place, user_class in enumerate(user_classes):
            pages = round(200 * 0.9**place * (1 + ((place * 7 + round_number * 5) % 11) / 200))
            steal = ((place + round_number) % 5) / 25
            slots.append(
                Slot(
                    len(slots),
                    round_number,
                    Condition(user_class.name, Users(10)),
                    began_s=len(slots) * 1.3,
                    server_cpu_s=0.1,
                    server_seconds=1.3,
                    server_machine="here",
                    processes=[replace(QUIET, cpu_s=0.9, lane_lag_ms=2.0, cores=2, busy_share=0.6, steal_share=steal)],
                    measured=tally(pages, 10_000 / pages),
                    warm_up=tally(10, 30),
                    replaced=len(slots) == 1,
                )
            )
    result = result_of_rounds(
        slots,
        {user_class.name: user_class for user_class in user_classes},
        end="rollback",
        planned_slots=len(slots) - 1 if planned_slots is None else planned_slots,
        measured_on=MEASURED_ON,
        workloads=[TODO_LIST],
    )
    result.plans = msgspec.convert(PLANS, list[Plan])
    return result


def mixed_run(user_classes: Sequence[UserClass]) -> Result:
    windows = 4
    return result_of_mixed_run(
        {user_class.name: tally(100 + place, 20) for place, user_class in enumerate(user_classes)},
        {user_class.name: user_class for user_class in user_classes},
        seconds=8,
        users=20,
        chosen=2,
        end="rollback",
        measured_on=MEASURED_ON,
        workloads=[TODO_LIST],
        timeline={
            "window_s": 2.0,
            "began_s": [0.0, 1.5, 3.5, 5.5],
            "users": [5, 10, None, 20],
            "classes": {
                user_class.name: {
                    "pages_per_s": [1.5] * (windows - 1) + [None],
                    "p95_ms": [None] + [20.0] * (windows - 1),
                }
                for user_class in user_classes
            },
        },
    )


@pytest.fixture(scope="module")
def full() -> Result:
    return rounds_of([*CLASSES.values()])


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as started:
        yield started


@pytest.fixture(scope="module")
def full_tab(chromium: Browser, full: Result, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    """The report of `full`, opened once for all who only look."""
    with browser_page(chromium) as tab:
        opened(tab, tmp_path_factory.mktemp("report"), full)
        yield tab


def opened(tab: Tab, folder: Path, result: Result) -> str:
    """Open the report of `result` as a file; its address."""
    path = folder / "run_report.html"
    path.write_text(report(result), encoding="utf-8")
    tab.page.goto(path.as_uri())
    return path.as_uri()


def table(tab: Tab, selector: str) -> list[list[str]]:
    """The text of every cell."""
    cells: list[list[str]] = tab.page.locator(selector).evaluate(
        "table => [...table.rows].map(row => [...row.cells].map(cell => cell.textContent.trim()))"
    )
    return cells


def drawn(tab: Tab, chart: str) -> list[dict[str, Any]]:
    """The traces that the first chart of a kind draws."""
    traces: list[dict[str, Any]] = tab.page.locator(f"[data-chart={chart}]").first.evaluate(
        "chart => chart.data.map(({ uid, meta, name, x, y }) => ({ of: meta ?? uid, name, x, y }))"
    )
    return traces


# The complete report


def test_it_opens_offline_and_draws_every_chart_without_an_error(full_tab: Tab) -> None:
    page = full_tab.page
    kinds = page.locator(".dbkit-chart").evaluate_all("charts => charts.map(chart => chart.dataset.chart)")
    lines = {
        kind: page.locator(f"[data-chart={kind}] .scatterlayer").first.locator(".trace").count()
        for kind in {*kinds} - {"parts"}
    }
    assert Counter(kinds) == {"verdicts": 3, "fastest": 1, "latency": 1, "parts": 1, "counts": 1, "slots": 2}
    assert lines["latency"] == lines["slots"] == lines["counts"] == len(CLASSES)
    assert lines["verdicts"] == lines["fastest"] == len(CLASSES) - 1
    assert page.locator("[data-chart=parts] .barlayer .point").count() == len(CLASSES) * len(SHOWN_PARTS)
    assert full_tab.errors == []
    assert full_tab.requests == [page.url]


def test_no_chart_has_a_button_that_would_send_it_somewhere(full_tab: Tab) -> None:
    buttons = full_tab.page.locator(".modebar-btn").evaluate_all("all => all.map(each => each.dataset.title)")
    assert {*buttons} == {"Download plot as a PNG", "Zoom", "Pan", "Zoom in", "Zoom out", "Autoscale"}


@pytest.mark.parametrize("width", [1280, 800])
@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_it_is_legible_in_the_light_and_in_the_dark_and_fits_the_window(
    full_tab: Tab, scheme: Literal["dark", "light"], width: int
) -> None:
    page = full_tab.page
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme=scheme)
    ink, paper = page.evaluate(
        "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
    )
    assert contrast(luminance(ink), luminance(paper)) > 10
    assert (luminance(ink) > luminance(paper)) == (scheme == "dark")
    page.wait_for_function(  # the charts follow
        """ink => [...document.querySelectorAll(".dbkit-chart")].every((chart) =>
            chart.querySelector(".xtick text").style.fill.startsWith(ink)
            && chart.querySelector("svg").clientWidth === chart.clientWidth)""",
        arg=ink,
    )
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_the_sections_come_in_order_and_the_first_plan_is_open(full_tab: Tab, full: Result) -> None:
    tab = full_tab
    sections = tab.page.locator("section").evaluate_all("sections => sections.map(section => section.id)")
    opens = tab.page.locator("#sql details").evaluate_all("all => all.map(details => details.open)")
    first = tab.page.locator("#sql details").first.inner_text()
    header = tab.page.locator("header").inner_text()
    contents_list = tab.page.locator(".dbkit-contents a").all_inner_texts()
    headings = tab.page.locator("h2").all_inner_texts()
    expected = "comparison verdicts latency reasons counts distance time sql figures setting terms"
    assert sections == expected.split()
    assert contents_list == headings
    assert opens == [True] + [False] * (len(STRATEGIES) - 1)
    for words in (
        STATEMENT["sql"],
        STATEMENT["plan"],
        "21 times",
        "0.042 ms",
        "Typical page, key 50, 20",
        "Last page, key 99, 20",
        "sent by shop/pages.py:12 in page",
        '{"id": 20}',
    ):
        assert str(words) in first
    for words in (
        *full.headline,
        *full.warnings,
        "22 Nov 2026, 14:45 UTC",
        "PostgreSQL 18.4",
        "a <processor>, 2 cores",
    ):
        assert words in header


def test_every_figure_is_there_to_the_digit(full_tab: Tab, full: Result) -> None:
    written = {name: make(full) for name, make in FILES.items()}
    tab = full_tab
    csv_tables = [table(tab, f"#figures details:nth-of-type({place}) table") for place in (1, 2)]
    heading, *speeds = table(tab, ".dbkit-comparison")
    titles = tab.page.locator(".dbkit-reasons tbody td").evaluate_all("cells => cells.map(cell => cell.title)")
    curves = {trace["of"]: trace["y"] for trace in drawn(tab, "latency")}
    slots = {trace["of"]: trace["y"] for trace in drawn(tab, "slots")}
    parts = {trace["of"]: trace["x"] for trace in drawn(tab, "parts")}
    ratios = {trace["of"]: trace["x"] for trace in drawn(tab, "verdicts")}
    for name, cells in zip(("strategies.csv", "slots.csv"), csv_tables, strict=True):
        assert cells == [*csv.reader(written[name].splitlines())]

    rows = json.loads(written["comparison.json"])["strategies"]
    on_pages = {v.label: v for v in full.verdicts if v.quantity == "pages_per_s"}
    assert f"× {REFERENCE}" in heading
    assert [msgspec.to_builtins(row) for row in full.strategies] == rows
    for figures, (user_class, pages, shown_ratio, p50, p95, p99, failures, bound_by) in zip(
        full.strategies, speeds, strict=True
    ):
        row = msgspec.to_builtins(figures)
        assert user_class.endswith(row["user_class"])
        assert [pages, p50, p95, p99] == [number(row[name]) for name in ("pages_per_s", "p50_ms", "p95_ms", "p99_ms")]
        assert shown_ratio == ("reference" if row["user_class"] == REFERENCE else ratio(on_pages[row["user_class"]]))
        assert (failures, bound_by) == (str(row["failures"]), limit(figures))
    columns = (*COUNTS, *SHOWN_PARTS, "client_cpu_ms", "server_cpu_ms")
    assert [float(title) for title in titles] == [row[column] for row in rows for column in columns]

    assert curves == {row["condition"]: [ms for _, ms in row["response_curve"]] for row in rows}
    for row in rows:
        of_class = [slot.pages_per_s for slot in full.slots if slot.user_class == row["user_class"]]
        assert [value for value in slots[row["condition"]] if value is not None] == of_class
    assert parts == {part: [row[part] for row in rows] for part in SHOWN_PARTS}
    assert ratios == {verdict.condition: [verdict.ratio] for verdict in on_pages.values()}


def test_each_class_has_a_forecast_for_each_distance_behind_what_was_measured(full_tab: Tab, full: Result) -> None:
    groups = table(full_tab, ".dbkit-distances")[0]
    assert full_tab.page.locator(".dbkit-measured").count() == 0
    titles = full_tab.page.locator(".dbkit-distances tbody td").evaluate_all("cells => cells.map(cell => cell.title)")
    names = full_tab.page.locator(".dbkit-distances tbody th").all_inner_texts()
    away = [each.round_trip_ms for each in full.forecasts if each.label == full.strategies[0].label]
    assert [cell for cell in groups if cell] == ["measured", *(f"{number(ms)} ms away" for ms in away)]
    assert [name[1:] for name in names] == [row.label for row in full.strategies]
    expected = []
    for row in full.strategies:
        its = [each for each in full.forecasts if each.condition == row.condition]
        expected += [its[0].rests_on_pages_per_s, its[0].rests_on_response_ms]
        expected += [figure for each in its for figure in (each.pages_per_s, each.response_ms)]
    assert [float(title) for title in titles] == expected


def test_a_forecast_stands_above_what_was_measured_with_that_round_trip(full: Result) -> None:
    measured = {"measured_pages_per_s": 321.0, "measured_response_ms": 45.6}
    errors = {"pages_per_s_error": 0.123, "response_ms_error": -0.04}
    beside = [changed(each, **measured, **errors) for each in full.forecasts[:1]]
    _, _, body = report(changed(full, forecasts=[*beside, *full.forecasts[1:]])).partition('id="distance"')
    section = body.partition("</section>")[0]
    shown = re.findall(r"<td[^>]*>([^<]*)<span class=\"dbkit-measured\" title=\"measured: ([^\"]*)\">([^<]*)", section)
    [first] = beside
    assert shown == [
        (number(first.pages_per_s), "321", f"{number(321.0)}, +12 %"),
        (number(first.response_ms), "45.6", f"{number(45.6)}, -4 %"),
    ]
    assert "Below a forecast stands what was measured" in section


def test_laws_are_shown_with_how_far_each_load_is_off_and_those_without_a_fit_say_why(full: Result) -> None:
    names = [row.user_class for row in full.strategies[:2]]
    workload = full.strategies[0].workload
    found = [
        law_of(workload, names[0], names[0], ladder(KNEE)),
        law_of(workload, names[1], names[1], ladder(KNEE, rounds=2)),
    ]
    _, _, body = report(changed(full, laws=found)).partition('id="scaling"')
    text = " ".join(re.sub(r"<[^>]*>", " ", body.partition("</section>")[0]).split())
    assert all(law.sentence in text for law in found)
    for point in found[0].points:
        assert f"{100 * known(point.residual):+.1f}" in text
    assert 'id="scaling"' not in report(full)


@pytest.mark.parametrize(("limit", "charts"), [("p95_ms < 25.6", 2), ("p99_ms < 25.6", 3)])
def test_a_limit_has_its_answers_and_a_line_across_its_chart(
    chromium: Browser, tmp_path: Path, limit: str, charts: int
) -> None:
    search = search_of(limit, "Fast", "Slow", most_users=100)
    result = searched(search, run_search(search)[0])
    with browser_page(chromium) as tab:
        opened(tab, tmp_path, result)
        heading, *rows = table(tab, ".dbkit-limits")
        assert heading[:2] == ["user class", "users"]
        assert [row[:2] for row in rows] == [["Fast", "20"], ["Slow", "10"]]
        drawings = tab.page.locator("[data-chart=ladder]")
        assert drawings.count() == charts
        [chart] = [each for each in drawings.all() if each.get_attribute("data-quantity") == limit.split()[0]]
        lines = chart.evaluate("chart => chart.data.filter(each => each.uid.startsWith('limit')).map(each => each.y)")
        assert lines == [[25.6, 25.6]]
        assert "There is nothing to compare: a search runs" in (tab.page.locator("#verdicts").text_content() or "")
        assert tab.errors == []
    for sentence in result.headline:
        assert sentence.split(" pages/s")[0] in summary(result).replace("\\", "")


def hostile_statement(text: str) -> Statement:
    return Statement(sql=text, source=text, parameters=text, plan=text, note=text, times=1, execution_ms=None)


def test_names_and_texts_from_outside_are_shown_and_not_executed(chromium: Browser, tmp_path: Path) -> None:
    # two classes of each of two workloads, and one of each of the others
    user_classes = [UserClass(name, name, name, HOSTILE[place % 4]) for place, name in enumerate(HOSTILE)]
    for result in (rounds_of(user_classes), mixed_run(user_classes)):
        result.warnings.append(HOSTILE[0])
        result.workloads = [WorkloadInfo(name=name, pages=name, check=name, writing_classes=[name]) for name in HOSTILE]
        result.failures = [
            FailureRow(
                workload=row.workload,
                condition=row.condition,
                label=row.label,
                user_class=row.user_class,
                message=row.label,
                count=1,
                traceback=row.label,
            )
            for row in result.strategies
        ]
        result.plans = [
            Plan(
                workload=HOSTILE[0],
                strategy=name,
                which="typical",
                key=name,
                note=name,
                statements=[hostile_statement(name)],
            )
            for name in HOSTILE
        ]
        with browser_page(chromium) as tab:
            address = opened(tab, tmp_path, result)
            tab.page.locator("details").evaluate_all("all => all.forEach(details => details.open = true)")
            names = tab.page.locator(".dbkit-comparison tbody th").all_text_contents()
            headings = tab.page.locator("h1").all_text_contents()
            failures = tab.page.locator(".dbkit-failures td:last-child").all_text_contents()
            legend = tab.page.locator("[data-chart=latency] .legendtext").all_text_contents()
            elements = tab.page.locator("[onerror], [onload], a[href^=javascript], section b").count()
            assert tab.page.evaluate("typeof hacked") == "undefined"
            assert tab.errors == []
            assert tab.requests == [address]
        assert {name[1:] for name in names} == {*HOSTILE}
        assert headings == [*sorted(HOSTILE[:4]), "All workloads"]
        assert [" ".join(words.split()) for words in failures] == [
            f"{row.label}{row.label}" for row in result.strategies
        ]
        assert elements == 0
        for name in HOSTILE:
            assert any(shown.strip().startswith(name[:25]) for shown in legend), (name, legend)


def with_slots(full: Result, count: int) -> Result:
    """A result of so many slots."""
    per_round = full.slots[: len(CLASSES)]
    slots = [
        changed(per_round[place % len(CLASSES)], slot=place, round=place // len(CLASSES), began_s=place * 1.2345)
        for place in range(count)
    ]
    return changed(full, slots=slots)


def test_of_many_slots_some_are_drawn_and_it_says_so(chromium: Browser, tmp_path: Path, full: Result) -> None:
    with browser_page(chromium) as tab:
        opened(tab, tmp_path, with_slots(full, 6_000))
        assert tab.page.locator("[data-chart=slots]").first.locator(".scatterlayer .point").count() == MOST_SLOTS
        assert {trace["name"] for trace in drawn(tab, "slots")} >= {*CLASSES}
        assert "one in 4 is drawn" in tab.page.locator("#time").inner_text()
        assert "<prefix>_slots.csv" in (tab.page.locator("#figures").text_content() or "")
        assert tab.errors == []


@pytest.mark.parametrize("count", [MOST_SLOTS, MOST_SLOTS + 1, 20_000])
def test_the_report_of_any_number_of_slots_is_a_file_to_mail(full: Result, count: int) -> None:
    text = report(with_slots(full, count))
    assert len(text.encode()) < 6_000_000
    assert ("_slots.csv" in text) == (" is drawn." in text) == (count > MOST_SLOTS)
    last = f"<tr><td>{count - 1}<td>{(count - 1) // len(CLASSES)}<td>"
    assert (last in text) == (count <= MOST_SLOTS)


def test_a_mixed_run_says_so_at_every_figure_and_has_no_ratios(chromium: Browser, tmp_path: Path) -> None:
    result = mixed_run([*CLASSES.values()])
    with browser_page(chromium) as tab:
        opened(tab, tmp_path, result)
        for section in tab.page.locator("section:has(.dbkit-chart), section:has(table)").all():
            # before the first figure in the document
            assert section.evaluate(
                "section => section.querySelector('.dbkit-warnings, .dbkit-chart, table').matches('.dbkit-warnings')"
            )
        sections = tab.page.locator("section:has(.dbkit-chart), section:has(table)").count()
        assert sections == 6
        assert MIXED_WARNING in tab.page.locator("header").inner_text()
        shown, why = tab.page.locator(".dbkit-comparison").inner_text(), tab.page.locator(".dbkit-reasons").inner_text()
        assert "×" not in shown
        # nobody knows these of classes that ran at once
        assert "bound by" not in shown
        assert "CPU" not in why
        assert tab.page.inner_text("body").count("bound it come from rounds") == 1
        assert tab.page.locator("[data-chart=verdicts]").count() == 0
        over_time = drawn(tab, "timeline")
        assert {trace["of"] for trace in over_time} == {*CLASSES, "users"}
        assert tab.errors == []


def test_a_run_that_is_not_whole_is_marked_above_its_headline_and_failed_pages_stand_out(
    chromium: Browser, tmp_path: Path
) -> None:
    result = rounds_of([*CLASSES.values()][:3], rounds=1, planned_slots=10)
    mark, *others = result.warnings
    assert mark.startswith("cut short")
    result.strategies[0].failures = 7
    with browser_page(chromium) as tab:
        opened(tab, tmp_path, result)
        header = tab.page.locator("header").inner_text()
        assert header.index(mark) < header.index(result.headline[0]) < header.index(others[0])
        assert header.count(mark) == 1
        assert tab.page.locator(".dbkit-comparison .dbkit-bad").all_inner_texts() == ["7"]
        assert "too few rounds" in tab.page.locator(".dbkit-comparison").inner_text()
        assert tab.errors == []


@pytest.mark.parametrize("state", get_args(State))
def test_what_stands_above_the_headline_follows_from_the_state(state: State) -> None:
    result = rounds_of([*CLASSES.values()][:3])
    result.state = state
    result.warnings = ["the first of all", "and another"]
    _, _, body = report(result).partition("<body")
    mark, other = (body.index(warning) for warning in result.warnings)
    headline = body.index(result.headline[0])
    assert (mark < headline) == (state != "complete")
    assert headline < other


def without_figures(result: Result) -> Result:
    words = {"condition", "label", "user_class", "stack", "strategy", "end", "round", "began_s", "seconds"}
    for row in (*result.strategies, *result.slots):
        for name in {*row.__struct_fields__} - words:
            setattr(row, name, {"response_curve": [], "settings": {}}.get(name))
    return result


@pytest.mark.parametrize(
    "result",
    [
        plain_result(headline=["No page was served."]),
        rounds_of([*CLASSES.values()][:1]),
        without_figures(rounds_of([*CLASSES.values()][:3])),
    ],
    ids=["nothing", "one class", "rounds without figures"],
)
def test_what_is_not_there_is_left_out(chromium: Browser, tmp_path: Path, result: Result) -> None:
    result.plans = []
    with browser_page(chromium) as tab:
        opened(tab, tmp_path, result)
        assert "No plans were taken" in tab.page.locator("#sql").inner_text()
        text = tab.page.inner_text("body")
        assert tab.errors == []
    assert not re.search(r"\b(None|undefined|NaN|null)\b", text + summary(result))


def test_without_javascript_the_figures_are_there(chromium: Browser, tmp_path: Path, full: Result) -> None:
    with browser_page(chromium, javascript=False) as tab:
        address = opened(tab, tmp_path, full)
        assert tab.page.locator(".dbkit-comparison tbody tr").count() == len(CLASSES)
        assert "JavaScript" in tab.page.locator("noscript").inner_text()
        assert tab.requests == [address]


def test_drawn_again_a_chart_keeps_what_was_hidden_and_zoomed(full_tab: Tab) -> None:
    tab = full_tab
    chart = tab.page.locator("[data-chart=latency]")
    lines = chart.locator(".scatterlayer .trace")
    axis = "chart => chart.layout.xaxis.range"
    whole = chart.evaluate(axis)
    chart.locator(".legendtoggle").first.click()
    expect(lines).to_have_count(len(CLASSES) - 1)
    box = chart.locator(".nsewdrag").first.bounding_box()
    assert box
    tab.page.mouse.move(box["x"] + box["width"] * 0.4, box["y"] + box["height"] * 0.4)
    tab.page.mouse.down()
    tab.page.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + box["height"] * 0.7, steps=5)
    tab.page.mouse.up()
    tab.page.wait_for_function(
        "begin => document.querySelector('[data-chart=latency]').layout.xaxis.range[0] > begin", arg=whole[0]
    )
    zoomed = chart.evaluate(axis)
    assert zoomed[1] - zoomed[0] < 0.3 * (whole[1] - whole[0])
    chart.evaluate("chart => drawOne(chart)")
    expect(lines).to_have_count(len(CLASSES) - 1)
    assert chart.evaluate(axis) == zoomed


def test_classes_that_are_gone_are_gone_from_a_chart_that_is_drawn_again(chromium: Browser, tmp_path: Path) -> None:
    names = ["Plain", *HOSTILE, "users"]
    result = rounds_of([UserClass(name, "psycopg", name, "albums") for name in names])
    with browser_page(chromium) as tab:
        opened(tab, tmp_path, result)
        for kind in ("latency", "counts", "slots", "verdicts", "fastest", "parts"):
            chart = tab.page.locator(f"[data-chart={kind}]").first
            first = chart.evaluate(
                """chart => {
                    const part = { ...parts[0] };
                    part.looks = Object.fromEntries(Object.entries(part.looks).slice(0, 1));
                    for (const name of ["strategies", "slots", "verdicts", "against_fastest"]) {
                        part[name] = part[name].filter(({ condition }) => condition in part.looks);
                    }
                    drawings[chart.dataset.chart](chart, part);
                    return Object.keys(part.looks)[0];
                }"""
            )
            left = {trace["of"] for trace in drawn(tab, kind)} - {"steal_share", "other_cpu_share", *SHOWN_PARTS}
            assert left <= {first}
        assert tab.errors == []


def test_on_paper_everything_is_open_in_ink_and_no_wider_than_the_sheet(full_tab: Tab) -> None:
    page = full_tab.page
    page.emulate_media(color_scheme="dark")
    page.evaluate(
        """addEventListener("beforeprint", () => {
            const widths = [...document.querySelectorAll(".dbkit-chart svg")].map((svg) => svg.clientWidth);
            window.printed = {
                closed: document.querySelectorAll("details:not([open]):not(.dbkit-screen)").length,
                paper: getComputedStyle(document.body).backgroundColor,
                ink: document.querySelector("[data-chart=latency] .xtick text").style.fill,
                widest: Math.max(...widths),
            };
        })"""
    )
    pdf = page.pdf(prefer_css_page_size=True, print_background=True)
    printed = page.evaluate("window.printed")
    opened_after = page.locator("details[open]").count()
    page.emulate_media(media="print", color_scheme="light")
    sections = page.locator("section h2:visible").count()
    page.emulate_media(media="screen")
    assert printed["closed"] == 0
    assert luminance(printed["paper"]) == pytest.approx(1)
    assert luminance(printed["ink"]) < 0.1
    assert printed["widest"] <= 182 / 25.4 * 96 + 1
    assert opened_after == 1
    assert sections == 11
    assert pdf.startswith(b"%PDF")
    assert len(re.findall(rb"/Type\s*/Page\b", pdf)) > 5
    assert full_tab.errors == []


def test_no_rule_of_the_style_reaches_beyond_dbkit(full_tab: Tab) -> None:
    tab = full_tab
    selectors = tab.page.evaluate(
        """[...document.styleSheets[0].cssRules].flatMap((rule) => rule.cssRules?.length ? [...rule.cssRules] : rule)
            .filter((rule) => rule instanceof CSSStyleRule).flatMap((rule) => rule.selectorText.split(", "))"""
    )
    assert len(selectors) > 50
    assert [selector for selector in selectors if not selector.startswith(".dbkit")] == []


# Several workloads


WORKLOADS = {
    workload: [
        UserClass(f"{stack.title()}{workload.title()}{strategy.title()}", stack, strategy, workload)
        for stack in ("psycopg", "asyncpg")
        for strategy in ("selectin", "joined", "lazy")
    ]
    for workload in ("albums", "orders")
}


@pytest.fixture(scope="module")
def two_workloads() -> Result:
    result = rounds_of([user_class for classes in WORKLOADS.values() for user_class in classes], rounds=4)
    result.workloads = [
        WorkloadInfo(name="albums", pages="300 keys, random order", check="pages are not checked", writing_classes=[]),
        WorkloadInfo(name="orders", pages="9 keys, random order", check="each page is checked", writing_classes=[]),
    ]
    result.plans = [
        changed(plan, workload=workload, key=f"key of {workload}")
        for workload in WORKLOADS
        for plan in result.plans[:2]
    ]
    return result


def test_each_workload_has_sections_charts_and_tables_of_its_own(
    chromium: Browser, tmp_path: Path, two_workloads: Result
) -> None:
    with browser_page(chromium) as tab:
        opened(tab, tmp_path, two_workloads)
        page = tab.page
        sections = page.locator("section").evaluate_all("sections => sections.map(section => section.id)")
        answers = ("comparison", "verdicts", "latency", "reasons", "counts", "distance", "time")
        assert sections == [
            *(f"{name}-{place}" for place in (1, 2) for name in answers),
            *("sql", "figures", "setting", "terms"),
        ]
        assert page.locator("h1").all_inner_texts() == ["albums", "orders", "All workloads"]
        links = page.locator(".dbkit-contents a")
        assert links.count() == 3 + len(sections)
        assert all(links.all_inner_texts())
        for place, (workload, classes) in enumerate(WORKLOADS.items(), 1):
            names = {each.name for each in classes}
            reference = two_workloads.references[workload][0].label
            rows = table(tab, f"#comparison-{place} table")
            assert {cells[0][1:] for cells in rows[1:]} == names
            assert rows[0][2] == f"× {reference}"
            assert {cells[0][1:] for cells in table(tab, f"#reasons-{place} table")[2:]} == names
            chart = f"section[id$='-{place}'] [data-chart={{}}]"
            for kind in ("latency", "slots", "verdicts", "fastest", "counts", "parts"):
                conditions = page.locator(chart.format(kind)).first.evaluate(
                    "chart => [...new Set(chart.data.map(({ uid, meta }) => meta ?? uid))]"
                )
                others = {"steal_share", "other_cpu_share", *SHOWN_PARTS}
                expected = names - {reference} if kind == "verdicts" else names
                if kind == "fastest":
                    expected = names - {two_workloads.strategies[(place - 1) * len(names)].label}
                found = {condition.partition(",")[0] for condition in conditions} - others
                assert found == (set() if kind == "parts" else expected), kind
            labels = page.locator(chart.format("parts")).evaluate("chart => chart.layout.yaxis.ticktext.length")
            assert labels == len(names)
            assert f"key of {workload}" in (page.locator("#sql").text_content() or "")
        header = page.locator("header").inner_text()
        assert "albums, orders" in header
        leading = page.locator(".dbkit-leading").all_inner_texts()
        assert [sentence.partition(":")[0] for sentence in leading] == ["albums", "orders"]
        assert "Classes are compared within a workload only" in page.locator("#terms").inner_text()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert tab.errors == []


def test_the_same_strategy_looks_the_same_in_each_workload(two_workloads: Result) -> None:
    found = looks(two_workloads.strategies)
    for one, other in zip(*WORKLOADS.values(), strict=True):
        of_one, of_other = found[f"{one.name}, 10 users"], found[f"{other.name}, 10 users"]
        names = {"label": "", "line": ""}
        assert of_one | names == of_other | names


def test_a_report_speaks_of_the_pages_that_were_read_and_of_no_others(two_workloads: Result) -> None:
    for result in (two_workloads, rounds_of(WORKLOADS["albums"])):
        result = changed(result, workloads=two_workloads.workloads[:1], plans=[])
        _, _, body = report(result).partition("<body")
        text = re.sub(r"<script.*?</script>|<[^>]*>", " ", body, flags=re.DOTALL) + summary(result)
        assert re.findall(r"(?i)\b(?:todos?|comments?)\b", text) == []
        assert text.count("300 keys, random order") >= 2


def test_the_summary_has_a_table_for_each_workload(two_workloads: Result) -> None:
    text = summary(two_workloads)
    tables = rendered_tables(text)
    assert [row[0] for found in tables for row in found[1:]] == [row.label for row in two_workloads.strategies]
    for found, (workload, classes) in zip(tables, WORKLOADS.items(), strict=True):
        assert len(found) == 1 + len(classes)
        assert found[0][2] == f"× {two_workloads.references[workload][0].label}"
        assert text.count(f"### {workload}\n") == 1
    assert text.count("\n**orders: ") == 1
    assert "300 keys, random order; pages are not checked" in text
    assert "workload" not in summary(rounds_of(WORKLOADS["albums"]))


# Failures


def failure(label: str, message: str, count: int, traceback: str | None) -> FailureRow:
    return FailureRow(
        workload="todo list",
        condition=f"{label}, 10 users",
        label=label,
        user_class=label,
        message=message,
        count=count,
        traceback=traceback,
    )


def test_failures_have_a_row_a_message_that_opens_to_the_traceback(
    chromium: Browser, tmp_path: Path, full: Result
) -> None:
    traceback = '  File "shop/pages.py", line 12, in page\n    raise NoSuchAlbum(number)\nNoSuchAlbum: 20'
    result = changed(
        full,
        failures=[
            failure("PsycopgLazy", "NoSuchAlbum: …", 37, traceback),
            failure("PsycopgLazy", "wrong page: not as it was read before", 2, None),
            failure("Unknown", "NoSuchAlbum: …", 1, None),
        ],
    )
    with browser_page(chromium) as tab:
        opened(tab, tmp_path, result)
        section = tab.page.locator("#failures")
        assert table(tab, "#failures table")[1:] == [
            ["●PsycopgLazy", "37", f"NoSuchAlbum: …{traceback}"],
            ["●PsycopgLazy", "2", "wrong page: not as it was read before"],
            ["Unknown", "1", "NoSuchAlbum: …"],
        ]
        assert section.locator("pre").is_hidden()
        section.locator("summary").click()
        section.locator("pre").wait_for(state="visible")
        assert section.locator("pre").text_content() == traceback
        assert tab.page.locator(".dbkit-contents a", has_text="Failures").count() == 1
        assert tab.errors == []
    assert 'id="failures"' not in report(full)


# Looks


MISSING_CONES = {
    "none": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "red": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "green": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
    "blue": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.303900)),
}
"""How linear RGB looks to those who lack one kind of cone: Machado, Oliveira and Fernandes (2009), severity 1."""


def channel(value: int) -> float:
    share = value / 255
    return share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4


def linear(color: str) -> list[float]:
    """Red, green and blue, 0 to 1, of `#rrggbb` or `rgb(r, g, b)`."""
    if color.startswith("#"):
        return [channel(int(color[place : place + 2], 16)) for place in (1, 3, 5)]
    return [channel(int(found)) for found in re.findall(r"\d+", color)[:3]]


def luminance(color: str) -> float:
    """Relative luminance as in WCAG 2.2."""
    red, green, blue = linear(color)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def dot(one: Sequence[float], other: Sequence[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


def lab(color: str, missing: str = "none") -> list[float]:
    """CIELAB of a colour under daylight (D65)."""

    def root(value: float) -> float:
        return math.cbrt(value) if value > (6 / 29) ** 3 else value / (3 * (6 / 29) ** 2) + 4 / 29

    seen = [min(max(dot(row, linear(color)), 0), 1) for row in MISSING_CONES[missing]]
    to_xyz = ((0.4124, 0.3576, 0.1805), (0.2126, 0.7152, 0.0722), (0.0193, 0.1192, 0.9505))
    white = (0.9505, 1, 1.089)
    x, y, z = (root(dot(row, seen) / full) for row, full in zip(to_xyz, white, strict=True))
    return [116 * y - 16, 500 * (x - y), 200 * (y - z)]


def contrast(one: float, other: float) -> float:
    return (max(one, other) + 0.05) / (min(one, other) + 0.05)


def row_of(strategy: str, stack: str = "psycopg") -> ClassRow:
    return class_row(f"{stack} {strategy}", stack=stack, strategy=strategy)


@given(st.lists(st.text(max_size=5), max_size=40), st.permutations(STRATEGIES))
def test_the_strategies_look_the_same_in_any_company(others: list[str], known: list[str]) -> None:
    alone = looks([row_of(strategy) for strategy in STRATEGIES])
    together = looks([row_of(strategy) for strategy in [*others, *known]])
    assert {name: together[name] for name in alone} == alone
    assert len({(look["color"], look["symbol"]) for look in together.values()}) == len(together)


@given(st.permutations(ALL_STACKS))
def test_each_stack_has_a_dash_of_its_own_in_any_company(stacks: list[str]) -> None:
    together = looks([row_of("joined", stack) for stack in stacks])
    assert len({look["dash"] for look in together.values()}) == len(ALL_STACKS)
    for stack in ALL_STACKS:
        assert looks([row_of("joined", stack)])[f"{stack} joined"] == together[f"{stack} joined"]


def test_two_classes_of_the_same_strategy_and_stack_have_different_lines() -> None:
    rows = [class_row(name, strategy=strategy, stack=stack) for strategy in STRATEGIES for stack in ALL_STACKS
            for name in (f"{stack} {strategy}", f"{stack} {strategy} twin")]  # fmt: skip
    found = looks(rows)
    assert found == looks(rows[::-1])
    assert len({(look["symbol"], look["dash"]) for look in found.values()}) == len(rows)


own_names = st.lists(st.text(min_size=1, max_size=20) | st.sampled_from(HOSTILE), min_size=1, max_size=12, unique=True)


@given(own_names, st.lists(st.sampled_from(STRATEGIES), unique=True), st.randoms())
def test_a_dozen_strategies_of_peoples_own_are_distinct_and_look_the_same_in_any_order(
    own: list[str], known: list[str], random: Any
) -> None:
    names = [*dict.fromkeys([*own, *known])]
    rows = [row_of(name, stack) for name in names for stack in ALL_STACKS]
    found = looks(rows)
    for kind in ("symbol", "glyph"):
        assert len({(look[kind], look["dash"]) for look in found.values()}) == len(rows)
        assert len({look[kind] for look in found.values()}) == len(names)
    if len(names) <= 8:
        assert len({look["color"] for look in found.values()}) == len(names)
    random.shuffle(rows)
    assert looks(rows) == found


def test_while_classes_come_in_each_keeps_the_look_that_it_has_at_the_end() -> None:
    user_classes = [UserClass(name, "psycopg", name, "albums") for name in ("Zebra", "Middle", "Albums", "joined")]
    rows = [class_row(each.name, stack=each.stack, strategy=each.strategy) for each in user_classes]
    at_the_end = looks(rows)
    for count in range(1, len(rows)):
        assert looks(rows[:count], user_classes) == {row.condition: at_the_end[row.condition] for row in rows[:count]}


def test_a_strategy_that_is_called_as_its_class_has_no_title_in_the_legend(chromium: Browser, tmp_path: Path) -> None:
    user_classes = [
        UserClass("AlbumsPage", "psycopg", "AlbumsPage", "albums"),
        *(UserClass(f"{stack.title()}Joined", stack, "joined", "albums") for stack in ("psycopg", "asyncpg")),
    ]
    with browser_page(chromium) as tab:
        opened(tab, tmp_path, rounds_of(user_classes))
        chart = tab.page.locator("[data-chart=latency]")
        words = [text for text in chart.locator(".legend text").all_text_contents() if text]
        assert sorted(words) == ["AlbumsPage", "AsyncpgJoined", "PsycopgJoined", "joined"]
        assert tab.errors == []


def test_classes_are_told_apart_without_colour_and_colours_seen_on_light_and_dark() -> None:
    found = looks([row_of(strategy, stack) for strategy in [*STRATEGIES, "a", "b", "c"] for stack in ALL_STACKS])
    assert len({(look["symbol"], look["dash"]) for look in found.values()}) == len(found)
    assert len({look["glyph"] for look in found.values()}) == len({look["symbol"] for look in found.values()}) == 8
    for look in found.values():
        assert contrast(luminance(look["color"]), luminance("#ffffff")) >= 3
        assert contrast(luminance(look["color"]), luminance("#1e1e1e")) >= 3


@pytest.mark.parametrize("missing", MISSING_CONES)
def test_colours_are_told_apart_by_those_who_lack_a_kind_of_cone_and_mean_one_thing(
    full_tab: Tab, missing: str
) -> None:
    strategies = {look["color"] for look in looks([row_of(strategy) for strategy in STRATEGIES]).values()}
    others = {look["color"] for look in looks([row_of(name) for name in (*STRATEGIES, "a", "b", "c")]).values()}
    bars = full_tab.page.evaluate(
        """["parts", "slots"].flatMap((kind) => document.querySelector(`[data-chart=${kind}]`).data
            .filter(({ type }) => type === "bar")
            .map(({ uid, marker }) => [uid, marker.color, marker.pattern.shape]))"""
    )
    parts = {uid: color for uid, color, _ in bars if uid in SHOWN_PARTS}
    assert len({shape for uid, _, shape in bars if uid in SHOWN_PARTS}) == len(parts) == len(SHOWN_PARTS)
    machine = [color for uid, color, _ in bars if uid.endswith("_share")]
    assert len({shape for uid, _, shape in bars if uid.endswith("_share")}) == len(machine) == 2
    for one, other in (*combinations(strategies, 2), *product(others, [*parts.values(), *machine])):
        assert math.dist(lab(one, missing), lab(other, missing)) > 16, (one, other)
    for one, other in pairwise(parts.values()):  # light and dark in turn
        assert abs(lab(one)[0] - lab(other)[0]) > 20, (one, other)


# The summary


def rendered_tables(markdown: str) -> list[list[list[str]]]:
    """The tables as GitHub's flavour has them: of each row the cells' plain text."""
    tables: list[list[list[str]]] = []
    for token in MarkdownIt("commonmark").enable("table").parse(markdown):
        if token.type == "table_open":
            tables.append([])
        elif token.type == "tr_open":
            tables[-1].append([])
        elif token.type == "inline" and token.level == 4 and tables:
            assert {child.type for child in token.children or []} <= {"text", "text_special"}
            tables[-1][-1].append("".join(child.content for child in token.children or []))
    return tables


def test_the_summary_is_short_and_says_it_all(full: Result) -> None:
    text = summary(full)
    assert len(text.splitlines()) < 60
    assert len(text.encode()) < 5000
    [[heading, *rows]] = rendered_tables(text)
    assert heading == [
        *(
            "user class",
            "pages/s",
            f"× {REFERENCE}",
            "p50 ms",
            "p95 ms",
            "p99 ms",
            "statements",
            "client CPU ms",
            "bound by",
        )
    ]
    on_pages = {v.label: v for v in full.verdicts if v.quantity == "pages_per_s"}
    assert rows == [
        [
            row.label,
            number(row.pages_per_s),
            "reference" if row.label == REFERENCE else ratio(on_pages[row.label]),
            *(number(getattr(row, name)) for name in ("p50_ms", "p95_ms", "p99_ms", "statements", "client_cpu_ms")),
            limit(row),
        ]
        for row in full.strategies
    ]
    plain = text.replace("\\", "")
    for words in (*full.headline, *full.warnings, "PostgreSQL 18.4", "Python 3.11.7", "3 of 1 s a turn"):
        assert words in plain


def test_the_summary_of_a_mixed_run_warns_and_has_no_ratios() -> None:
    text = summary(mixed_run([*CLASSES.values()]))
    assert MIXED_WARNING in text.replace("\\", "")
    [[heading, *rows]] = rendered_tables(text)
    assert heading == ["user class", "pages/s", "p50 ms", "p95 ms", "p99 ms", "statements"]
    assert all(all(row) for row in rows)
    assert text.count("bound it come from rounds") == 1


def test_the_facts_name_as_many_users_as_the_headline() -> None:
    result = rounds_of([*CLASSES.values()][:2])
    for users, shown in ((4, 4), (None, 10)):  # measured with so many; asked for were 10
        for row in result.strategies:
            row.users = users
        assert f"users: {shown} ·" in summary(result)


names = st.text(min_size=1, max_size=60) | st.sampled_from(HOSTILE) | st.text("|\\`*_<>&#-+=.1) \n~[]!@", min_size=1)


@given(
    st.lists(names.filter(str.strip), min_size=2, max_size=4, unique_by=lambda name: " ".join(name.split())),
    st.lists(names.filter(str.strip), min_size=1, max_size=2, unique_by=lambda name: " ".join(name.split())),
)
def test_the_summarys_tables_survive_any_names(found: list[str], workloads: list[str]) -> None:
    user_classes = [
        UserClass(name, "psycopg", "joined", workloads[place % len(workloads)]) for place, name in enumerate(found)
    ]
    result = rounds_of(user_classes, rounds=1)
    result.workloads = [WorkloadInfo(name=name, pages=name, check=name, writing_classes=[]) for name in workloads]
    tables = rendered_tables(summary(result))
    assert len(tables) == len({row.workload for row in result.strategies})
    for heading, *rows in tables:
        assert {len(row) for row in rows} == {len(heading)}
    shown = [" ".join(row.label.split()) for row in result.strategies]
    assert [row[0] for _, *rows in tables for row in rows] == [printable(name) for name in shown]


# The command


def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of `python -m dbkit report`."""
    monkeypatch.setattr(sys, "argv", ["dbkit", "report", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    shown = capsys.readouterr()
    assert isinstance(ended.value.code, int)
    return ended.value.code, shown.out, shown.err


@pytest.fixture
def comparison(tmp_path: Path, full: Result) -> Path:
    path = tmp_path / "run_comparison.json"
    path.write_text(FILES["comparison.json"](full))
    return path


def test_the_command_writes_the_report_beside_the_file_and_says_where(comparison: Path, full: Result) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dbkit", "report", str(comparison)], capture_output=True, text=True, check=True
    )
    written = comparison.with_name("run_report.html")
    assert done.stdout == f"{written}\n"
    assert written.read_text() == report(full)


def test_the_report_is_made_from_the_json_alone_and_is_the_same_again(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, comparison: Path
) -> None:
    for name in ("one.html", "other.html"):
        output = comparison.with_name("new folder") / name
        assert run(capsys, monkeypatch, str(comparison), "--output", str(output)) == (0, f"{output}\n", "")
    one, other = sorted(comparison.with_name("new folder").iterdir())
    assert one.read_bytes() == other.read_bytes()


def test_the_summary_goes_to_a_file_or_alone_to_standard_output(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, comparison: Path, full: Result
) -> None:
    expected = summary(full)
    made = str(comparison.with_name("run_report.html"))
    assert run(capsys, monkeypatch, str(comparison), "--summary", "-") == (0, expected, f"{made}\n")
    path = comparison.with_name("summary.md")
    assert run(capsys, monkeypatch, str(comparison), "--summary", str(path)) == (0, f"{made}\n{path}\n", "")
    assert path.read_text(encoding="utf-8") == expected


def edited(content: dict[str, Any], **changes: Any) -> bytes:
    return json.dumps(content | changes).encode()


BAD: dict[str, tuple[Callable[[dict[str, Any]], bytes], str]] = {
    "not JSON": (lambda content: b"user_class,stack\n", "not JSON: JSON is malformed: invalid character (byte 0)"),
    "not text": (lambda content: b"\xff\xfe\x00", "not JSON"),
    "too deep": (lambda content: b"[" * 100_000, "not JSON: nested too deep"),
    "half a character": (
        lambda content: edited(content, headline=["\ud800"]),
        "escaped utf-16 surrogate",
    ),
    "no number": (lambda content: edited(content, references=float("nan")), "not JSON: JSON is malformed"),
    "no end of a number": (lambda content: edited(content, references=float("-inf")), "not JSON: JSON is malformed"),
    "too many digits": (lambda content: b'{"dbkit_comparison": ' + b"1" * 5000 + b"}", "Integer value out of range"),
    "a list": (lambda content: b"[]", "not a comparison"),
    "other JSON": (lambda content: b'{"stats": []}', "not a comparison"),
    "of another version": (lambda content: edited(content, dbkit_comparison=FORMAT - 1), f"format {FORMAT - 1}"),
    "of no version": (lambda content: edited(content, dbkit_comparison="a\nb"), "dbkit_comparison: Expected `int`"),
    "a part is missing": (
        lambda content: edited({"dbkit_comparison": FORMAT}),
        "Object missing required field `state`",
    ),
    "a row lacks keys": (
        lambda content: edited(content, strategies=[{"condition": "A", "label": "A", "user_class": "A"}]),
        "strategies[0]: Object missing required field `workload`",
    ),
    "a row is none": (lambda content: edited(content, slots=[1]), "slots[0]: Expected `object`, got `int`"),
    "a list is none": (lambda content: edited(content, verdicts={}), "verdicts: Expected `array`, got `object`"),
    "a figure is too large": (
        lambda content: edited(content, slots=[content["slots"][0] | {"p95_ms": 1e15 + 1}]),
        "slots[0].p95_ms: Expected `float` <= 1000000000000000.0",
    ),
    "a figure has no end": (
        lambda content: edited(content, slots=[content["slots"][0] | {"p95_ms": -3}]).replace(b"-3,", b"1e999,"),
        "Number out of range",
    ),
    "an interval has one end": (
        lambda content: edited(content, verdicts=[content["verdicts"][0] | {"low": 0.5, "high": None}]),
        "verdicts[0]: an interval has two ends",
    ),
    "an interval has no ratio": (
        lambda content: edited(content, verdicts=[content["verdicts"][0] | {"ratio": None, "low": 0.5, "high": 2.0}]),
        "verdicts[0]: an interval has two ends and a ratio",
    ),
    "a reference is a number": (
        lambda content: edited(content, references={"albums": 5}),
        "references[...]: Expected `array`, got `int`",
    ),
    "long and on several lines": (
        lambda content: edited(content, state="b\n" * 9999),
        "state: I",
    ),
    "measured at no time": (
        lambda content: edited(content, measured_on={"measured_at": "today"}),
        "measured_on.measured_at: Invalid isoformat string: 'today'",
    ),
    "a setting is a list": (lambda content: edited(content, measured_on={"cores": [2]}), "measured_on[...]: Expected"),
    "a timeline lacks keys": (
        lambda content: edited(content, timeline={}),
        "timeline: Object missing required field `window_s`",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_file_that_is_no_comparison_is_refused_in_a_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, full: Result, case: str
) -> None:
    make, words = BAD[case]
    path = tmp_path / "run_comparison.json"
    path.write_bytes(make(full.as_json()))
    code, out, err = run(capsys, monkeypatch, str(path))
    assert (code, out) == (2, "")
    assert words in err
    assert err.count("\n") == 1
    assert len(err) < 500
    assert [*tmp_path.iterdir()] == [path]


def places(value: Any, at: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The keys that lead to each value in JSON; of a list to the first."""
    inside = value.items() if isinstance(value, dict) else [(0, value[0])] if isinstance(value, list) and value else []
    for key, one in inside:
        yield (*at, key)
        yield from places(one, (*at, key))


DEEP: list[Any] = []
for _ in range(300):
    DEEP = [DEEP]
GONE = object()
TWO_WORKLOADS = [user_class for classes in WORKLOADS.values() for user_class in classes[:2]]


def as_file(result: Result) -> Any:
    """The content of a result's file, with something in each of its lists."""
    label = result.strategies[0].label
    result.failures = [failure(label, "NoSuchAlbum: …", 3, "NoSuchAlbum: 20")]
    return json.loads(json.dumps(result.as_json()))


ROUNDS, MIXED_RUN = as_file(rounds_of(TWO_WORKLOADS, rounds=3)), as_file(mixed_run(TWO_WORKLOADS))
NUMBERS = (0, -1, 0.5, 10**400, -1e300, float("inf"))
VALUES: tuple[object, ...] = (GONE, None, True, *NUMBERS, "", "x", "a\nb" * 999, [], [1], {}, {"a": 1}, DEEP)


@hostile
@given(
    st.sampled_from([(content, place) for content in (ROUNDS, MIXED_RUN) for place in places(content)]),
    st.sampled_from(VALUES),
)
def test_a_file_with_anything_anywhere_is_refused_or_a_report_is_made(
    found: tuple[dict[str, Any], Sequence[str | int]], value: object
) -> None:
    content, place = copy.deepcopy(found[0]), found[1]
    around: Any = content
    for key in place[:-1]:
        around = around[key]
    if value is GONE:
        del around[place[-1]]
    else:
        around[place[-1]] = value
    with TemporaryDirectory() as folder:
        path = Path(folder) / "x_comparison.json"
        path.write_text(json.dumps(content))
        try:
            read = read_comparison(str(path))
        except DbkitError as refused:
            assert "\n" not in str(refused)
            return
    assert report(read).encode()
    assert summary(read).encode()


def test_files_that_cannot_be_read_or_written_are_refused_in_a_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, comparison: Path, tmp_path: Path
) -> None:
    here = str(comparison)
    for arguments, words in (
        (("missing.json",), "no such file"),
        ((str(tmp_path),), "cannot be read"),
        ((here, "--output", str(comparison / "x.html")), "choose another place with --output"),
        ((here, "--summary", str(comparison / "x.md")), "choose another place with --summary"),
    ):
        code, _, err = run(capsys, monkeypatch, *arguments)
        assert code == 2
        assert words in err
        assert err.count("\n") == 1


def test_no_two_files_are_the_same_however_they_are_spelled(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, comparison: Path
) -> None:
    monkeypatch.chdir(comparison.parent)
    link, folder = Path("link.html"), Path("folder")
    link.symlink_to(comparison.name)
    folder.symlink_to(".")
    before = comparison.read_bytes()
    for arguments, one, other in (
        (("--output", str(comparison)), "the file to read", "--output"),
        (("--output", f"./{comparison.name}"), "the file to read", "--output"),
        (("--output", str(link)), "the file to read", "--output"),
        (("--summary", f"folder/folder/{comparison.name}"), "the file to read", "--summary"),
        (("--output", "o.html", "--summary", "./o.html"), "--output", "--summary"),
        (("--summary", "folder/run_report.html"), "--output", "--summary"),
    ):
        code, out, err = run(capsys, monkeypatch, comparison.name, *arguments)
        assert (code, out) == (2, "")
        assert f"{one} and {other} are the same file" in err
        assert err.count("\n") == 1
    assert {*Path().iterdir()} == {Path(comparison.name), link, folder}
    assert comparison.read_bytes() == before


def test_beside_the_percentiles_of_a_stalled_slot_stand_those_of_arrivals(chromium: Browser, tmp_path: Path) -> None:
    result = rounds_of([*CLASSES.values()][:2])
    first, second, *_ = result.slots
    first.stalled, first.max_ms, first.p95_arrivals_ms, first.p99_arrivals_ms = True, 1012.5, 876.25, 1001.25
    second.stalled = True
    with browser_page(chromium) as tab:
        opened(tab, tmp_path, result)
        heading, *rows = table(tab, ".dbkit-stalls")
        assert heading[-4:] == ["p95 ms", "arriving", "p99 ms", "arriving"]
        assert [cells[0][1:] for cells in rows] == [first.user_class, second.user_class]
        assert (rows[0][2], rows[0][-3], rows[0][-1]) == ("1012", "876", "1001")
        assert rows[1][-3] == rows[1][-1] == "unknown"
        assert tab.errors == []
