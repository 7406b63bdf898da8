"""Checks on figures in real runs: where they come from, that every output shows what came of them, the exit code."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.locust_runs import REPOSITORY, LocustRun, locust

PAGES = """
from dbkit.load import Rounds, SyncPageUser, Workload, page_users
from sqlalchemy import text

numbers = Workload("numbers", range(5))

def once(session, number):
    return session.scalar(text("SELECT :n + 1"), {"n": number})

def twice(session, number):
    return session.scalar(text("SELECT :n + 1"), {"n": number + 0 * session.scalar(text("SELECT 1"))})

def fails(session, number):
    raise ValueError("no page today")

of_each = ["rows <= 1", "max_ms < 1e9; statements <= PsycopgOnce"]
page_users(numbers, ["psycopg"], once=once, twice=twice, checks=of_each)

class Broken(SyncPageUser):
    workload = numbers
    page_function = fails
"""
PYPROJECT = """
[tool.dbkit]
check = ["p95_ms < 1e6", "Broken: statements <= 1", "pages_per_s > before"]
"""
BROKEN = ("--verify-keys", "0", "PsycopgOnce", "Broken")
"""One class of which each page fails; it would not get through the checks before a run."""
FOUND = [
    "✓ PsycopgOnce: statements 1 = 1",
    r"✓ PsycopgTwice: pages_per_s [\d.]+ \[[\d.]+, [\d.]+\] * PsycopgOnce > 0 * PsycopgOnce",
    r"✓ PsycopgOnce: p95_ms [\d.]+ \[[\d.]+, [\d.]+\] < 1e+06",
    r"✓ PsycopgTwice: p95_ms [\d.]+ \[[\d.]+, [\d.]+\] < 1e+06",
    "✓ PsycopgOnce: rows 1 <= 1",
    r"✓ PsycopgOnce: max_ms [\d.]+ < 1e+09",
    "✓ PsycopgOnce: statements 1 (PsycopgOnce 1) <= PsycopgOnce",
    "✗ PsycopgTwice: rows 2, not <= 1",
    r"✓ PsycopgTwice: max_ms [\d.]+ < 1e+09",
    "✗ PsycopgTwice: statements 2 (PsycopgOnce 1), not <= PsycopgOnce",
]
"""What came of them, in the order of the command line, pyproject.toml, and the classes."""


def as_pattern(line: str) -> str:
    """A line in which only what is in square brackets and figures may differ."""
    parts = re.split(r"(\[\\d\.\]\+|\\\[|\\\])", line)
    return "".join(part if place % 2 else re.escape(part) for place, part in enumerate(parts))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    (folder / "shop_load.py").write_text(PAGES)
    (folder / "in_rounds.py").write_text("from shop_load import *\n\nclass InTurns(Rounds):\n    pass\n")
    (folder / "pyproject.toml").write_text(PYPROJECT)
    return folder


@pytest.fixture(scope="module")
def run(project: Path, seeded_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocustRun]:
    folder = tmp_path_factory.mktemp("runs")
    configuration = folder / "checks.conf"
    configuration.write_text("check = [PsycopgOnce: statements = 1, PsycopgTwice: pages_per_s > 0 * PsycopgOnce]")
    names = {"--report": "report.html", "--summary": "summary.md", "--junit": "junit.xml"}
    files = [part for flag, name in names.items() for part in (flag, str(folder / name))]
    rounds = ("-u", "2", "--rounds", "3", "--slot-time", "0.1", "--warm-up", "0.05")
    with locust(
        folder / "run",
        *("--config", str(configuration), *files, *rounds, "PsycopgOnce", "PsycopgTwice"),
        url=seeded_url,
        locustfiles="in_rounds.py",
        cwd=project,
        environment={"GITHUB_ACTIONS": "true", "GITHUB_WORKSPACE": str(project.parent)},
    ) as made:
        made.wait()
        yield made


def assert_shows_what_came_of_them(lines: list[str]) -> None:
    assert len(lines) == len(FOUND)
    if "Twice: p95" in lines[2]:  # one check on all classes has the faster one first
        lines[2:4] = reversed(lines[2:4])
    for line, form in zip(lines, FOUND, strict=True):
        assert re.fullmatch(as_pattern(form), line), line


def test_checks_of_every_origin_apply_together(run: LocustRun) -> None:
    assert_shows_what_came_of_them(re.findall(r"^[✓✗?] .*$", run.stdout, re.MULTILINE))
    assert run.process.returncode == 3, run.output


def test_every_output_shows_what_came_of_them(run: LocustRun) -> None:
    found = json.loads((run.folder / "run_comparison.json").read_text())["checks"]
    assert_shows_what_came_of_them(
        [{"pass": "✓", "fail": "✗"}[each["state"]] + " " + each["sentence"] for each in found]
    )
    summary = (run.folder.parent / "summary.md").read_text()
    assert "10 checks: 8 pass, 2 fail" in summary
    assert summary.count("\n- ✓ ") == 8 and r"- ✗ PsycopgTwice: rows 2, not \<= 1" in summary
    [suite] = ElementTree.parse(run.folder.parent / "junit.xml").getroot()
    assert [suite.get(name) for name in ("tests", "failures", "errors")] == ["12", "2", "0"]
    of_failure = [case.get("name") for case in suite if len(case)]
    assert of_failure == ["rows <= 1", "statements <= PsycopgOnce"]
    report = (run.folder.parent / "report.html").read_text()
    assert report.count('<li class="dbkit-pass">') == 8
    assert '<li class="dbkit-fail"><span class="dbkit-glyph">✗</span>PsycopgTwice: rows 2, not &lt;= 1' in report


def test_github_is_given_the_line_that_sends_the_statements(run: LocustRun, project: Path) -> None:
    line = 1 + PAGES.splitlines().index(next(line for line in PAGES.splitlines() if "SELECT 1" in line))
    [annotation] = [line for line in run.stdout.splitlines() if line.startswith("::")]
    assert annotation == (
        f"::error file={project.name}/shop_load.py,line={line},title=dbkit%3A PsycopgTwice%3A rows <= 1::"
        "PsycopgTwice: rows 2, not <= 1"
    )


def test_a_run_is_seen_beside_the_file_of_an_earlier_one(
    run: LocustRun, project: Path, seeded_url: str, tmp_path: Path
) -> None:
    earlier = tmp_path / "main_comparison.json"
    content = json.loads((run.folder / "run_comparison.json").read_text())
    for row in (*content["strategies"], *content["slots"]):
        row["statements"] = 1.0
    earlier.write_text(json.dumps(content))
    compared = (
        "--baseline",
        str(earlier),
        "--check",
        "PsycopgOnce: round_trips <= 5 * baseline",
        "--undecided",
        "pass",
    )
    with locust(
        tmp_path / "run",
        *("-u", "3", "-r", "3", "-t", "1s", *compared, "--verify-keys", "0"),
        url=seeded_url,
        locustfiles="shop_load.py",
        cwd=project,
    ) as ended:
        assert ended.wait() == 1, ended.output  # Broken's pages fail
        assert f"warning: not compared, as {earlier} does not have it: Broken" in ended.stdout
        assert f"warning: counts alone are compared with {earlier}, and no times, as that has num-users" in ended.stdout
        assert "✓ PsycopgOnce: counts as in the baseline" in ended.stdout
        assert "✗ PsycopgTwice: more than in the baseline: statements 2 (baseline 1)" in ended.stdout
        assert re.search(r"✓ PsycopgOnce: round_trips [\d.]+ \(baseline [\d.]+\) <= 5 \* baseline", ended.stdout)


def test_a_file_of_another_workload_is_refused_before_any_user_starts(
    run: LocustRun, seeded_url: str, tmp_path: Path
) -> None:
    earlier = str(run.folder / "run_comparison.json")
    with locust(tmp_path / "run", "-u", "1", "-t", "1s", "--baseline", earlier, url=seeded_url) as ended:
        assert ended.wait() == 2, ended.output
        [line] = [line for line in ended.stderr.splitlines() if "error:" in line]
        assert "it is of the workload numbers, and this run reads todo list" in line
        assert "pawn" not in ended.output


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["PsycopgOnce"], 4),
        (["--undecided", "pass", "PsycopgOnce"], 0),
        (["--check", "failures = 0", *BROKEN], 1),
        (["--check", "failures = 0", "--exit-code-on-error", "0", *BROKEN], 3),
    ],
)
def test_the_process_ends_with_the_worst(
    project: Path, seeded_url: str, tmp_path: Path, arguments: list[str], code: int
) -> None:
    with locust(
        tmp_path / "run",
        *("-u", "2", "-r", "2", "-t", "1s", *arguments),
        url=seeded_url,
        locustfiles="shop_load.py",
        cwd=project,
    ) as ended:
        assert ended.wait() == code, ended.output
        assert "? PsycopgOnce: p95_ms " in ended.stdout
        assert ("✗ Broken: statements <= 1: every page failed" in ended.stdout) == ("Broken" in arguments)


def test_a_mistake_in_a_project_is_said_on_one_line_before_any_user_starts(
    project: Path, seeded_url: str, tmp_path: Path
) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.dbkit]\ncheck = ["rows < 5", "Brocken: rows < 5"]\n')
    pages = str(project / "shop_load.py")
    with locust(tmp_path / "run", "-u", "2", "-t", "1s", url=seeded_url, locustfiles=pages, cwd=tmp_path) as ended:
        assert ended.wait() == 2, ended.output
        [line] = [line for line in ended.stderr.splitlines() if "error:" in line]
        assert line.startswith("dbkit: error: pyproject.toml, [tool.dbkit] check: 'Brocken: rows < 5' is of Brocken")
        assert "pawn" not in ended.output and "Traceback" not in ended.output


MISTAKES = {
    ("check = 3", "()"): "pyproject.toml, [tool.dbkit] check is 3; expected checks, such as",
    ('check = "rows"', "()"): "pyproject.toml, [tool.dbkit] check: invalid value 'rows': expected a figure",
    ("", "5"): "Broken.checks is 5; expected checks, such as",
    ("", "'PsycopgOnce: rows < 5'"): "Broken.checks: 'PsycopgOnce: rows < 5' names a class",
    ("", "['rows < 5 * Nobody']"): "a share can be of before, baseline, or one of the classes: Broken",
    ("", "('rows < 5', 'seldom')"): "Broken.checks: invalid value 'seldom'",
    ('check = ["rows <= before", "Broken: rows < PsycopgOnce"]', "'rows < baseline'"): "fine: 0",
    ('check = "rows < 5"', "'statements < 2'"): "fine: 2",
}
READ = """
import argparse, json, sys
import shop_load
from pathlib import Path
from dbkit.errors import DbkitError
from dbkit.load.figure_checks import figure_checks

options = argparse.Namespace(check="", sides="", baseline="")
available = {name: getattr(shop_load, name) for name in ("Broken", "PsycopgOnce", "PsycopgTwice")}
for pyproject, checks in json.loads(sys.argv[1]):
    Path("pyproject.toml").write_text(f"[tool.dbkit]\\n{pyproject}\\n")
    shop_load.Broken.checks = eval(checks)
    try:
        found = figure_checks(options, {"Broken": shop_load.Broken}, available)
        print(f"fine: {len(found)}")
    except DbkitError as mistake:
        print(mistake)
"""


def test_what_a_project_asks_for_beyond_a_run_is_left_out_and_what_is_wrong_is_said(
    project: Path, tmp_path: Path
) -> None:
    paths = os.pathsep.join([str(REPOSITORY), str(project)])
    command = [sys.executable, "-c", READ, json.dumps([*MISTAKES])]
    done = subprocess.run(
        command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True, check=True
    )
    for line, said in zip(done.stdout.splitlines(), MISTAKES.values(), strict=True):
        assert said in line
