"""What a class is said to be bound by, from the figures of its slots."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dbkit.analysis.bound import bound_by
from dbkit.analysis.condition import Condition, Users
from dbkit.analysis.slot import Slot
from dbkit.measure.cost import COUNTS, PARTS
from dbkit.measure.tally import Tally
from tests.slots import QUIET

CORES = 2
IDLE = replace(QUIET, cpu_s=0.0, core_wait_s=0.0, cores=CORES, busy_share=0.0, steal_share=0.0)


def slot(
    *,
    users: int = 10,
    core: float,
    core_wait: float = 0.0,
    server: float | None = 0.2,
    steal: float = 0.0,
    busy: float | None = None,
    think_ms: float = 0.0,
    failures: int = 0,
    processes: int = 1,
    response_ms: float = 50.0,
    **parts: float,
) -> Slot:
    """A second in which its users read one page after the other; shares are of one core, `busy` of all.

    What the parts leave of the response time is the database's. Where `busy` is not given nobody else is there.
    """
    pages = round(users * 1000 / (response_ms + think_ms))
    cost: dict[str, float] = {**dict.fromkeys((*COUNTS, *PARTS), 0.0), **parts, "think_ms": think_ms}
    cost["db_ms"] = response_ms - sum(parts.values())
    measured = Tally(page_equivalents=pages - failures)
    for number in range(pages):
        measured.add(cost, response_ms, failed=number < failures)
    process = replace(
        IDLE,
        cpu_s=core,
        core_wait_s=core_wait,
        steal_share=steal,
        busy_share=(core + (server or 0.0)) / CORES if busy is None else busy,
    )
    return Slot(
        number=0,
        round=1,
        condition=Condition("Some", Users(users)),
        began_s=0.0,
        server_cpu_s=server,
        server_seconds=1.0,
        server_machine=None if server is None else "here",
        server_cores=CORES,
        processes=[process, *[replace(process, cpu_s=core / 2)] * (processes - 1)],
        measured=measured,
    )


@pytest.mark.parametrize(
    ("expected", "figures"),
    [
        # the interpreter has a core, and has used it up
        ("client CPU", {"core": 0.9}),
        ("client CPU", {"core": 0.9, "core_wait": 0.6}),  # of threads that wait while another one runs
        ("client CPU", {"core": 0.8, "core_wait": 0.1}),
        ("client CPU", {"core": 0.65, "core_wait": 0.05, "steal": 0.2}),
        ("client CPU", {"core": 0.9, "processes": 2}),
        ("client CPU", {"core": 0.9, "pool_ms": 30.0}),  # a larger pool would find no more of the interpreter
        # it waits for a core that others hold
        ("machine", {"core": 0.30, "core_wait": 0.55, "server": 0.95}),
        ("machine", {"core": 0.30, "core_wait": 0.84, "server": 1.17}),
        ("machine", {"core": 0.46, "core_wait": 0.5}),
        ("machine", {"core": 0.46, "core_wait": 2.5}),
        ("machine", {"users": 1, "core": 0.2, "core_wait": 0.7}),
        ("machine", {"core": 0.7, "server": 1.15}),
        ("machine", {"core": 0.3, "server": 0.7, "busy": 0.95}),
        # it waits for a connection
        ("pool", {"core": 0.75, "core_wait": 0.1, "pool_ms": 45.0}),
        ("pool", {"core": 0.95, "pool_ms": 45.0}),  # one page at a time: with two, one could use the core more
        ("pool", {"core": 0.4, "core_wait": 0.5, "pool_ms": 45.0}),
        ("pool", {"core": 0.3, "pool_ms": 30.0}),
        # it waits for its users, who think
        ("think time", {"core": 0.3, "think_ms": 60.0}),
        ("think time", {"core": 0.3, "think_ms": 60.0, "failures": 20}),
        # the server has used up all its cores
        ("database", {"core": 0.1, "server": 1.75}),
        ("database", {"users": 1, "core": 0.1, "server": 1.75}),
        ("database", {"core": 0.1, "server": 1.4, "steal": 0.2}),
        # nothing is at its limit
        ("users", {"users": 1, "core": 0.71, "server": 0.29}),
        ("users", {"users": 1, "core": 0.71, "core_wait": 0.05, "server": 0.29}),
        ("users", {"users": 1, "core": 0.1, "server": 0.9}),
        ("users", {"core": 0.3, "server": None}),
        ("users", {"core": 0.1, "server": 0.2, "busy": 0.95}),  # others use the cores, and nobody waits for one
        ("users", {"core": 0.3, "pool_ms": 5.0}),
        ("users", {"core": 0.3, "think_ms": 40.0}),
        ("users", {"core": 0.1, "failures": 190}),  # failed pages take their users' time as well
    ],
)
def test_a_slot_is_bound_by_the_first_rule_that_holds(expected: str, figures: dict[str, Any]) -> None:
    assert bound_by([slot(**figures)]) == expected


@pytest.mark.parametrize("cores", [(0.80, 0.88), (0.88, 0.80), (0.72, 0.80, 0.86)])
def test_slots_on_both_sides_of_a_limit_are_judged_together(cores: tuple[float, ...]) -> None:
    slots = [slot(core=core) for core in cores]
    alone = {bound_by([each]) for each in slots}
    assert alone == {"client CPU", "users"}
    mean = sum(cores) / len(cores)
    assert bound_by(slots) == ("users" if mean < 0.85 else "client CPU") == bound_by([slot(core=mean)])


def test_where_no_page_was_served_nothing_is_said() -> None:
    nothing = replace(slot(core=0.9), measured=Tally())
    assert bound_by([]) is None
    assert bound_by([nothing]) is None
    assert bound_by([replace(slot(core=0.9), processes=[])]) is None
    assert bound_by([nothing, slot(core=0.9)]) == "client CPU"


def test_pages_in_progress_are_those_of_one_process() -> None:
    # two pages at a time in each of five processes, which a larger pool would help; and two in all of them together
    assert bound_by([slot(users=50, processes=5, core=0.9, pool_ms=40.0)]) == "client CPU"
    assert bound_by([slot(users=10, processes=5, core=0.9, pool_ms=40.0)]) == "pool"
