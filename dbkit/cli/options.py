"""The table of options of `locust`, `dbkit try`, `dbkit bench`, `dbkit serve` and `seed.py`: one entry an option.

Flags, environment variables, help, the labels of the web form and the tables of docs/options.md come from it. For what
an option is see `dbkit.cli.option`; for how the text of a value is read, `dbkit.cli.values`. `seed.py` adds the options
of the dataset's shape itself.
"""

from __future__ import annotations

from typing import Any

from dbkit.analysis.condition import SPACINGS, Variation
from dbkit.cli.bench import BENCH_STACKS
from dbkit.cli.engine_options import OF_ENGINES, READERS
from dbkit.cli.option import Command, Option
from dbkit.cli.outcome_options import OF_OUTCOMES
from dbkit.cli.values import (
    ValueType,
    choice,
    database_name,
    database_url,
    duration,
    integer,
    limit,
    rounds,
    share,
    sides,
    text,
)
from dbkit.cli.variations import ladder, rates, read_variations, variations
from dbkit.database.settings import Settings
from dbkit.paging import DEFAULT_PAGE_SIZE, STRATEGIES

MOST_SEARCHED = 10_000
"""The largest load that can be searched for."""

_ANY: tuple[Command, ...] = ("seed", "bench", "try", "locust")
_TRY: tuple[Command, ...] = ("try",)
_BENCH: tuple[Command, ...] = ("bench",)

_TABLE = (
    Option(
        "database_url",
        database_url(),
        None,
        "PostgreSQL to use, as postgresql://user:password@host:port/database",
        default_words="an embedded server, with its data in .dbkit/",
        commands=_ANY,
        in_form=False,
        reported=False,
    ),
    # pages
    Option("page_size", integer(1, "todos"), DEFAULT_PAGE_SIZE, "todos on a page", commands=READERS),
    Option(
        "page_order",
        choice("random", "sequential"),
        "random",
        "which page a user reads next",
        "any one, or each in turn from the first",
    ),
    Option("think_time", duration(), 0.0, "seconds that a user waits between two pages, on average"),
    Option(
        "think_time_spread",
        share(),
        0.5,
        "share of the think time by which a wait may differ from it",
        "0 is a constant wait; with 0.5 a wait is from half to one and a half of the think time",
    ),
    Option(
        "seed",
        integer(),
        1,
        "number from which random choices start",
        "the same number gives the same pages and slots in the same order",
    ),
    Option(
        "verify_keys",
        integer(0, "keys"),
        20,
        "keys whose pages every class reads once before the run, and which must be alike",
        "the first, the last and random ones; 0 verifies nothing",
        in_form=False,
        reported=False,
    ),
    Option(
        "master_timeout",
        integer(2, "seconds"),
        60,
        "seconds without a word from the master after which a worker ends",
        "of each worker's own: a master that is lost leaves its workers loading the database for so long",
        in_form=False,
        reported=False,
    ),
    Option(
        "plans",
        choice("reads", "all", "none"),
        "reads",
        "which pages have their statements explained after the run",
        "to explain is to execute: with all also pages that write, which are rolled back, while sequences advance",
        in_form=False,
        reported=False,
    ),
    *OF_ENGINES,
    # loads and settings to compare
    Option(
        "loads",
        ladder("users"),
        "",
        "numbers of users to compare, as 1,2,5,10",
        "each class runs with each; in rounds alone",
        default_words="the number of -u",
    ),
    Option(
        "arrivals",
        rates("pages a second"),
        "",
        "pages a second that are asked for, each at its time, as 100 or 50,100,200",
        "an open loop: -u is then how many can be served at once; several rates are compared in rounds",
        default_words="none, a closed loop: each user asks when its last page has come back",
    ),
    Option(
        "arrival_spacing",
        choice(*SPACINGS),
        SPACINGS[0],
        "how arrivals follow one another",
        "poisson at random, as those of many people do, even at equal distances",
    ),
    Option(
        "vary",
        variations(lambda: VARYING),
        "",
        "settings to compare, as name=values, such as pool-size=5,10 end=rollback,commit",
        "each value with each of the others, with each class and load; a range is written as 1..20; in rounds alone",
        separator=" ",
    ),
    Option(
        "budget",
        duration(),
        0.0,
        "seconds that the rounds may take, 0 for an hour where loads or settings vary",
        "what would take longer is refused before it starts; a search for a limit ends when it is spent, with 0 after a"
        " minute for each class",
    ),
    Option(
        "limit",
        limit(),
        "",
        "limit to search for, as p95_ms < 50 or pages_per_s > 99 % of best",
        "up to which load each class keeps it, with --max-users; or which pool-size is enough, with --vary"
        " pool-size=1..20; in as many rounds as that takes",
    ),
    Option(
        "max_users",
        integer(0, "users", MOST_SEARCHED),
        0,
        "users that a search for a limit may go up to",
        default_words="none",
    ),
    Option(
        "max_arrivals",
        integer(0, "pages a second", MOST_SEARCHED),
        0,
        "pages a second that a search for a limit may go up to",
        "in an open loop, where -u is how many can be served at once",
        default_words="none",
    ),
    # rounds
    Option(
        "rounds",
        rounds(),
        5,
        "number of rounds, each with one turn of every class",
        "dbkit diff has auto, too: as many as it takes to decide, within --budget; see docs/before-after.md",
    ),
    Option("slot_time", duration(positive=True), 1.0, "seconds measured in each turn, at least"),
    Option(
        "max_slot_time",
        duration(),
        10.0,
        "seconds to which a turn may grow",
        "a turn grows until each user has read 3 pages in it, or all of them 10 on average",
    ),
    Option("warm_up", duration(), 0.3, "seconds of reading before each turn that count in no figure"),
    Option(
        "drain_timeout",
        duration(),
        10.0,
        "seconds that a page may go on after its turn, or when its user is stopped",
        "then it is cut off and counts as failed",
    ),
    Option(
        "max_in_flight",
        integer(0, "pages"),
        0,
        "pages that a process may have in flight at a time",
        "further ones wait for their turn, which is part of their response time",
        default_words="no limit",
    ),
    Option(
        "page_timeout",
        duration(positive=True),
        60.0,
        "seconds that a page or a task that is tried may take",
        "with its wait for a connection; then it is broken off and counts as failed",
        commands=("try", "locust"),
    ),
    Option(
        "calibrate",
        None,
        False,
        "measure each page function called bare as well",
        "to see what the harness takes; doubles the time",
    ),
    Option(
        "reference",
        text("class"),
        "",
        "class that the others are compared with",
        default_words="the slowest",
        reported=False,
    ),
    Option(
        "sides",
        sides(),
        "",
        "names of the two revisions that are compared, as JSON",
        "see dbkit diff",
        is_internal=True,
        reported=False,
    ),
    *OF_OUTCOMES,
    # trying classes
    Option(
        "key",
        text("key"),
        "",
        "key of the page to read, as a Python literal such as 5, 'abc' or (2, 20)",
        "or as one of the workload's keys is printed, such as a UUID",
        default_words="the first of the workload's keys",
        commands=_TRY,
    ),
    Option(
        "writes",
        None,
        False,
        "let pages of classes that write commit",
        "otherwise all that they write is rolled back; with it a class's reset runs before",
        commands=_TRY,
    ),
    # the plain benchmark
    Option(
        "pages",
        integer(1),
        25,
        "number of pages to read, from the first on",
        "after the dataset's last page comes the first again",
        commands=_BENCH,
    ),
    Option(
        "concurrency",
        integer(1),
        10,
        "number of pages read at a time",
        "by threads, or by tasks that a semaphore lets through",
        commands=_BENCH,
    ),
    Option("stack", choice(*BENCH_STACKS), None, "stack to read on", default_words="all", commands=_BENCH),
    Option("strategy", choice(*STRATEGIES), None, "strategy to read with", default_words="all", commands=_BENCH),
    # the server that is held for people to try
    Option(
        "load",
        text("filename"),
        "",
        "dump to load first",
        "plain SQL, or an archive of pg_dump -Fc; all of it, or nothing",
        commands=("serve",),
        in_form=False,
    ),
    Option(
        "data",
        text("folder"),
        "",
        "folder for the server's data",
        "other processes that use the same folder share the server",
        default_words=".dbkit/",
        commands=("serve",),
        in_form=False,
    ),
)

OPTIONS: dict[str, Option] = {option.name: option for option in _TABLE}
"""All options, by name, in the order in which they are shown.

One that belongs to a test also has a field in `dbkit.load.options.TestOptions`, for its type.
"""


VARYING: dict[str, ValueType] = {
    option.flag.removeprefix("--"): option.type
    for name in (
        *("pool_size", "max_overflow", "pool_class", "pre_ping", "statement_timeout", "jit", "round_trip"),
        *("end", "session_close", "page_size", "pooler"),
    )
    if (option := OPTIONS[name]).type is not None
} | {"database": database_name()}
"""The settings that can vary, with the types of their values."""


def read_variations_of(text: str) -> tuple[Variation, ...]:
    """The settings that vary, from the value of `--vary`. Raises DbkitError where they cannot."""
    return read_variations(text, VARYING)


def options_of(command: Command) -> list[Option]:
    """The options of one command line."""
    return [option for option in OPTIONS.values() if command in option.commands]


def add_options(parser: Any, command: Command) -> None:
    """Add the options of `command` to its parser."""
    for option in options_of(command):
        option.add_to(parser)


def read_settings(options: Any) -> Settings:
    """The `Settings` that parsed options ask for. Pages that write need others: see `Settings.read_only`."""
    return Settings(
        pool_size=options.pool_size,
        max_overflow=options.max_overflow,
        pool_timeout_s=options.pool_timeout,
        connect_timeout_s=options.connect_timeout,
        statement_timeout_s=options.statement_timeout,
        tcp_keepalive_s=options.tcp_keepalive,
        tcp_user_timeout_s=options.tcp_user_timeout,
        end=options.end,
        pool_class=options.pool_class,
        pre_ping=options.pre_ping,
        jit=options.jit,
        round_trip_s=options.round_trip,
        close=options.session_close,
        read_only=True,
    )
