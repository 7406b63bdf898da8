"""Benchmarks whose figures stand in the documentation run to their end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.locust_runs import DEADLINE_S, REPOSITORY


def test_the_benchmark_of_endings_prints_a_line_for_each_way_to_end_a_page(seeded_url: str) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks.endings", "--rounds", "4", "--pages", "2", "--concurrency", "1"],
        cwd=REPOSITORY,
        env=os.environ | {"DBKIT_DATABASE_URL": seeded_url},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )
    assert run.returncode == 0, run.stderr
    lines = [line.split()[:2] for line in run.stdout.splitlines() if line.split()[1:2] and ":" in line.split()[0]]
    ends = [[stack, end] for stack in ("psycopg-async:", "asyncpg:") for end in ("rollback", "commit", "autocommit")]
    assert lines[1:] == [
        *(["psycopg-threads:", end] for end in ("rollback", "commit", "autocommit")),
        *(end for end in ends for _ in ("with", "finally")),
    ]


def test_the_benchmark_of_forecasts_prints_each_cell_beside_what_was_measured(seeded_url: str, tmp_path: Path) -> None:
    cells = ("--round-trips", "2ms,20ms", "--users", "1,3", "--pool-sizes", "1,3", "--rest-on", "3", "--all")
    few = ("--strategies", "core", "--stacks", "asyncpg", "--rounds", "1", "--slot-time", "1")

    def run_it() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "benchmarks.forecast", *few, *cells, "--keep", str(tmp_path / "kept")],
            cwd=REPOSITORY,
            env=os.environ | {"DBKIT_DATABASE_URL": seeded_url, "DBKIT_VERIFY_KEYS": "1"},
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
        )

    run = run_it()
    assert run.returncode in (0, 1), run.stderr  # how good they are is not for a busy machine to say
    lines = [line.split("│") for line in run.stdout.splitlines() if "AsyncpgCore │" in line]
    found = {tuple(cell.strip() for cell in line[2:5]) for line in lines}
    assert found == {(users, pool, away) for users in "13" for pool in "13" for away in ("2 ms", "20 ms")}
    assert "1 of 1: AsyncpgCore: median error" in run.stdout
    assert "of 8 cells (" in run.stdout
    assert "the same measured twice" in run.stdout
    [kept] = (tmp_path / "kept").glob("*_comparison.json")
    written_at = kept.stat().st_mtime_ns
    assert run_it().stdout.partition("pages/s, forecast")[2] == run.stdout.partition("pages/s, forecast")[2]
    assert kept.stat().st_mtime_ns == written_at
