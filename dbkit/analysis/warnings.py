"""What makes the figures of a result doubtful, in words.

The rules look at rows and slots; the figures themselves are computed in `dbkit.analysis.rows`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from math import ceil

from dbkit.analysis.bound import bound_by
from dbkit.analysis.condition import Condition
from dbkit.analysis.formats import listed, number, separated
from dbkit.analysis.records import ClassRow, SlotRow
from dbkit.analysis.result import WorkloadInfo
from dbkit.analysis.rows import PERCENTILES
from dbkit.analysis.slot import HUB_STACK, Slot
from dbkit.measure.cost import PARTS

CONNECTING_SHARE = 0.05
"""The share of the response time: beyond this the pool is too small for the users, and its connections come and go."""

MOST_NAMED = 20
"""A warning names so many conditions; where they are more it says how many."""

MIXED_WARNING = (
    "run mixed: these classes shared one interpreter, where they hold each other up and their ranking can invert;"
    " compare them one at a time, in rounds, by one more class in the locustfile: class Compare(Rounds): pass"
)


def warnings_of_rounds(rows: Sequence[SlotRow], planned_slots: int, *, are_planned: bool = True) -> list[str]:
    """Warnings about the slots of a schedule; how many a search runs is not planned."""
    warnings = []
    done = sum(not row.replaced for row in rows)
    if done < planned_slots:
        how_many = (
            f"{done} of {planned_slots} slots were run" if are_planned else f"the search ended after {done} slots"
        )
        warnings.append(f"cut short: {how_many}")
    if unfinished := sum(row.unfinished for row in rows):
        warnings.append(f"pages cut off, and failed, as they did not come back within --drain-timeout: {unfinished}")
    if replaced := sum(row.replaced for row in rows):
        warnings.append(f"slots disturbed by others on the machine, or incomplete, and run again: {replaced}")
    if disturbed := sum(row.disturbed and not row.replaced for row in rows):
        warnings.append(f"slots disturbed by others on the machine, and counted: {disturbed} of {done}")
    if incomplete := sum(row.incomplete and not row.replaced for row in rows):
        warnings.append(f"slots in which a worker was lost, and counted: {incomplete} of {done}")
    counted = [row for row in rows if not row.replaced]
    return warnings + _warnings_of_stalls(counted) + _warnings_of_stalled_pages(counted)


def warnings_of_processes(lost: int) -> list[str]:
    """The warning where load processes were `lost`, so that they did not report their last pages."""
    if not lost:
        return []
    how_many = "1 load process was lost: its" if lost == 1 else f"{lost} load processes were lost: their"
    return [f"{how_many} pages since the last report are missing, and fewer processes read the later ones"]


def warnings_of_workloads(workloads: Iterable[WorkloadInfo], *, in_slots: bool) -> list[str]:
    """Warnings about classes whose pages write, and which in slots do not put their data back before each."""
    advice = "; give them a reset, which runs before each slot" if in_slots else ""
    return [
        f"pages of {listed(names)} write, and their tables grow during the run{advice}"
        for info in workloads
        if (names := sorted({*info.writing_classes} - {*(info.reset_classes if in_slots else ())}))
    ]


def warnings_of_classes(rows: Sequence[ClassRow]) -> list[str]:
    """Warnings about the rows of a result."""
    warnings = [
        f"{row.label}: {row.failures} of {row.pages} pages failed; other figures are of the others"
        for row in rows
        if row.failures
    ]
    warnings += [
        f"users of {row.label} waited {number(row.backed_off_s)} s in all before they tried again to connect, and asked"
        " for no page meanwhile"
        for row in rows
        if row.backed_off_s
    ]
    # where the pool varies, that it shows what a small one costs is what was asked for
    connecting = [
        row.label
        for row in rows
        if _connecting_share(row) >= CONNECTING_SHARE and not row.settings.keys() & {"pool-size", "pool-class"}
    ]
    if connecting:
        warnings.append(
            f"pages of {_some(connecting)} spent time on opening connections; raise --pool-size, or pool_size of an"
            " engine of your own"
        )
    # where pages pile up others have been begun before, and longer slots would change nothing
    unmeasured = [
        row.label for row in rows if row.rounds and row.sustained is not False and not row.pages + row.unfinished
    ]
    if unmeasured:
        warnings.append(
            f"no page of {_some(unmeasured)} began in its slots' measured time, so that response times and costs"
            " are missing; raise --slot-time"
        )
    if unseen := [row.label for row in rows if row.pages > row.failures and row.statements == 0]:
        warnings.append(
            f"no statement of {_some(unseen)} was seen, so that time in the database counts as client: it uses"
            " an engine that dbkit does not know; give it to the class as engine"
        )
    if one_page := [words for row in rows if (words := _percentiles_of_one_page(row))]:
        warnings.append(f"too few pages, so that these are no more than the slowest page: {_some(one_page)}")
    return warnings


def warnings_of_empty_slots(rows: Sequence[SlotRow]) -> list[str]:
    """Warnings about conditions that served no page in some of their slots, but did in others."""
    slots = Counter(row.label for row in rows)
    empty = Counter(row.label for row in rows if not row.pages_per_s)
    return [
        f"{label} served no page in {count} of {slots[label]} slots, and so has no ratio of pages a second"
        for label, count in sorted(empty.items())
        if count < slots[label]  # other warnings are about one that served none at all
    ]


def warnings_of_users(slots: Iterable[Slot], labels: Mapping[Condition, str]) -> list[str]:
    """Warnings about conditions in whose slots users read too few pages, with the slot in which they were the most."""
    worst: dict[str, tuple[int, int, bool]] = {}
    for slot in slots:
        short = sum(process.users_short for process in slot.processes)
        if short > worst.get(labels[slot.condition], (0, 0, False))[0]:
            worst[labels[slot.condition]] = (short, slot.users, bound_by([slot]) == "pool")
    return [
        f"{short} of {users} users of {label} read fewer than 3 pages in a slot"
        + (", as others took the connections of a small pool" if waited else "; raise --max-slot-time")
        for label, (short, users, waited) in sorted(worst.items())
    ]


def _some(names: Sequence[str]) -> str:
    """The first of the names, and how many more there are."""
    shown = separated(names[:MOST_NAMED])
    return shown if len(names) <= MOST_NAMED else f"{shown} and {len(names) - MOST_NAMED} more"


def _warnings_of_stalls(rows: Sequence[SlotRow]) -> list[str]:
    warnings = []
    for on_hub, consequence in (
        (True, "its pages are read there, and waited for it"),
        (False, "no page waited for it"),
    ):
        stalls = [(row.label, row.hub_stall_ms) for row in rows if (row.stack == HUB_STACK) is on_hub]
        if stalled := [(label, stall_ms) for label, stall_ms in stalls if stall_ms]:
            classes = _some(sorted({label for label, _ in stalled}))
            longest_ms = number(max(stall_ms for _, stall_ms in stalled))
            warnings.append(
                f"the gevent hub stalled in {len(stalled)} slot{'' if len(stalled) == 1 else 's'} of {classes},"
                f" for up to {longest_ms} ms: {consequence}"
            )
    return warnings


def _warnings_of_stalled_pages(rows: Sequence[SlotRow]) -> list[str]:
    stalled = [row for row in rows if row.stalled]
    if not stalled:
        return []
    classes = _some(sorted({row.label for row in stalled}))
    longest_ms = number(max(row.max_ms or 0 for row in stalled))
    known_ms = [row.p99_arrivals_ms for row in stalled if row.p99_arrivals_ms is not None]
    seen = f", where people who arrive would see a p99 of up to {number(max(known_ms))} ms" if known_ms else ""
    slots = "1 slot" if len(stalled) == 1 else f"{len(stalled)} slots"
    return [
        f"pages stalled in {slots} of {classes}, for up to {longest_ms} ms: in a closed loop few pages show it{seen}"
    ]


def _percentiles_of_one_page(row: ClassRow) -> str | None:
    """The percentiles beyond which no page lies, in words: `p95 and p99 of PsycopgLazy (12 pages)`."""
    succeeded = row.pages - row.failures
    names = [
        name.removesuffix("_ms") for name, share in PERCENTILES.items() if 0 < succeeded <= ceil(share * succeeded)
    ]
    pages = "1 page" if succeeded == 1 else f"{succeeded} pages"
    return f"{listed(names)} of {row.label} ({pages})" if names else None


def _connecting_share(row: ClassRow) -> float:
    """The share of the mean response time in which connections were opened."""
    return (row.connect_ms or 0) / (sum(getattr(row, part) or 0 for part in PARTS) or 1)
