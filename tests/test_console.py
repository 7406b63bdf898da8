"""The result on the terminal: two aligned tables of 100 columns, what to beware of, plain text when piped."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from dbkit.console import WHY_COLUMNS, print_result
from dbkit.result import Result

WIDTH = 100
STACKS = ("Psycopg", "PsycopgAsync", "Asyncpg")
CLASSES = [f"{stack}{strategy}" for stack in STACKS for strategy in ("Lazy", "Selectin", "Joined", "Subquery", "Core")]
SPEEDS = {"pages/s": "pages_per_s", "p50": "p50_ms", "p95": "p95_ms", "p99": "p99_ms"}
ESCAPE = "\x1b"
COLOURS = re.compile(r"\x1b\[(\d+;)*(3[0-8]|4[0-8]|9[0-7])(;\d+)*m")


def row(user_class: str, **figures: Any) -> dict[str, Any]:
    names = {*SPEEDS.values(), *WHY_COLUMNS.values()}
    return {"user_class": user_class, "failures": 0, "bound_by": "client CPU", **dict.fromkeys(names, 1.23), **figures}


def verdict(user_class: str, reference: str, ratio: float, half_width: float) -> dict[str, Any]:
    low, high = ratio / (1 + half_width), ratio * (1 + half_width)
    return {
        "quantity": "pages_per_s",
        "user_class": user_class,
        "reference": reference,
        "ratio": ratio,
        "low": low,
        "high": high,
        "shown": not low <= 1 <= high,
        "sentence": f"{user_class} serves {ratio:.2f}× the pages of {reference}",
    }


def result(strategies: list[dict[str, Any]], verdicts: list[dict[str, Any]], *warnings: str) -> Result:
    reference = verdicts[0]["reference"] if verdicts else None
    return Result(strategies, [], verdicts, reference, list(warnings), {})


FULL = result(
    [row(name, pages_per_s=1500.0 - 90 * number) for number, name in enumerate(CLASSES)],
    [verdict(name, CLASSES[-1], 3 - 0.2 * number, 0.05) for number, name in enumerate(CLASSES[:-1])],
    "3 things to beware of",
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
    for table, columns in ((speeds, SPEEDS), (reasons, WHY_COLUMNS)):
        for heading, column in columns.items():
            found = re.search(rf"(?<!\S){re.escape(heading)}(?!\S)", table[0])
            assert found
            for line, figures in zip(table[1:], FULL.strategies, strict=True):
                told = line[: found.end()].split()[-1]
                assert float(told) == pytest.approx(figures[column], rel=0.005)
                assert line[found.end() :].startswith((" ", "")) and line[found.end() - 1] != " "


def test_no_table_is_wider_than_100_columns() -> None:
    for table in tables(printed(FULL)):
        for line in table:
            assert len(line.rstrip()) <= WIDTH
            assert "…" not in line


figures_ms = st.floats(0.001, 9999) | st.sampled_from([0.0, 0.0101, 0.123, 12.3])


@given(data=st.data())
def test_whatever_the_figures_no_table_is_wider_than_100_columns(data: st.DataObject) -> None:
    names = sorted({*SPEEDS.values(), *WHY_COLUMNS.values()})
    rows = [row(name, **{column: data.draw(figures_ms, label=column) for column in names}) for name in CLASSES[5:8]]
    verdicts = [
        verdict(name, CLASSES[8], data.draw(st.floats(0.05, 20), label="ratio"), data.draw(st.floats(0.001, 0.5)))
        for name in CLASSES[5:8]
    ]
    for table in tables(printed(result(rows, verdicts))):
        for line in table:
            assert len(line.rstrip()) <= WIDTH
            assert "…" not in line


def test_what_is_unknown_is_left_empty() -> None:
    unknown = row("PsycopgCore", **dict.fromkeys((*SPEEDS.values(), *WHY_COLUMNS.values())), bound_by=None)
    for table in tables(printed(result([unknown], []))):
        assert table[1].split() in (["PsycopgCore", "0"], ["PsycopgCore"])


def test_warnings_and_the_verdict_on_the_first_class_are_shown() -> None:
    text = printed(FULL)
    assert "warning: 3 things to beware of" in text
    assert FULL.verdicts[0]["sentence"] in text


def test_a_difference_that_is_not_shown_is_called_so_and_too_few_rounds_too() -> None:
    too_few = verdict("PsycopgLazy", "AsyncpgCore", 1.2, 0.1) | {"low": None, "high": None, "shown": False}
    alike = verdict("PsycopgCore", "AsyncpgCore", 1.01, 0.05)
    names = ("PsycopgLazy", "PsycopgCore", "AsyncpgCore")
    speeds, _ = tables(printed(result([row(name) for name in names], [too_few, alike])))
    assert "× AsyncpgCore" in speeds[0]
    assert "too few rounds" in speeds[1]
    assert "no difference [0.96, 1.06]" in speeds[2]


# Terminals and pipes


def test_piped_there_are_no_escape_codes(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FORCE_COLOR", "COLUMNS", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    print_result(FULL)
    text = capsys.readouterr().out
    assert ESCAPE not in text
    assert all(len(line.rstrip()) <= WIDTH for table in tables(text) for line in table)


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
