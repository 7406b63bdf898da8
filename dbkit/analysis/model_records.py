"""The records of what models say beyond what was measured; what was measured is in `dbkit.analysis.records`."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Struct

from dbkit.analysis.columns import Column, Group
from dbkit.analysis.records import Count, Figure, Number


class Forecast(Struct, kw_only=True):
    """What a condition would do with another setting: see `dbkit.analysis.forecast`."""

    workload: Annotated[str, Column(Group.CLASS, "what is read")]
    condition: Annotated[str, Column(Group.CLASS, "what ran, and what the forecast rests on")]
    label: str
    user_class: Annotated[str, Column(Group.CLASS, "its class")]
    users: Annotated[Count, Column(Group.SETTING, "users at a time")]
    pool_size: Annotated[Count, Column(Group.SETTING, "connections that each process may have, overflow included")]
    processes: Annotated[Count, Column(Group.SETTING, "load processes")]
    round_trip_ms: Annotated[Number, Column(Group.SETTING, "what the network takes of each round trip", "ms")]
    pages_per_s: Annotated[Number, Column(Group.PAGES, "pages a second, as a forecast", "pages/s")]
    response_ms: Annotated[Number, Column(Group.RESPONSE, "mean response time, as a forecast", "ms")]
    pool_ms: Annotated[Number, Column(Group.PARTS, "the part of it in which a page waits for a connection", "ms")]
    bound_by: Annotated[
        str, Column(Group.LIMIT, "what would bind it; `round trips` where these are half of the response time or more")
    ]
    rests_on_round_trip_ms: Annotated[
        Number, Column(Group.MEASURED, "what it rests on: the network's part of a round trip", "ms")
    ]
    rests_on_pages_per_s: Annotated[Number, Column(Group.MEASURED, "the pages a second that were measured", "pages/s")]
    rests_on_response_ms: Annotated[Number, Column(Group.MEASURED, "the mean response time that was measured", "ms")]
    measured_pages_per_s: Annotated[
        Figure, Column(Group.MEASURED, "pages a second where the very setting was measured too; else empty", "pages/s")
    ]
    measured_response_ms: Annotated[Figure, Column(Group.MEASURED, "the mean response time of that", "ms")]
    pages_per_s_error: Annotated[
        Figure, Column(Group.MEASURED, "by which share more pages a second were forecast than measured", "share")
    ] = None
    response_ms_error: Annotated[Figure, Column(Group.MEASURED, "the same of the mean response time", "share")] = None


class LawPoint(Struct, kw_only=True):
    """A load that a law was fitted to."""

    users: Annotated[Count, Column(Group.SETTING, "users at a time")]
    pages_per_s: Annotated[Number, Column(Group.PAGES, "pages a second, the geometric mean of the rounds", "pages/s")]
    residual: Annotated[
        Figure, Column(Group.LAW, "how far that is above the law, or below it; empty without a fit", "share")
    ]


class Law(Struct, kw_only=True):
    """The Universal Scalability Law of a class: see `dbkit.analysis.scaling`. Without a fit the figures are None."""

    workload: Annotated[str, Column(Group.CLASS, "what is read")]
    label: Annotated[str, Column(Group.CLASS, "the class, and what else differs but the number of users")]
    user_class: Annotated[str, Column(Group.CLASS, "the class")]
    rounds: Annotated[Count, Column(Group.CLASS, "rounds that the fit rests on")]
    one_user_pages_per_s: Annotated[Figure, Column(Group.LAW, "pages a second that one user is served", "pages/s")]
    contention: Annotated[
        Figure, Column(Group.LAW, "share of a page for which pages wait in line, so that pages a second level off")
    ]
    contention_low: Annotated[Figure, Column(Group.LAW, "the lower end of its 95 % interval; empty below 5 rounds")]
    contention_high: Annotated[Figure, Column(Group.LAW, "the upper end")]
    coherence: Annotated[
        Figure, Column(Group.LAW, "share of a page that each other user costs, so that pages a second fall at last")
    ]
    coherence_low: Annotated[Figure, Column(Group.LAW, "the lower end of its 95 % interval")]
    coherence_high: Annotated[Figure, Column(Group.LAW, "the upper end")]
    peak_users: Annotated[Figure, Column(Group.LAW, "users with which pages a second are the most; empty for no peak")]
    peak_users_low: Annotated[Figure, Column(Group.LAW, "the lower end of its 95 % interval")]
    peak_users_high: Annotated[Figure, Column(Group.LAW, "the upper end; empty where there may be no peak")]
    peak_pages_per_s: Annotated[Figure, Column(Group.LAW, "pages a second at the peak", "pages/s")]
    points: list[LawPoint]
    sentence: Annotated[str, Column(Group.LAW, "the same in words, or why there is no fit")]


class LimitFound(Struct, kw_only=True):
    """How far a class keeps the limit of `--limit`: see `dbkit.analysis.search`."""

    workload: Annotated[str, Column(Group.CLASS, "what is read")]
    label: Annotated[str, Column(Group.CLASS, "the class, and what else differs but what is searched")]
    user_class: Annotated[str, Column(Group.CLASS, "the class")]
    limit: Annotated[str, Column(Group.LIMIT, "the limit, as `p95_ms < 50`")]
    figure: Annotated[str, Column(Group.LIMIT, "the column that it is on")]
    bound: Annotated[
        Figure, Column(Group.LIMIT, "what the figure is compared with, in its unit; of a share, that of the best value")
    ]
    along: Annotated[str, Column(Group.SETTING, "what is searched: `users`, or a setting")]
    sought: Annotated[
        Literal["largest", "smallest"], Column(Group.SETTING, "the `largest` or the `smallest` that keeps it")
    ]
    at: Annotated[Figure, Column(Group.SETTING, "the answer; empty where none keeps it, or nothing is known")]
    low: Annotated[Figure, Column(Group.SETTING, "the lower end of its 95 % interval; 0 where maybe none does")]
    high: Annotated[Figure, Column(Group.SETTING, "the upper end; empty where maybe none does")]
    last: Annotated[Number, Column(Group.SETTING, "the largest value that could be tried")]
    condition: Annotated[str | None, Column(Group.MEASURED, "what ran at the answer")]
    pages_per_s: Annotated[Figure, Column(Group.MEASURED, "pages a second there", "pages/s")]
    then: Annotated[
        str | None,
        Column(Group.MEASURED, "what bound the next one that was measured and does not keep it, as `client CPU`"),
    ]
    round_trip_ms: Annotated[
        Figure, Column(Group.MEASURED, "the shortest round trip to the database, `--round-trip` included", "ms")
    ]
    slots: Annotated[Count, Column(Group.MEASURED, "slots that it rests on")]
    state: Annotated[
        Literal["found", "searching", "budget spent", "cut short"],
        Column(Group.STATE, "`found` where the interval is as narrow as it has to be; else why it is not"),
    ]
    sentence: Annotated[str, Column(Group.LIMIT, "the same in words")]
