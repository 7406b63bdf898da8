"""The report opens offline, shows the figures to the digit and runs nothing that is in them; so does the summary."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from playwright.sync_api import Browser, expect

from dbkit.__main__ import PROG, main
from dbkit.arguments import exit_on_mistake
from dbkit.cost import COUNTS, PARTS
from dbkit.files import contents
from dbkit.formats import number, ratio
from dbkit.looks import looks
from dbkit.report import report
from dbkit.result import FORMAT, MIXED_WARNING, Result, result_of_mixed_run, result_of_rounds
from dbkit.slot import ProcessSlot, Slot, UserClass
from dbkit.summary import summary
from dbkit.tally import Tally
from tests.browser import Tab, browser, browser_page

STACKS = ("psycopg", "psycopg-async", "asyncpg")
STRATEGIES = ("lazy", "selectin", "joined", "subquery", "core")
CLASSES = {
    name: UserClass(name, stack, strategy)
    for stack in STACKS
    for strategy in STRATEGIES
    for name in [f"{stack.title().replace('-', '')}{strategy.title()}"]
}
MEASURED_ON = {
    "measured_at": "2026-11-22T14:45:24+00:00",
    "python": "3.11.7",
    "packages": {"SQLAlchemy": "2.1.9"},
    "processor": "a <processor>",
    "cores": 2,
    "server": {"database": "postgresql://dbkit@/dbkit", "postgresql": "18.4", "settings": {"work_mem": "4MB"}},
    "options": {
        "num_users": 10,
        "page_size": 20,
        "page_order": "random",
        "rounds": 3,
        "slot_time": 1.0,
        "end": "commit",
    },
}
STATEMENT = {
    "sql": "SELECT title\nFROM todo WHERE id < %(id)s",
    "parameters": '{"id": 20}',
    "times": 21,
    "plan": "Seq Scan on todo  (actual time=0.01..0.02 rows=20.00 loops=1)\nExecution Time: 0.0423 ms",
    "execution_ms": 0.0423,
    "note": None,
}
PLANS = [
    {"strategy": strategy, "which": which, "page": page, "statements": [STATEMENT], "note": None}
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
    """Of pages that take from half to one and a half of that."""
    made = Tally()
    for place in range(pages):
        ms = response_ms * (0.5 + place / pages)
        shares = dict(zip(PARTS, (ms / 8, ms / 16, 0.0, ms / 2, ms * 5 / 16), strict=True))
        cost = {**dict.fromkeys(COUNTS, 2.0), "rows": 40.0, **shares, "hop_ms": ms / 20}
        made.add(cost, ms, failed=False)
    made.measured_pages = pages
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
                    user_class.name,
                    users=10,
                    began_s=len(slots) * 1.3,
                    server_cpu_s=0.1,
                    server_seconds=1.3,
                    server_machine="here",
                    processes=[ProcessSlot(1.0, 0.9, 0.05, 0.1, None, "here", 0.6, steal, 0.1)],
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
    )
    result.plans = PLANS
    return result


def mixed_run(user_classes: Sequence[UserClass]) -> Result:
    windows = 4
    return result_of_mixed_run(
        {user_class.name: tally(100 + place, 20) for place, user_class in enumerate(user_classes)},
        {user_class.name: user_class for user_class in user_classes},
        seconds=8,
        users=20,
        end="rollback",
        measured_on=MEASURED_ON,
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
        opened(tab, tmp_path_factory.mktemp("report"), full.as_json())
        yield tab


def opened(tab: Tab, folder: Path, content: dict[str, Any]) -> str:
    """Open the report of `content` as a file; its address."""
    path = folder / "run_report.html"
    path.write_text(report(json.loads(json.dumps(content))), encoding="utf-8")
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
        "chart => chart.data.map(({ uid, name, x, y }) => ({ uid, name, x, y }))"
    )
    return traces


# The whole report


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
    assert page.locator("[data-chart=parts] .barlayer .point").count() == len(CLASSES) * (len(PARTS) + 1)
    assert full_tab.errors == []
    assert full_tab.requests == [page.url]


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
    expected = "comparison verdicts latency reasons counts time sql figures setting terms"
    assert sections == expected.split()
    assert contents_list == headings
    assert opens == [True] + [False] * (len(STRATEGIES) - 1)
    for words in (
        STATEMENT["sql"],
        STATEMENT["plan"],
        "21 times",
        "0.042 ms",
        "Typical page",
        "Last page",
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
    written = contents(full)
    tab = full_tab
    csv_tables = [table(tab, f"#figures details:nth-of-type({place}) table") for place in (1, 2)]
    heading, *speeds = table(tab, ".dbkit-comparison")
    titles = tab.page.locator(".dbkit-reasons tbody td").evaluate_all("cells => cells.map(cell => cell.title)")
    curves = {trace["uid"]: trace["y"] for trace in drawn(tab, "latency")}
    slots = {trace["uid"]: trace["y"] for trace in drawn(tab, "slots")}
    parts = {trace["uid"]: trace["x"] for trace in drawn(tab, "parts")}
    ratios = {trace["uid"]: trace["x"] for trace in drawn(tab, "verdicts")}
    for name, cells in zip(("strategies.csv", "slots.csv"), csv_tables, strict=True):
        assert cells == [*csv.reader(written[name].splitlines())]

    rows = json.loads(written["comparison.json"])["strategies"]
    on_pages = {v["user_class"]: v for v in full.verdicts if v["quantity"] == "pages_per_s"}
    assert f"× {full.reference}" in heading
    for row, (user_class, pages, told_ratio, p50, p95, p99, failures, bound_by) in zip(rows, speeds, strict=True):
        assert user_class.endswith(row["user_class"])
        assert [pages, p50, p95, p99] == [number(row[name]) for name in ("pages_per_s", "p50_ms", "p95_ms", "p99_ms")]
        assert told_ratio == (ratio(on_pages.get(row["user_class"])) or "reference")
        assert (failures, bound_by) == (str(row["failures"]), row["bound_by"])
    columns = (*COUNTS, *PARTS, "hop_ms", "client_cpu_ms", "server_cpu_ms")
    assert [float(title) for title in titles] == [row[column] for row in rows for column in columns]

    assert curves == {row["user_class"]: [ms for _, ms in row["response_curve"]] for row in rows}
    for row in rows:
        of_class = [slot["pages_per_s"] for slot in full.slots if slot["user_class"] == row["user_class"]]
        assert [value for value in slots[row["user_class"]] if value is not None] == of_class
    assert parts == {part: [row[part] for row in rows] for part in (*PARTS, "hop_ms")}
    assert ratios == {name: [verdict["ratio"]] for name, verdict in on_pages.items()}


def test_names_and_texts_from_outside_are_shown_and_not_executed(chromium: Browser, tmp_path: Path) -> None:
    user_classes = [UserClass(name, name, name) for name in HOSTILE]
    for result in (rounds_of(user_classes), mixed_run(user_classes)):
        result.warnings.append(HOSTILE[0])
        result.plans = [
            {
                "strategy": name,
                "which": "typical",
                "page": 0,
                "note": name,
                "statements": [{**STATEMENT, "sql": name, "parameters": name, "plan": name, "note": name}],
            }
            for name in HOSTILE
        ]
        with browser_page(chromium) as tab:
            address = opened(tab, tmp_path, result.as_json())
            tab.page.locator("details").evaluate_all("all => all.forEach(details => details.open = true)")
            names = [cells[0] for cells in table(tab, ".dbkit-comparison")[1:]]
            legend = tab.page.locator("[data-chart=latency] .legendtext").all_text_contents()
            elements = tab.page.locator("[onerror], [onload], a[href^=javascript], section b").count()
            assert tab.page.evaluate("typeof hacked") == "undefined"
            assert tab.errors == []
            assert tab.requests == [address]
        assert {name[1:] for name in names} == {*HOSTILE}
        assert elements == 0
        for name in HOSTILE:
            assert any(shown.strip().startswith(name[:25]) for shown in legend), (name, legend)


def test_fifteen_hundred_slots_fit_and_are_drawn(chromium: Browser, tmp_path: Path, full: Result) -> None:
    content = full.as_json()
    per_round = full.slots[: len(CLASSES)]
    content["slots"] = [
        {
            **row,
            "slot": place + round_number * len(CLASSES),
            "round": round_number,
            "began_s": round_number * 20.123 + place,
        }
        for round_number in range(100)
        for place, row in enumerate(per_round)
    ]
    with browser_page(chromium) as tab:
        opened(tab, tmp_path, content)
        assert tab.page.locator("[data-chart=slots]").first.locator(".scatterlayer .point").count() == 1500
        assert tab.errors == []
    assert (tmp_path / "run_report.html").stat().st_size < 6_000_000


def test_a_mixed_run_says_so_at_every_figure_and_has_no_ratios(chromium: Browser, tmp_path: Path) -> None:
    result = mixed_run([*CLASSES.values()])
    with browser_page(chromium) as tab:
        opened(tab, tmp_path, result.as_json())
        for section in tab.page.locator("section:has(.dbkit-chart), section:has(table)").all():
            # before the first figure in the document
            assert section.evaluate(
                "section => section.querySelector('.dbkit-warnings, .dbkit-chart, table').matches('.dbkit-warnings')"
            )
        sections = tab.page.locator("section:has(.dbkit-chart), section:has(table)").count()
        assert sections == 6
        assert MIXED_WARNING in tab.page.locator("header").inner_text()
        assert "×" not in tab.page.locator(".dbkit-comparison").inner_text()
        assert tab.page.locator("[data-chart=verdicts]").count() == 0
        over_time = drawn(tab, "timeline")
        assert {trace["uid"] for trace in over_time} == {*CLASSES, "users"}
        assert tab.errors == []


def test_a_run_cut_short_is_marked_above_its_headline_and_failed_pages_stand_out(
    chromium: Browser, tmp_path: Path
) -> None:
    result = rounds_of([*CLASSES.values()][:3], rounds=1, planned_slots=10)
    result.strategies[0]["failures"] = 7
    [mark] = [warning for warning in result.warnings if warning.startswith("cut short")]
    with browser_page(chromium) as tab:
        opened(tab, tmp_path, result.as_json())
        header = tab.page.locator("header").inner_text()
        assert header.index(mark) < header.index(result.headline[0])
        assert header.count(mark) == 1
        assert tab.page.locator(".dbkit-comparison .dbkit-bad").all_inner_texts() == ["7"]
        assert "too few rounds" in tab.page.locator(".dbkit-comparison").inner_text()
        assert tab.errors == []


def without_figures(result: Result) -> Result:
    words = {"user_class", "stack", "strategy", "response_curve", "end"}
    for rows, keep in ((result.strategies, words), (result.slots, words | {"round", "began_s", "seconds"})):
        for row in rows:
            row.update({name: None for name in row if name not in keep})
            row["response_curve"] = []
    return result


@pytest.mark.parametrize(
    "result",
    [
        Result([], [], [], None, [], {}, headline=["No page was served."]),
        rounds_of([*CLASSES.values()][:1]),
        without_figures(rounds_of([*CLASSES.values()][:3])),
    ],
    ids=["nothing", "one class", "rounds without figures"],
)
def test_what_is_not_there_is_left_out(chromium: Browser, tmp_path: Path, result: Result) -> None:
    result.plans = []
    with browser_page(chromium) as tab:
        opened(tab, tmp_path, result.as_json())
        assert "No plans were taken" in tab.page.locator("#sql").inner_text()
        text = tab.page.inner_text("body")
        assert tab.errors == []
    assert not re.search(r"\b(None|undefined|NaN|null)\b", text + summary(result.as_json()))


def test_without_javascript_the_figures_are_there(chromium: Browser, tmp_path: Path, full: Result) -> None:
    with browser_page(chromium, javascript=False) as tab:
        address = opened(tab, tmp_path, full.as_json())
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
    chart.evaluate("chart => drawings.latency(chart)")
    expect(lines).to_have_count(len(CLASSES) - 1)
    assert chart.evaluate(axis) == zoomed


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
    assert sections == 10
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


# Looks


def channel(value: int) -> float:
    share = value / 255
    return share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4


def luminance(color: str) -> float:
    """Relative luminance as in WCAG 2.2, of `#rrggbb` or `rgb(r, g, b)`."""
    if color.startswith("#"):
        channels = [int(color[place : place + 2], 16) for place in (1, 3, 5)]
    else:
        channels = [int(found) for found in re.findall(r"\d+", color)[:3]]
    red, green, blue = map(channel, channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: float, other: float) -> float:
    return (max(one, other) + 0.05) / (min(one, other) + 0.05)


def row_of(strategy: str, stack: str = "psycopg") -> dict[str, Any]:
    return {"user_class": f"{stack} {strategy}", "stack": stack, "strategy": strategy}


@given(st.lists(st.text(max_size=5), max_size=40), st.permutations(STRATEGIES))
def test_the_strategies_look_the_same_in_any_company(others: list[str], known: list[str]) -> None:
    alone = looks([row_of(strategy) for strategy in STRATEGIES])
    together = looks([row_of(strategy) for strategy in [*others, *known]])
    assert {name: together[name] for name in alone} == alone
    assert len({(look["color"], look["symbol"]) for look in together.values()}) == len(together)


def test_classes_are_told_apart_without_colour_and_colours_seen_on_light_and_dark() -> None:
    found = looks([row_of(strategy, stack) for strategy in [*STRATEGIES, "a", "b", "c"] for stack in STACKS])
    assert len({(look["symbol"], look["dash"]) for look in found.values()}) == len(found)
    assert len({look["glyph"] for look in found.values()}) == len({look["symbol"] for look in found.values()}) == 8
    for look in found.values():
        assert contrast(luminance(look["color"]), luminance("#ffffff")) >= 2.9
        assert contrast(luminance(look["color"]), luminance("#1e1e1e")) >= 3


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
    text = summary(full.as_json())
    assert len(text.splitlines()) < 60
    assert len(text.encode()) < 5000
    [[heading, *rows]] = rendered_tables(text)
    assert heading == [
        *(
            "user class",
            "pages/s",
            f"× {full.reference}",
            "p50 ms",
            "p95 ms",
            "p99 ms",
            "statements",
            "CPU ms",
            "bound by",
        )
    ]
    on_pages = {v["user_class"]: v for v in full.verdicts if v["quantity"] == "pages_per_s"}
    assert rows == [
        [
            row["user_class"],
            number(row["pages_per_s"]),
            ratio(on_pages.get(row["user_class"])) or "reference",
            *(number(row[name]) for name in ("p50_ms", "p95_ms", "p99_ms", "statements", "client_cpu_ms")),
            row["bound_by"],
        ]
        for row in full.strategies
    ]
    plain = text.replace("\\", "")
    for words in (*full.headline, *full.warnings, "PostgreSQL 18.4", "Python 3.11.7", "3 of 1 s a class"):
        assert words in plain


def test_the_summary_of_a_mixed_run_warns_and_has_no_ratios() -> None:
    text = summary(mixed_run([*CLASSES.values()]).as_json())
    assert MIXED_WARNING in text.replace("\\", "")
    [[heading, *_]] = rendered_tables(text)
    assert not any("×" in cell for cell in heading)


names = st.text(min_size=1, max_size=60) | st.sampled_from(HOSTILE) | st.text("|\\`*_<>&#-+=.1) \n~[]!@", min_size=1)


@given(st.lists(names.filter(str.strip), min_size=2, max_size=4, unique_by=lambda name: " ".join(name.split())))
def test_the_summarys_table_survives_any_names(found: list[str]) -> None:
    user_classes = [UserClass(name, "psycopg", "joined") for name in found]
    result = rounds_of(user_classes, rounds=1)
    [[heading, *rows]] = rendered_tables(summary(result.as_json()))
    assert {len(row) for row in rows} == {len(heading)}
    shown = [" ".join(row["user_class"].split()) for row in result.strategies]
    assert [row[0] for row in rows] == [name.replace("\0", "\N{REPLACEMENT CHARACTER}") for name in shown]


# The command


def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of `python -m dbkit report`."""
    monkeypatch.setattr(sys, "argv", ["dbkit", "report", *arguments])
    with pytest.raises(SystemExit) as ended:
        exit_on_mistake(PROG, main)
    told = capsys.readouterr()
    assert isinstance(ended.value.code, int)
    return ended.value.code, told.out, told.err


@pytest.fixture
def comparison(tmp_path: Path, full: Result) -> Path:
    path = tmp_path / "run_comparison.json"
    path.write_text(contents(full)["comparison.json"])
    return path


def test_the_command_writes_the_report_beside_the_file_and_says_where(comparison: Path, full: Result) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dbkit", "report", str(comparison)], capture_output=True, text=True, check=True
    )
    written = comparison.with_name("run_report.html")
    assert done.stdout == f"{written}\n"
    assert written.read_text() == report(full.as_json())


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
    expected = summary(full.as_json())
    made = str(comparison.with_name("run_report.html"))
    assert run(capsys, monkeypatch, str(comparison), "--summary", "-") == (0, expected, f"{made}\n")
    path = comparison.with_name("summary.md")
    assert run(capsys, monkeypatch, str(comparison), "--summary", str(path)) == (0, f"{made}\n{path}\n", "")
    assert path.read_text(encoding="utf-8") == expected


def changed(content: dict[str, Any], **changes: Any) -> bytes:
    return json.dumps(content | changes).encode()


BAD: dict[str, tuple[Callable[[dict[str, Any]], bytes], str]] = {
    "not JSON": (lambda content: b"user_class,stack\n", "no JSON"),
    "not text": (lambda content: b"\xff\xfe\x00", "no JSON"),
    "too deep": (lambda content: b"[" * 100_000, "no JSON"),
    "a list": (lambda content: b"[]", "no comparison"),
    "other JSON": (lambda content: b'{"stats": []}', "no comparison"),
    "of another version": (lambda content: changed(content, dbkit_comparison=FORMAT + 1), f"format {FORMAT + 1}"),
    "a row lacks keys": (lambda content: changed(content, strategies=[{"user_class": "A"}]), "strategies[0] lacks"),
    "a row is none": (lambda content: changed(content, slots=[1]), "slots[0] is no object"),
    "a list is none": (lambda content: changed(content, verdicts={}), "verdicts is no list"),
    "a figure is none": (
        lambda content: changed(content, slots=[content["slots"][0] | {"p95_ms": "<b>"}]),
        "slots[0] has a p95_ms that is no number",
    ),
    "a class is unknown": (lambda content: changed(content, strategies=[], slots=[]), "has no row"),
    "a plan lacks keys": (
        lambda content: changed(content, plans=[content["plans"][0] | {"statements": [{"sql": ""}]}]),
        "plans[0]",
    ),
    "a timeline lacks keys": (lambda content: changed(content, timeline={}), "timeline"),
    "a part is missing": (lambda content: changed(content, measured_on=None), "measured_on"),
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
    assert [*tmp_path.iterdir()] == [path]


def test_files_that_cannot_be_read_or_written_are_refused_in_a_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, comparison: Path, tmp_path: Path
) -> None:
    here = str(comparison)
    for arguments, words in (
        (("missing.json",), "no such file"),
        ((str(tmp_path),), "cannot be read"),
        ((here, "--output", str(comparison / "x.html")), "choose another place with --output"),
        ((here, "--summary", str(comparison / "x.md")), "choose another place with --summary"),
        ((here, "--output", here), "holds the results themselves"),
    ):
        code, _, err = run(capsys, monkeypatch, *arguments)
        assert code == 2
        assert words in err
        assert err.count("\n") == 1
