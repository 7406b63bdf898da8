"""`python -m dbkit forecast`: what it prints, and what it answers to what it cannot do."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from dbkit.analysis.forecast import Wanted
from dbkit.analysis.formats import number
from dbkit.cli.main import main
from dbkit.output.csv_files import FILES
from tests.analysis.test_forecast import MEASURED_ON, forecasts, row
from tests.slots import plain_result

FAST = row("Fast")
SLOW = row("Slow", pages_per_s=50.0, db_ms=36.9)
UNKNOWN = row("Unknown", client_cpu_ms=None)


@pytest.fixture
def comparison(tmp_path: Path) -> str:
    path = tmp_path / "run_comparison.json"
    path.write_text(FILES["comparison.json"](plain_result(strategies=[FAST, SLOW, UNKNOWN], measured_on=MEASURED_ON)))
    return str(path)


def run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str
) -> tuple[int, list[list[str]], str]:
    """Exit code, the words of each line of standard output, and standard error of `python -m dbkit forecast`."""
    monkeypatch.setattr(sys, "argv", ["dbkit", "forecast", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    shown = capsys.readouterr()
    assert isinstance(ended.value.code, int)
    return ended.value.code, [line.split() for line in shown.out.splitlines()], shown.err


def test_each_combination_is_a_line_behind_what_was_measured(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, comparison: str
) -> None:
    code, lines, err = run(capsys, monkeypatch, comparison, "--users", "1,20", "--round-trip", "0,0.5ms")
    assert (code, err) == (0, "")
    wanted = Wanted(users=[1, 20], round_trips_ms=[0, 0.5])
    expected = []
    for each in (FAST, SLOW):
        pages, ms = number(each.pages_per_s), number(1000 * 2 / (each.pages_per_s or 0))
        expected.append([each.label, "2", "15", "1", "0", pages, ms, "users"])
        for made in forecasts(each, MEASURED_ON, wanted):
            setting = [str(made.users), "15", "1", number(made.round_trip_ms)]
            expected.append([*setting, number(made.pages_per_s), number(made.response_ms), *made.bound_by.split()])
    assert lines[1 : 1 + len(expected)] == expected
    assert ["no", "forecast", "of", "Unknown:"] in [line[:4] for line in lines]


def test_pools_processes_and_classes_can_be_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, comparison: str
) -> None:
    code, lines, _ = run(capsys, monkeypatch, "Slow", comparison, "--pool-size", "3", "--processes", "2")
    assert code == 2  # the file comes first
    code, lines, _ = run(capsys, monkeypatch, comparison, "--pool-size", "3", "Slow", "--processes", "2")
    assert code == 0
    assert [line[:3] for line in lines[1:3]] == [["Slow", "2", "15"], ["2", "3", "2"]]
    assert not any(line[:1] in (["Fast"], ["no"]) for line in lines)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "nothing to forecast: give --round-trip, --users, --pool-size or --processes"),
        (("--users", "0"), "--users: invalid value '0': expected an integer of at least 1 and at most 10000"),
        (("--users", "1,x"), "--users: invalid value '1,x'"),
        (("--users", "5,5"), "each once"),
        (("--users", "10001"), "at most 10000"),
        (("--round-trip", "1"), "--round-trip: invalid value '1': expected a time such as 1ms or 0.5ms"),
        (("--round-trip=-1ms",), "--round-trip: invalid value '-1ms'"),
        (("--round-trip", "nanms"), "--round-trip: invalid value 'nanms'"),
        (("--round-trip", "2000ms"), "1000ms at the most"),
        (("--round-trip", ""), "--round-trip: invalid value ''"),
        (("--pool-size", "2.5"), "--pool-size: invalid value '2.5'"),
        (("--processes", "0"), "--processes: invalid value '0'"),
        (("--users", "1", "Other"), "has no class Other: it has Fast, Slow, Unknown"),
        (("--users", "1", "Unknown"), "no forecast of Unknown: its client CPU is not known"),
    ],
)
def test_what_cannot_be_forecast_is_said_in_a_line(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    comparison: str,
    arguments: tuple[str, ...],
    said: str,
) -> None:
    code, lines, err = run(capsys, monkeypatch, comparison, *arguments)
    assert (code, lines) == (2, [])
    assert said in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("content", [{}, {"strategies": []}])
def test_a_file_without_anything_to_forecast_is_refused(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: dict[str, Any]
) -> None:
    path = tmp_path / "x_comparison.json"
    path.write_text(json.dumps(plain_result(**content).as_json() if content else content))
    code, _, err = run(capsys, monkeypatch, str(path), "--users", "1")
    assert code == 2
    assert err.count("\n") == 1
