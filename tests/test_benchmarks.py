"""Benchmarks whose figures stand in the documentation run to their end."""

from __future__ import annotations

import os
import subprocess
import sys

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
