"""docs/reliability.md names a test for each promise, and each of them is there."""

from __future__ import annotations

import re
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]


def test_each_promise_names_tests_that_are_there() -> None:
    lines = (REPOSITORY / "docs" / "reliability.md").read_text().splitlines()
    promises = [
        line for line in lines if line.startswith("| ") and not line.startswith(("| what happens", "| promise"))
    ]
    written = "\n".join(file.read_text() for file in (REPOSITORY / "tests").rglob("*.py"))
    there = set(re.findall(r"def (test_\w+)\(", written))
    assert len(promises) >= 20
    for promise in promises:
        named = re.findall(r"`(test_\w+)`", promise)
        assert named and {*named} <= there, promise
