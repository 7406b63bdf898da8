"""What is on the terminal: the result in aligned tables that fit it, and progress; plain text when piped."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from dbkit.analysis.columns import Group
from dbkit.analysis.formats import number, ratio
from dbkit.analysis.records import ClassRow, Verdict, table_columns
from dbkit.analysis.result import Reference, Result
from dbkit.output.console import GAP, WHY_COLUMNS, print_result
from tests.locust_runs import LOCUST, REPOSITORY
from tests.slots import WORKLOAD, class_row, plain_result, verdict_row
from tests.terminal import on_a_terminal

WIDTH = 100
STACKS = ("Psycopg", "PsycopgAsync", "Asyncpg")
CLASSES = [f"{stack}{strategy}" for stack in STACKS for strategy in ("Lazy", "Selectin", "Joined", "Subquery", "Core")]
SPEEDS = {"pages/s": "pages_per_s", "p50": "p50_ms", "p95": "p95_ms", "p99": "p99_ms"}
HEADLINE = [
    "PsycopgLazy serves the most pages: 1500 a second with 10 users, half of them within 1.23 ms [1.22, 1.25].",
    "It is bound by client CPU [a guess].",
]
CLOSED_LOOP = {
    heading: column
    for heading, column in WHY_COLUMNS.items()
    if column not in {each.name for each in table_columns(Group.ARRIVALS)}
}
"""The headings of the second table without those of arrivals."""
ESCAPE = "\x1b"
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
COLOURS = re.compile(r"\x1b\[(\d+;)*(3[0-8]|4[0-8]|9[0-7])(;\d+)*m")


def row(user_class: str, **figures: Any) -> ClassRow:
    known: dict[str, Any] = dict.fromkeys((*SPEEDS.values(), *CLOSED_LOOP.values()), 1.23)
    return class_row(user_class, **known | {"bound_by": "client CPU", "largest_part": "client"} | figures)


def verdict(label: str, reference: str, ratio: float, half_width: float, **more: Any) -> Verdict:
    figures: dict[str, Any] = {
        "ratio": ratio,
        "low": ratio / (1 + half_width),
        "high": ratio * (1 + half_width),
        "sentence": f"{label} serves {ratio:.2f}× the pages of {reference}",
    }
    return verdict_row(label, reference, **figures | more)


def result(strategies: list[ClassRow], verdicts: list[Verdict], *warnings: str) -> Result:
    references = (
        {WORKLOAD: [Reference(differs_in="class", label=verdicts[0].reference, named=False)]} if verdicts else {}
    )
    return plain_result(
        strategies=strategies, verdicts=verdicts, references=references, warnings=list(warnings), headline=HEADLINE
    )


FULL = result(
    [row(name, pages_per_s=1500.0 - 90 * number) for number, name in enumerate(CLASSES)],
    [verdict(name, CLASSES[-1], 3 - 0.2 * number, 0.05) for number, name in enumerate(CLASSES[:-1])],
    "3 things are doubtful",
)


def printed(result: Result, width: int = WIDTH) -> str:
    file = io.StringIO()
    print_result(result, Console(file=file, width=width, highlight=False))
    return file.getvalue()


def tables(text: str) -> list[list[str]]:
    """Each table's lines: its heading and a row a class."""
    lines = text.splitlines()
    starts = [number for number, line in enumerate(lines) if line.startswith("user class")]
    return [lines[start : lines.index("", start)] for start in starts]


def test_every_class_has_its_row_in_both_tables_in_the_order_of_the_result() -> None:
    for table in tables(printed(FULL)):
        assert [line.split()[0] for line in table[1:]] == CLASSES


def test_numbers_stand_below_their_headings_to_the_right() -> None:
    speeds, reasons = tables(printed(FULL))
    for table, columns in ((speeds, SPEEDS), (reasons, CLOSED_LOOP)):
        for heading, column in columns.items():
            found = re.search(rf"(?<!\S){re.escape(heading)}(?!\S)", table[0])
            assert found
            for line, figures in zip(table[1:], FULL.strategies, strict=True):
                shown = line[: found.end()].split()[-1]
                assert float(shown) == pytest.approx(getattr(figures, column), rel=0.005)
                assert line[found.end() : found.end() + 1] in (" ", "") and line[found.end() - 1] != " "


usual_ms = st.floats(0.001, 9999) | st.sampled_from([0.0, 0.0101, 0.123, 12.3])


@given(data=st.data(), width=st.sampled_from([WIDTH, 200]))
def test_from_100_columns_on_there_are_two_tables(data: st.DataObject, width: int) -> None:
    columns = [*SPEEDS.values(), *CLOSED_LOOP.values()]
    rows = [row(name, **{column: data.draw(usual_ms, label=column) for column in columns}) for name in CLASSES[5:8]]
    verdicts = [
        verdict(name, CLASSES[8], data.draw(st.floats(0.05, 20), label="ratio"), data.draw(st.floats(0.001, 0.5)))
        for name in CLASSES[5:8]
    ]
    speeds, reasons = tables(printed(result(rows, verdicts), width))
    assert all(len(line) <= width for line in speeds + reasons)


@pytest.mark.parametrize("width", [60, 80])
def test_in_less_the_tables_go_on_below_with_the_classes_again(width: int) -> None:
    def cells(width: int) -> list[list[str]]:
        """A line of each class: its cells in all tables."""
        lines = zip(*(table[1:] for table in tables(printed(FULL, width))), strict=True)
        return [[cell for line in of_class for cell in re.split(" {2,}", line.strip())[1:]] for of_class in lines]

    parts = tables(printed(FULL, width))
    assert len(parts) > 2
    assert all([line.split()[0] for line in part[1:]] == CLASSES for part in parts)
    assert cells(width) == cells(WIDTH)


figures = st.none() | st.floats(0, 1e9) | st.sampled_from([0.0, 0.0101, 0.123, 12.3])
# by their length first: left to itself hypothesis hardly ever makes long ones
class_names = st.integers(1, 60).flatmap(lambda length: st.text("AzÄ世_", min_size=length, max_size=length))


@given(data=st.data(), width=st.integers(60, 220))
def test_at_any_width_every_cell_is_whole_and_what_can_fit_does(data: st.DataObject, width: int) -> None:
    names = data.draw(st.lists(class_names, min_size=1, max_size=4, unique=True), label="classes")
    columns = [*SPEEDS.values(), *CLOSED_LOOP.values()]
    rows = [row(name, **{column: data.draw(figures, label=column) for column in columns}) for name in names]
    verdicts = [
        verdict(name, names[-1], data.draw(st.floats(0.05, 2000), label="ratio"), data.draw(st.floats(0.001, 5)))
        for name in names[:-1]
    ]
    parts = tables(printed(result(rows, verdicts), width))

    ratios = [*map(ratio, verdicts), "reference" if verdicts else ""]
    shown = {heading: column for heading, column in (*SPEEDS.items(), *WHY_COLUMNS.items()) if any(
        getattr(figures, column) is not None for figures in rows
    )}  # fmt: skip
    headings = ["user class", *shown, "failed", "bound by", *([f"× {names[-1]}"] if verdicts else [])]
    expected = [
        [
            figures.user_class,
            "0",
            "client CPU",
            ratio_cell,
            *(number(getattr(figures, column)) for column in shown.values()),
        ]
        for figures, ratio_cell in zip(rows, ratios, strict=True)
    ]
    for place, cells in enumerate((headings, *expected)):
        found = Counter(cell for part in parts for cell in re.split(" {2,}", part[place].strip()))
        assert found == Counter(filter(None, cells)) + Counter({cells[0]: len(parts) - 1})

    first = max(cell_len(cell) for cell in ("user class", *names))
    widest_other = max(cell_len(cell) for line in (headings, *expected) for cell in line[1:])
    for part in parts:
        only_two_columns = len(re.split(" {2,}", part[0].strip())) == 2
        may_be_wider = only_two_columns and first + GAP + widest_other > width
        assert may_be_wider or all(cell_len(line) <= width for line in part)


def test_what_is_unknown_is_left_empty_and_a_column_of_nothing_else_left_out() -> None:
    unknown = row("PsycopgCore", bound_by=None, **dict.fromkeys((*SPEEDS.values(), *WHY_COLUMNS.values())))
    (table,) = tables(printed(result([unknown], [])))
    assert [line.split() for line in table] == [["user", "class", "failed"], ["PsycopgCore", "0"]]
    known = row("PsycopgLazy", server_cpu_ms=None)
    for table in tables(printed(result([known, unknown], []))):
        assert table[2].split() in (["PsycopgCore", "0"], ["PsycopgCore"])
        assert "srv" not in table[0]


@pytest.mark.parametrize("width", [60, WIDTH])
def test_warnings_come_first_and_the_headline_last_a_line_a_sentence(width: int) -> None:
    lines = printed(FULL, width).splitlines()
    assert lines[1] == "warning: 3 things are doubtful"
    assert lines[-2:] == HEADLINE


def test_a_difference_that_is_not_shown_is_called_so_and_too_few_rounds_too() -> None:
    too_few = verdict("PsycopgLazy", "AsyncpgCore", 1.2, 0.1, low=None, high=None, shown=False)
    alike = verdict("PsycopgCore", "AsyncpgCore", 1.01, 0.05)
    names = ("PsycopgLazy", "PsycopgCore", "AsyncpgCore")
    speeds, _ = tables(printed(result([row(name) for name in names], [too_few, alike])))
    assert "× AsyncpgCore" in speeds[0]
    assert "too few rounds" in speeds[1]
    assert "not shown [0.96, 1.06]" in speeds[2]


def test_of_a_class_that_nothing_limits_the_largest_part_of_a_page_is_named() -> None:
    rows = [row("PsycopgLazy", bound_by="users", largest_part="db"), row("PsycopgCore")]
    speeds, _ = tables(printed(result(rows, [])))
    assert [line.strip().split("  ")[-1] for line in speeds] == ["bound by", "users, mostly db", "client CPU"]


def test_pages_cut_off_have_a_column_where_there_are_any() -> None:
    speeds, _ = tables(printed(result([row("PsycopgLazy", unfinished=7), row("PsycopgCore")], [])))
    assert "cut off" in speeds[0]
    assert [line.split()[-3] for line in speeds[1:]] == ["7", "0"]
    assert "cut off" not in printed(FULL)


def test_the_legend_says_what_percentiles_are_in_a_closed_loop() -> None:
    assert "closed loop: users wait while the server stalls" in " ".join(printed(FULL).split())


def test_the_legend_says_nothing_of_columns_that_are_not_there() -> None:
    of_rounds, of_several_at_once = (
        " ".join(printed(plain_result(strategies=[row("PsycopgLazy", **figures)])).split())
        for figures in ({}, {"answer_wait_ms": None, "client_cpu_ms": None, "server_cpu_ms": None})
    )
    for words in ("(answer, estimated)", "(CPU)", "(srv)"):
        assert words in of_rounds
        assert words not in of_several_at_once


def test_an_interval_that_leaves_out_1_is_not_rounded_to_1() -> None:
    close = verdict("PsycopgLazy", "AsyncpgCore", 1.02, 0.05, low=1.002, high=1.041, shown=True)
    speeds, _ = tables(printed(result([row("PsycopgLazy"), row("AsyncpgCore")], [close])))
    assert "1.020 [1.002, 1.041]" in speeds[1]


def test_a_class_without_a_verdict_is_said_to_have_no_ratio() -> None:
    alike = verdict("PsycopgCore", "AsyncpgCore", 1.01, 0.05)
    names = ("PsycopgLazy", "PsycopgCore", "AsyncpgCore")
    speeds, _ = tables(printed(result([row(name) for name in names], [alike])))
    assert "no ratio" in speeds[1]


def test_what_the_harness_takes_is_said_where_it_was_measured() -> None:
    shares = {"harness_share": 0.094, "harness_share_low": 0.061, "harness_share_high": 0.12}
    text = printed(result([row("AsyncpgCore", **shares), row("PsycopgCore")], []))
    assert "the harness takes: AsyncpgCore 9 % [6, 12]." in " ".join(text.split())
    assert "the harness takes" not in printed(FULL)


def test_each_workload_has_its_tables_under_its_name() -> None:
    rows = [row(f"{workload} {name}", workload=workload) for workload in ("albums", "orders") for name in ("a", "b")]
    references = {
        name: [Reference(differs_in="class", label=f"{name} b", named=False)] for name in ("albums", "orders")
    }
    verdicts = [verdict(f"{name} a", f"{name} b", 2.0, 0.1, workload=name) for name in references]
    text = printed(plain_result(strategies=rows, verdicts=verdicts, references=references, headline=HEADLINE))
    lines = text.splitlines()
    assert [line for line in lines if line.startswith("workload ")] == ["workload albums", "workload orders"]
    of_albums, of_orders = text.split("workload orders\n")
    for part, name in ((of_albums, "albums"), (of_orders, "orders")):
        speeds, reasons = tables(part)
        assert f"× {name} b" in speeds[0]
        for shown in (speeds, reasons):
            assert [line.split("  ")[0] for line in shown[1:]] == [f"{name} a", f"{name} b"]
    assert lines[-2:] == HEADLINE
    assert "workload" not in printed(FULL)


# Terminals and pipes


def test_piped_there_are_no_escape_codes(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FORCE_COLOR", "COLUMNS", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    print_result(FULL)
    text = capsys.readouterr().out
    assert ESCAPE not in text
    assert len(tables(text)) == 2


def test_no_color_is_honoured(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # by which a terminal is made believe
    monkeypatch.setenv("COLUMNS", str(WIDTH))
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    print_result(FULL)
    assert COLOURS.search(capsys.readouterr().out)
    monkeypatch.setenv("NO_COLOR", "1")
    print_result(FULL)
    assert not COLOURS.search(capsys.readouterr().out)


# Progress

SEED = (sys.executable, "seed.py")
SMALL = ("--users", "3")
MANY_ROWS = ("--users", "1", "--todos", "10000", "--comments", "101")
ROUNDS = ("-f", "locustfiles/rounds.py", "--headless", "-u", "2", "--rounds", "2", "--slot-time", "0.2")


def environment(url: str, **variables: str) -> dict[str, str]:
    """This process's, without the variables of terminals, Locust or PostgreSQL, with the database and `variables`."""
    ours = r"COLUMNS|LINES|TERM|NO_COLOR|FORCE_COLOR|TTY_|DBKIT_|LOCUST_|PG"
    kept = {name: value for name, value in os.environ.items() if not re.match(ours, name)}
    return {**kept, "DBKIT_DATABASE_URL": url, "TERM": "xterm-256color", **variables}


def drawn(written: str) -> Iterator[str]:
    """Every line, as it was at any time."""
    return (line.rstrip() for line in re.split(r"[\r\n]+", CONTROL.sub("", written)))


@pytest.mark.parametrize("width", [60, 80, 200])
def test_seeding_shows_a_bar_that_fits_the_terminal(database_url: str, width: int) -> None:
    variables = environment(database_url, NO_COLOR="1")
    written = on_a_terminal(*SEED, *SMALL, width=width, variables=variables)
    bars = [line for line in drawn(written) if "━" in line]
    assert any("903/903" in bar for bar in bars)
    assert all(len(bar) <= width and "…" not in bar for bar in bars)
    assert not COLOURS.search(written)


def test_seeding_on_a_dumb_terminal_writes_its_last_line_alone(database_url: str) -> None:
    written = on_a_terminal(*SEED, *SMALL, width=60, variables=environment(database_url, TERM="dumb"))
    assert re.fullmatch(r"seeded [^\r\n]+\r\n", written)


def test_piped_long_seeding_reports_each_tenth_in_plain_lines(database_url: str) -> None:
    done = subprocess.run(
        [*SEED, *MANY_ROWS], cwd=REPOSITORY, env=environment(database_url), capture_output=True, text=True, check=True
    )
    *tenths, last = done.stderr.splitlines()
    shares = [int(line.removesuffix(" of 1,020,001 rows").replace(",", "")) / 1_020_001 for line in tenths]
    assert [int(share * 10) for share in shares] == [*range(1, 10)]
    assert last == "1,020,001 rows; now keys and indexes"
    assert ESCAPE not in done.stdout + done.stderr


def test_rounds_on_a_narrow_terminal_show_slots_and_time_left_and_a_result_that_fits(seeded_url: str) -> None:
    width = 60
    classes_run = ("PsycopgCore", "PsycopgAsyncSubquery")
    written = on_a_terminal(
        *LOCUST, *ROUNDS, *classes_run, width=width, variables=environment(seeded_url, NO_COLOR="1")
    )
    bars = [line for line in drawn(written) if line.startswith("round ")]
    found = [re.fullmatch(r"round ([12]) of 2: (\w+) +[━╸]* +(\d)/[4-9]( -:--:--| \d:\d\d:\d\d)?", bar) for bar in bars]
    assert all(found), bars
    rounds, classes, begun, times = zip(*(match.groups() for match in found if match), strict=True)
    assert {*rounds} == {"1", "2"}
    assert {*classes} == {*classes_run}
    assert {*begun} >= {"0", "1", "2", "3"}
    assert re.fullmatch(r" \d:\d\d:\d\d", times[-1])
    assert all(len(bar) <= width for bar in bars)
    assert not COLOURS.search(written)
    parts = tables(CONTROL.sub("", written))
    assert len(parts) > 2
    assert all(len(line) <= width and "…" not in line for part in parts for line in part)
