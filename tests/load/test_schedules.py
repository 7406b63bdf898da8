"""Schedules of somebody's own: any planner is run by the same conductor, without a web UI too."""

from __future__ import annotations

import json
from pathlib import Path

from tests.locust_runs import locust

LADDER = '''
"""One class with more and more users, until a slot has had two of them; at most ten slots."""

import sys

sys.path.append("locustfiles")
from users import PsycopgCore
from dbkit.analysis.condition import Condition, Users
from dbkit.analysis.plan import Schedule, Turn, Turns
from dbkit.load import Rounds

MOST = 10


def ladder(name):
    for users in range(1, MOST + 1):
        slots = yield Turns(users, [Turn(Condition(name, Users(users)))])
        assert slots[0].measured.pages, "a slot is sent with its pages"
        if slots[0].users == 2:
            return


class Ladder(Rounds):
    def schedule(self, user_classes, options):
        (name,) = user_classes
        return Schedule(ladder(name), rounds=MOST, slots=MOST)
'''


def test_a_planner_sees_each_slot_and_may_end_early(seeded_url: str, tmp_path: Path) -> None:
    file = tmp_path / "ladder.py"
    file.write_text(LADDER)
    arguments = ("--slot-time", "0.2", "--warm-up", "0", "-u", "5")
    with locust(tmp_path / "run", *arguments, url=seeded_url, locustfiles=str(file)) as run:
        assert run.wait() == 0, run.output
    comparison = json.loads((tmp_path / "run" / "run_comparison.json").read_text())
    assert [(slot["round"], slot["users"]) for slot in comparison["slots"]] == [(1, 1), (2, 2)]
    assert comparison["state"] == "complete"
    conditions = {row["condition"]: row["users"] for row in comparison["strategies"]}
    assert conditions == {"PsycopgCore, 1 user": 1, "PsycopgCore, 2 users": 2}
