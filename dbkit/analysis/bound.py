"""What kept a class from serving more pages, by rules that are fixed beforehand.

docs/results.md has the rules in the same words. For what is measured in a slot see `dbkit.analysis.slot`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from statistics import fmean

from dbkit.analysis.slot import Slot, per, sustained

CORE_SHARE = 0.85
"""The share of the time for which a core, or all of a machine, is used where it is at its limit."""
CORE_WAIT_SHARE = 0.15
"""The share of the time for which the load process waits for a core where others hold it back."""
MACHINE_SHARE = 0.9
"""The share of the CPU time of the load's machine that all processes use where its cores are all in use."""
POOL_SHARE = 0.25
"""The share of the response time that goes into waiting for a connection where the pool is too small."""
ONE_PAGE = 1.5
"""Pages in progress in a process: with fewer they are read one at a time, and no core can be kept busy."""
THINK_SHARE = 0.5
"""The share of the users' time between two pages where they ask too seldom to keep anything busy."""


def bound_by(slots: Iterable[Slot]) -> str | None:
    """What bound the `slots` of one class together: the first rule that is true. None where no page was served.

    `client CPU`, `machine`, `pool`, `think time`, `database`, or where nothing is at its limit `arrivals`, as no more
    pages were asked for, or else `users`. The share of `db` in the response time is no part of the rules: under load
    most of it is an answer that waits for the interpreter.
    """
    known = [slot for slot in slots if slot.processes]
    if not any(slot.measured.succeeded for slot in known):
        return None
    core = _mean(known, lambda slot: slot.client_cpu_share)
    core_wait = _mean(known, lambda slot: slot.core_wait_share)
    steal = _mean(known, lambda slot: slot.busiest.steal_share if slot.busiest else None)
    pool = _share_of_response(known, "pool_ms")
    if pool >= POOL_SHARE and _in_progress(known) < ONE_PAGE:
        return "pool"
    if core_wait < CORE_WAIT_SHARE and core >= CORE_SHARE * (1 - steal - core_wait):
        return "client CPU"
    if _mean(known, lambda slot: slot.server_machine_share) >= CORE_SHARE * (1 - steal):
        return "database"
    if core_wait >= CORE_WAIT_SHARE and core + core_wait >= CORE_SHARE * (1 - steal):
        return "machine"
    busy = _mean(known, lambda slot: slot.busiest.busy_share if slot.busiest else None)
    own = _mean(known, lambda slot: slot.own_cpu_share(slot.busiest) if slot.busiest else None)
    if busy >= MACHINE_SHARE * (1 - steal) and own >= busy / 2:
        return "machine"
    if pool >= POOL_SHARE:
        return "pool"
    if _think_share(known) >= THINK_SHARE:
        return "think time"
    return "arrivals" if sustained(known) else "users"


def _mean(slots: Sequence[Slot], share: Callable[[Slot], float | None]) -> float:
    """The mean over the slots of which it is known; 0 where that is none."""
    known = [value for value in map(share, slots) if value is not None]
    return fmean(known) if known else 0.0


def _share_of_response(slots: Sequence[Slot], part: str) -> float:
    return per(_part_ms(slots, part), _response_ms(slots)) or 0.0


def _in_progress(slots: Sequence[Slot]) -> float:
    """How many pages of a process hold a connection or work at a time, by Little's law: rate × time in progress."""
    in_progress_ms = _response_ms(slots) - _part_ms(slots, "queue_ms") - _part_ms(slots, "pool_ms")
    page_s = in_progress_ms / 1000 / sum(slot.measured.succeeded for slot in slots)
    # of each process for as long as it measured
    seconds = sum(process.seconds for slot in slots for process in slot.processes)
    return page_s * sum(slot.measured.page_equivalents for slot in slots) / seconds


def _think_share(slots: Sequence[Slot]) -> float:
    think_ms = sum(slot.measured.think_ms for slot in slots)
    return per(think_ms, think_ms + _response_ms(slots) + sum(s.measured.failed_ms for s in slots)) or 0.0


def _part_ms(slots: Sequence[Slot], part: str) -> float:
    return sum(slot.measured.parts_ms[part] for slot in slots)


def _response_ms(slots: Sequence[Slot]) -> float:
    return sum(slot.measured.response.sum_ms for slot in slots)
