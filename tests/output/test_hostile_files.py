"""A comparison file from somebody else: every text in it is theirs, and none of it does anything where it is shown."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest
from playwright.sync_api import Browser

from dbkit.analysis.checks import CheckOutcome
from dbkit.analysis.result import FailureRow
from dbkit.errors import DbkitError
from dbkit.output.csv_files import FILES, FORMULA_BEGINNINGS
from dbkit.output.json_file import read_comparison
from tests.analysis.test_conditions import POOL, result_of
from tests.analysis.test_search import result_of as searched
from tests.analysis.test_search import run as run_search
from tests.analysis.test_search import search_of
from tests.browser import browser, browser_page
from tests.locust_runs import DEADLINE_S, REPOSITORY
from tests.output.test_diff_report import diff_result
from tests.output.test_report import CLASSES, mixed_run, rounds_of

HOSTILE = (
    "</script><script>hacked=1</script><img src=x onerror=hacked=1>\"'><svg onload=hacked=1>"
    '<a href="javascript:hacked=1">%{x}</a>{{7*7}}${hacked=1}`|\n<!-- ]]>\x1b]0;hacked\x07\x1b[2J\u202e'
)
MARK = "%{x}"
"""In the middle of it, and nowhere else."""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as started:
        yield started


@cache
def own_files() -> dict[str, dict[str, Any]]:
    """The content of files that dbkit writes, by what was run."""
    classes = [*CLASSES.values()][:6]
    search = search_of("p95_ms < 25.6", "Fast", "Slow", most_users=100)
    made = {
        "rounds": rounds_of(classes),
        "mixed": mixed_run(classes[:3]),
        "before and after": diff_result(),
        "loads": result_of("Fast", "Slow", loads=(1, 2, 5, 10, 20), variations=(POOL,)),
        "a search": searched(search, run_search(search)[0]),
    }
    rounds = made["rounds"]
    for row in rounds.strategies:
        names = {name: getattr(row, name) for name in ("workload", "label", "user_class")}
        failure = FailureRow(**names, condition=row.condition, message="failed", count=1, traceback="at a line")
        rounds.failures.append(failure)
        rounds.checks.append(CheckOutcome(**names, check="rows < 5", state="fail", sentence=f"{row.label}: rows 7"))
    rounds.warnings.append("a warning")
    return {name: result.as_json() for name, result in made.items()}


def texts(content: Any) -> set[str]:
    """All texts in plain values, names included."""
    if isinstance(content, str):
        return {content}
    if isinstance(content, dict):
        return texts([*content.keys(), *content.values()])
    return set().union(*map(texts, content)) if isinstance(content, list) else set()


def changed(content: Any, to: dict[str, str]) -> Any:
    if isinstance(content, str):
        return to.get(content, content)
    if isinstance(content, dict):
        return {to.get(name, name): changed(value, to) for name, value in content.items()}
    return [changed(each, to) for each in content] if isinstance(content, list) else content


def names_of_fields(record: type[msgspec.Struct] = msgspec.Struct) -> set[str]:
    """The names that the format knows: under another one it looks for nothing."""
    own = set(getattr(record, "__struct_fields__", ()))
    return own.union(*map(names_of_fields, record.__subclasses__()))


def made_hostile(content: dict[str, Any], file: Path) -> int:
    """Write the content with everything hostile that `dbkit report` lets pass; how many texts that are."""

    def passes(to: dict[str, str]) -> bool:
        file.write_text(json.dumps(changed(content, to)))
        try:
            read_comparison(str(file))
        except DbkitError:
            return False
        return True

    def passing(to: dict[str, str]) -> dict[str, str]:
        if not to or passes(to):
            return to
        if len(to) == 1:
            return {}  # a word that the format knows
        half = len(to) // 2
        return passing(dict([*to.items()][:half])) | passing(dict([*to.items()][half:]))

    found = passing({text: text + HOSTILE for text in sorted(texts(content) - names_of_fields())})
    assert passes(found)
    return len(found)


@pytest.mark.parametrize("kind", ["rounds", "mixed", "before and after", "loads", "a search"])
def test_nothing_in_it_is_run_wherever_it_is_shown(chromium: Browser, tmp_path: Path, kind: str) -> None:
    file = tmp_path / "theirs_comparison.json"
    assert made_hostile(own_files()[kind], file) > 20
    done = subprocess.run(
        [sys.executable, "-m", "dbkit", "report", str(file), "--summary", "-"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )
    assert done.returncode == 0, done.stderr
    assert all(each.isprintable() or each == "\n" for each in done.stdout + done.stderr)
    assert MARK in done.stdout.replace("\\", "")
    in_words = re.sub(r"(?s)```.*?```", "", done.stdout)
    assert not re.search(r"(?<!\\)<(?!/?details|/?summary|br)", in_words), in_words

    with browser_page(chromium) as tab:
        tab.page.goto((tmp_path / "theirs_report.html").as_uri())
        tab.page.locator("details").evaluate_all("all => all.forEach(details => details.open = true)")
        assert tab.page.locator("body").inner_text().count(MARK) > 20
        assert tab.page.evaluate("typeof hacked") == "undefined"
        assert tab.page.locator("[onerror], [onload], a[href^=javascript], body img").count() == 0
        assert tab.errors == []
        assert tab.requests == [tab.page.url]

    result = read_comparison(str(file))
    for name in ("strategies.csv", "slots.csv"):
        for row in csv.reader(io.StringIO(FILES[name](result), newline="")):
            assert not any(each.startswith(FORMULA_BEGINNINGS) for each in row)


def test_a_report_runs_no_script_but_its_own(chromium: Browser, tmp_path: Path) -> None:
    file = tmp_path / "mine_comparison.json"
    file.write_text(json.dumps(own_files()["mixed"]))
    subprocess.run([sys.executable, "-m", "dbkit", "report", str(file)], cwd=REPOSITORY, check=True, timeout=DEADLINE_S)
    report = tmp_path / "mine_report.html"
    injected = "<script>hacked=1</script><img src=x onerror='hacked=1'>"  # were something not escaped
    report.write_text(report.read_text().replace("<header>", f"<header>{injected}"))
    with browser_page(chromium) as tab:
        tab.page.goto(report.as_uri())
        tab.page.wait_for_selector(".dbkit-chart svg")  # its own run
        assert tab.page.evaluate("typeof hacked") == "undefined"
        assert len([each for each in tab.errors if "Content Security Policy" in each]) >= 2
        assert [each for each in tab.requests if not each.startswith("file:")] == []
