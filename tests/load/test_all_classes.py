"""Every user class of dbkit's own locustfiles, each in a slot of its own: on SQLAlchemy 2.1, and on 2.0."""

from __future__ import annotations

import json
from pathlib import Path

import sqlalchemy

from dbkit.database.stacks import STACKS
from dbkit.paging import STRATEGIES
from tests.locust_runs import locust

STATEMENTS = {"lazy": 21, "selectin": 2, "joined": 1, "subquery": 2, "core": 1}
ROWS = {"lazy": 60, "selectin": 60, "joined": 40, "subquery": 60, "core": 20}


def test_every_class_reads_right_pages_at_the_right_cost(tmp_path: Path, seeded_url: str) -> None:
    options = ("-u", "2", "--rounds", "1", "--slot-time", "0.3", "--warm-up", "0.1")
    with locust(tmp_path / "run", *options, url=seeded_url, locustfiles="locustfiles/rounds.py") as run:
        assert run.wait() == 0, run.output
        result = json.loads((run.folder / "run_comparison.json").read_text())
        assert run.leftovers() == []
    assert result["state"] == "complete"
    assert result["measured_on"]["packages"]["SQLAlchemy"] == sqlalchemy.__version__
    assert result["failures"] == []
    classes = {(row["stack"], row["strategy"]): row for row in result["strategies"]}
    assert set(classes) == {(stack, strategy) for stack in STACKS for strategy in STRATEGIES}
    for (stack, strategy), row in classes.items():
        assert row["failures"] == 0
        if row["pages"]:  # on a machine that stalls for as long as a slot takes there are none
            assert (row["statements"], row["rows"]) == (STATEMENTS[strategy], ROWS[strategy]), (stack, strategy)
