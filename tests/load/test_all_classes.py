"""Every user class of dbkit's own locustfiles, each in a slot of its own: on SQLAlchemy 2.1, and on 2.0."""

from __future__ import annotations

import json
from pathlib import Path

import sqlalchemy

from dbkit.database.stacks import STACKS
from dbkit.paging import STRATEGIES
from tests.counts import FILE
from tests.locust_runs import locust


def test_every_class_reads_right_pages_at_the_cost_that_is_on_file(tmp_path: Path, seeded_url: str) -> None:
    options = ("-u", "2", "--rounds", "1", "--slot-time", "0.1", "--warm-up", "0.05", "--baseline", str(FILE))
    with locust(tmp_path / "run", *options, url=seeded_url, locustfiles="locustfiles/rounds.py", fresh=True) as run:
        assert run.wait() == 0, run.output
        result = json.loads((run.folder / "run_comparison.json").read_text())
        assert run.leftovers() == []
    assert result["state"] == "complete"
    assert result["measured_on"]["packages"]["SQLAlchemy"] == sqlalchemy.__version__
    assert result["failures"] == []
    slots = result["slots"]
    assert sorted(slot["user_class"] for slot in slots if not slot["replaced"]) == sorted(
        row["user_class"] for row in result["strategies"]
    )
    in_slots = sum(slot["pages"] + slot["warm_up_pages"] for slot in slots)
    of_locust = sum(int(row["Request Count"]) for row in run.rows() if row["Type"])
    assert in_slots == result["measured_on"]["pages_in_all"] == of_locust
    classes = {(row["stack"], row["strategy"]): row for row in result["strategies"]}
    assert set(classes) == {(stack, strategy) for stack in STACKS for strategy in STRATEGIES}
    found = {outcome["label"]: outcome["sentence"] for outcome in result["checks"]}
    for row in classes.values():
        assert row["failures"] == 0
        if row["pages"]:  # on a machine that stalls for as long as a slot takes there are none
            assert found[row["label"]] == f"{row['label']}: counts as in the baseline"
