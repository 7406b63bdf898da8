"""The records of a result, and the table of their columns: types, units, headings and meanings, each in one place.

A figure is one field here, and is computed in `dbkit.analysis.rows`. Everything else follows from the field: the JSON
file and the checks when it is read, the CSV files, every table, and the tables of docs/results.md.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from dbkit.analysis.columns import Column, Group, columns
from dbkit.measure.tally import SHOWN_PARTS

Number = Annotated[float, Meta(ge=-1e15, le=1e15)]
"""What tables can show, charts can draw and JavaScript holds exactly."""
Figure = Number | None
"""None where it is unknown."""
Count = Annotated[int, Meta(ge=0, le=10**15)]
Share = Annotated[float, Meta(ge=0, lt=1)]


class PageFigures(Struct, kw_only=True):
    """What a row says of the pages that a condition read, in one slot or in all."""

    condition: Annotated[
        str,
        Column(
            Group.CLASS,
            "what ran, as text that stays the same between runs; in CSV files where more than the class differs",
        ),
    ]
    label: str
    """What people see: the class, and what else differs between the conditions of the result. Unique in it."""
    workload: Annotated[str, Column(Group.CLASS, "what is read. Classes are compared within a workload only")]
    user_class: Annotated[str, Column(Group.CLASS, "a stack with a page function", heading="user class")]
    stack: Annotated[str, Column(Group.CLASS, "a driver with a concurrency model")]
    strategy: Annotated[str, Column(Group.CLASS, "how a page is loaded: the `strategy` of the class, or else its name")]
    users: Annotated[Count | None, Column(Group.CLASS, "users at a time")]
    arrivals_per_s: Annotated[
        Figure,
        Column(
            Group.CLASS,
            "pages that were asked for a second in an [open loop](open-loop.md); empty in a closed one, as all columns "
            "of arrivals",
            "pages/s",
        ),
    ] = None
    processes: Annotated[Count | None, Column(Group.CLASS, "load processes that read the pages")] = None
    settings: dict[str, str]
    """Those that vary, by name, as `{"pool-size": "5"}`: CSV files have a column for each."""

    pages: Annotated[Count, Column(Group.PAGES, "pages that began in the measured time, failed ones included")]
    failures: Annotated[
        Count,
        Column(
            Group.PAGES,
            "pages that failed. They are in no other figure but `pages` and `think_ms`",
            heading="failed",
            terminal="failed",
        ),
    ]
    unfinished: Annotated[
        Count,
        Column(
            Group.PAGES,
            "those of the failed pages that were cut off, as they had not come back within `--drain-timeout` after "
            "the slot, or after their user was stopped. In rounds also those of the warm-up, which are in no other "
            "figure",
            heading="cut off",
            terminal="cut off",
        ),
    ]
    backed_off_s: Annotated[
        Figure,
        Column(
            Group.PAGES,
            "how long users waited in all, beyond their think time, before they tried again to connect: see "
            "[below](#when-the-server-is-down). They asked for no page meanwhile",
            "s",
        ),
    ] = None
    pages_per_s: Annotated[
        Figure,
        Column(
            Group.PAGES,
            "pages a second: each page counts by the share of its time, waits for its turn and a connection left out, "
            "that lies in the measured time. "
            "For a class see [the verdicts](#the-verdicts)",
            "pages/s",
            heading="pages/s",
            terminal="pages/s",
            in_summary=True,
        ),
    ]

    sustained: Annotated[
        bool | None,
        Column(
            Group.ARRIVALS,
            "whether pages were served as fast as they were asked for; if not, response times depend on how long it "
            "was measured, and are empty",
        ),
    ] = None
    late: Annotated[
        Count | None,
        Column(Group.ARRIVALS, "pages for which no user was free when they were due", heading="late", terminal="late"),
    ] = None
    waiting: Annotated[
        Count | None,
        Column(
            Group.ARRIVALS,
            "pages that were due at the end of the measured time and waited for a user, of all slots together",
            heading="backlog",
            terminal="backlog",
        ),
    ] = None
    not_begun: Annotated[
        Count | None,
        Column(
            Group.ARRIVALS,
            "pages asked for in the measured time that were never begun, in no other figure",
            heading="not begun",
        ),
    ] = None
    longest_lag_ms: Annotated[
        Figure,
        Column(
            Group.ARRIVALS,
            "the longest time from when a page was due until it was begun",
            "ms",
            heading="longest lag",
            terminal="lag",
        ),
    ] = None
    generator_lag_ms: Annotated[
        Figure,
        Column(
            Group.ARRIVALS,
            "how late pages were begun for which a user was free: what the load generator adds",
            "ms",
            heading="generator lag",
        ),
    ] = None

    p50_ms: Annotated[
        Figure,
        Column(
            Group.RESPONSE,
            "half of the pages came within this response time, from asking for the page until it is "
            "rendered and its connection handed back; in a [closed loop](#closed-loop), or from when it is due in an "
            "[open one](open-loop.md)",
            "ms",
            heading="p50",
            terminal="p50",
            in_summary=True,
        ),
    ]
    p95_ms: Annotated[
        Figure,
        Column(
            Group.RESPONSE,
            "95 % of the pages came within this response time",
            "ms",
            heading="p95",
            terminal="p95",
            in_summary=True,
        ),
    ]
    p99_ms: Annotated[
        Figure,
        Column(
            Group.RESPONSE,
            "99 % of the pages came within this response time",
            "ms",
            heading="p99",
            terminal="p99",
            in_summary=True,
        ),
    ]
    max_ms: Annotated[Figure, Column(Group.RESPONSE, "the longest response time", "ms")]

    statements: Annotated[
        Figure,
        Column(
            Group.COUNTS, "statements that the page executed", heading="statements", terminal="stmts", in_summary=True
        ),
    ]
    round_trips: Annotated[
        Figure,
        Column(
            Group.COUNTS,
            "times that the driver waited for the server: statements, and BEGIN, COMMIT, ROLLBACK and "
            "prepares that were really sent",
            heading="round trips",
            terminal="trips",
        ),
    ]
    prepares: Annotated[
        Figure,
        Column(
            Group.COUNTS,
            "statements that the driver had the server prepare under a name, to execute them again",
            heading="prepares",
        ),
    ] = None
    rows: Annotated[Figure, Column(Group.COUNTS, "rows that the server returned", heading="rows", terminal="rows")]
    discarded_rows: Annotated[
        Figure,
        Column(
            Group.COUNTS,
            "rows that SQLAlchemy's `unique()` threw away: see [below](#rows-that-are-discarded)",
            heading="discarded",
        ),
    ] = None
    connections: Annotated[Figure, Column(Group.COUNTS, "connections opened", heading="conns")]

    queue_ms: Annotated[
        Figure, Column(Group.PARTS, "asked for, not started yet", "ms", heading="queue", terminal="queue")
    ]
    pool_ms: Annotated[
        Figure, Column(Group.PARTS, "waiting for a connection of the pool", "ms", heading="pool", terminal="pool")
    ]
    connect_ms: Annotated[
        Figure, Column(Group.PARTS, "opening a new connection", "ms", heading="connect", terminal="conn.")
    ]
    db_ms: Annotated[Figure, Column(Group.PARTS, "inside the driver: statements, BEGIN, COMMIT, ROLLBACK", "ms")]
    client_ms: Annotated[
        Figure,
        Column(
            Group.PARTS,
            "the rest: building SQL, making objects, rendering, closing the session",
            "ms",
            heading="client",
            terminal="client",
        ),
    ]
    server_wait_ms: Annotated[
        Figure,
        Column(
            Group.PARTS,
            "the part of `db_ms` in which it waited for the server and the network",
            "ms",
            heading="db",
            terminal="db",
        ),
    ]
    answer_wait_ms: Annotated[
        Figure,
        Column(
            Group.PARTS,
            "the part of `db_ms` in which an answer had come and waited for a busy Python: an "
            "[estimate](#an-answer-that-waits)",
            "ms",
            heading="answer wait",
            terminal="answer",
        ),
    ]
    think_ms: Annotated[
        Figure,
        Column(
            Group.PARTS, "the user's think time before a page, failed pages included; outside the response time", "ms"
        ),
    ]

    client_cpu_ms: Annotated[
        Figure,
        Column(
            Group.CPU,
            "CPU time of the load processes; with several, of all together",
            "ms",
            heading="client CPU",
            terminal="CPU",
            in_summary=True,
        ),
    ]
    server_cpu_ms: Annotated[
        Figure,
        Column(
            Group.CPU,
            "CPU time of the server, warm-up pages included, where it runs on the machine that conducts "
            "the run; else empty, and in a slot in which it ended",
            "ms",
            heading="server CPU",
            terminal="srv",
        ),
    ]
    relay_cpu_ms: Annotated[
        Figure, Column(Group.CPU, "CPU time of the relays of `--round-trip`; in no other figure", "ms")
    ]
    bound_by: Annotated[
        str | None,
        Column(
            Group.LIMIT,
            "what kept it from serving more pages: see [below](#what-a-class-is-bound-by)",
            heading="bound by",
            terminal="bound by",
            in_summary=True,
        ),
    ]
    largest_part: Annotated[
        str | None,
        Column(
            Group.LIMIT,
            "the largest part of a page, by its name in tables: `queue`, `pool`, `connect`, `db`, "
            "`answer wait` or `client`",
        ),
    ]


class CurvePoint(Struct, array_like=True):
    """A point of a class's response times: this share of the pages came within so many ms."""

    share: Share
    ms: Number


class ClassRow(PageFigures, kw_only=True):
    """A condition in all its slots together; or in all of a run without rounds."""

    rounds: Annotated[Count, Column(Group.CLASS, "rounds that the row rests on")]
    pages_per_s_low: Annotated[
        Figure, Column(Group.PAGES, "the lower end of its 95 % interval, by its rounds; from 3 on", "pages/s")
    ]
    pages_per_s_high: Annotated[Figure, Column(Group.PAGES, "the upper end", "pages/s")]
    p95_ms_low: Annotated[
        Figure, Column(Group.RESPONSE, "the lower end of the 95 % interval of `p95_ms`, by its rounds; from 3 on", "ms")
    ]
    p95_ms_high: Annotated[Figure, Column(Group.RESPONSE, "the upper end", "ms")]
    end: Annotated[str, Column(Group.END, "how pages end: `rollback`, `commit` or `autocommit`")]
    harness_share: Annotated[
        Figure,
        Column(
            Group.HARNESS,
            "what Locust and dbkit take of the pages a second of the page function called bare; with `--calibrate`",
            "share",
            heading="harness",
        ),
    ]
    harness_share_low: Annotated[Figure, Column(Group.HARNESS, "the lower end of its 95 % interval", "share")]
    harness_share_high: Annotated[Figure, Column(Group.HARNESS, "the upper end of its 95 % interval", "share")]
    response_curve: list[CurvePoint]


class SlotRow(PageFigures, kw_only=True):
    """A condition in one slot."""

    slot: Annotated[Count, Column(Group.SLOT, "its number")]
    round: Annotated[Count, Column(Group.SLOT, "the round that it belongs to")]
    began_s: Annotated[Number, Column(Group.CLASS, "when it began, since the schedule began", "s")]
    seconds: Annotated[Number, Column(Group.CLASS, "how long it was measured", "s")]
    warm_up_pages: Annotated[Count, Column(Group.MACHINE, "pages that began in the warm-up; in no time and no count")]
    client_cpu_share: Annotated[
        Figure, Column(Group.MACHINE, "what the busiest load process used of one core", "share")
    ]
    core_wait_share: Annotated[
        Figure,
        Column(
            Group.MACHINE,
            "how long that process was ready for a core and waited; with `client_cpu_share` 1 at the most",
            "share",
        ),
    ]
    server_cpu_share: Annotated[Figure, Column(Group.MACHINE, "what the server used of one core", "share")]
    other_cpu_share: Annotated[
        Figure, Column(Group.MACHINE, "what neither load nor server used of the machine", "share")
    ]
    steal_share: Annotated[Figure, Column(Group.MACHINE, "what the machine's hypervisor gave to others", "share")]
    pressure_share: Annotated[
        Figure, Column(Group.MACHINE, "how long some task waited for a core, of the time", "share")
    ]
    hub_lag_ms: Annotated[Figure, Column(Group.MACHINE, "how late the gevent hub woke a sleeper", "ms")]
    lane_lag_ms: Annotated[
        Figure,
        Column(
            Group.MACHINE,
            "how long an answer that is there waits until it is read, where the pages are read: on the "
            "hub or in the asyncio loop, sampled by a byte in a pipe; in native threads, how late a "
            "sleeper gets the interpreter lock",
            "ms",
        ),
    ]
    hub_stall_ms: Annotated[
        Figure,
        Column(
            Group.MACHINE,
            "the longest time for which the hub let nothing run, where that is over 25 ms and over four "
            "times the usual; else 0. Pages of `psycopg`, which are read in greenlets, wait meanwhile; "
            "others do not",
            "ms",
        ),
    ]
    p95_arrivals_ms: Annotated[
        Figure,
        Column(
            Group.RESPONSE,
            "in a stalled slot of a closed loop, about what `p95_ms` would be for people who [arrive at the same "
            "rate](open-loop.md#stalls); empty where that cannot be said",
            "ms",
        ),
    ] = None
    p99_arrivals_ms: Annotated[Figure, Column(Group.RESPONSE, "the same of `p99_ms`", "ms")] = None
    stalled: Annotated[
        bool,
        Column(
            Group.STATE,
            "in a closed loop: a page took 10 times as long as it is from one page of a user to the next on average",
        ),
    ] = False
    disturbed: Annotated[bool, Column(Group.STATE, "others took much of the machine")]
    incomplete: Annotated[bool, Column(Group.STATE, "a worker was lost or did not report")]
    replaced: Annotated[bool, Column(Group.STATE, "the slot was run again, and this row counts in no figure")]


class BareRow(Struct, kw_only=True):
    """A slot in which a page function was called bare."""

    slot: Annotated[Count, Column(Group.SLOT, "its number")]
    round: Annotated[Count, Column(Group.SLOT, "the round that it belongs to")]
    condition: Annotated[str, Column(Group.CLASS, "what ran")]
    label: str
    user_class: Annotated[str, Column(Group.CLASS, "the class whose page function was called")]
    seconds: Annotated[Number, Column(Group.CLASS, "how long it was measured", "s")]
    pages_per_s: Annotated[Figure, Column(Group.PAGES, "pages a second, called bare", "pages/s")]
    client_cpu_ms: Annotated[Figure, Column(Group.CPU, "CPU time of the load processes a page", "ms")]
    steal_share: Annotated[Figure, Column(Group.MACHINE, "what the machine's hypervisor gave to others", "share")]


class Verdict(Struct, kw_only=True):
    """How a condition compares with another one by one quantity.

    Raises ValueError where an interval has one end, or no ratio.
    """

    workload: Annotated[str, Column(Group.VERDICT, "the workload of both")]
    quantity: Annotated[str, Column(Group.VERDICT, "the column that is compared")]
    differs_in: Annotated[
        str,
        Column(Group.VERDICT, "in what alone the two differ: `class`, `load`, or the name of a setting"),
    ]
    condition: Annotated[str, Column(Group.VERDICT, "what is compared")]
    label: Annotated[str, Column(Group.VERDICT, "its name in tables: the class, and what else differs")]
    reference: Annotated[str, Column(Group.VERDICT, "the name of what it is compared with")]
    ratio: Annotated[Figure, Column(Group.VERDICT, "how many times the reference's value it has; empty without one")]
    low: Annotated[Figure, Column(Group.VERDICT, "the lower end of the 95 % interval; empty below 3 rounds")]
    high: Annotated[Figure, Column(Group.VERDICT, "the upper end")]
    shown: Annotated[bool, Column(Group.VERDICT, "a difference is shown: the interval leaves out 1")]
    within_harness: Annotated[bool, Column(Group.VERDICT, "the harness could be all of the difference")]
    rounds: Annotated[Count, Column(Group.VERDICT, "rounds that it rests on")]
    rounds_needed: Annotated[
        Count | None, Column(Group.VERDICT, "rounds that would be enough, where these are too few")
    ]
    steal_adjusted: Annotated[bool, Column(Group.VERDICT, "stolen time was taken out: see [the method](#the-verdicts)")]
    sentence: Annotated[str, Column(Group.VERDICT, "the same in words")]

    def __post_init__(self) -> None:
        if (self.low is None) != (self.high is None) or (self.low is not None and self.ratio is None):
            raise ValueError("an interval has two ends and a ratio between them")


def table_columns(*groups: Group) -> list[Column]:
    """The columns of `groups` that tables of conditions show, in the order of the groups; parts as they begin."""
    shown = [column for column in columns(ClassRow) if column.heading and column.group in groups]
    begin = {name: place for place, name in enumerate(SHOWN_PARTS)}
    return sorted(shown, key=lambda column: (groups.index(column.group), begin.get(column.name, 0)))
