"""`python -m dbkit bench`: time each strategy on each stack, without Locust. See `dbkit.cli.bench` for the timing."""

from __future__ import annotations

import argparse
import logging
from typing import Any

from dbkit.cli.bench import BENCH_STACKS, Workload, bench, check_connections
from dbkit.cli.options import add_options, read_settings
from dbkit.database.engines import find_database
from dbkit.database.pooler import check_pooler
from dbkit.database.relay import Relays
from dbkit.database.stacks import STACKS
from dbkit.database.url import DatabaseUrl
from dbkit.paging import STRATEGIES
from dbkit.todo.dataset import read_shape


def add_command(commands: Any) -> None:
    """Add it to the subparsers of a command line."""
    command = commands.add_parser(
        "bench",
        help="time each strategy on each stack, without Locust",
        description="Read pages with each strategy on each stack, psycopg in threads and the others under asyncio, and "
        "time it. Every strategy reads its pages once before, unmeasured.",
    )
    command.set_defaults(command=_run)
    add_options(command, "bench")


def _run(options: argparse.Namespace) -> None:
    database = (options.database_url or find_database()).through(options.pooler)
    settings = read_settings(options)
    pages_there = read_shape(database).pages(options.page_size)
    workload = Workload(
        # after the last page the first again, so that every page has something to read
        pages=tuple(number % pages_there for number in range(options.pages)),
        page_size=options.page_size,
        concurrency=options.concurrency,
        settings=settings,
    )
    check_pooler(database, settings)
    check_connections(database, workload)
    # it warns of each statement that is cancelled because another page failed, or on Ctrl-C
    logging.getLogger("psycopg").setLevel(logging.ERROR)
    print(f"{options.pages} pages of {options.page_size} todos, {options.concurrency} at a time, from {database}")
    capacity = settings.pool_capacity
    pool = "no pool" if capacity is None else f"pool {settings.pool_size} + {settings.max_overflow}"
    print(f"{pool}, end {settings.end}, session close {settings.close}")
    if capacity is None:
        print("each page opens a connection and closes it again")
    elif options.concurrency > capacity:
        print(f"pages wait for a connection: the pool has {capacity} for {options.concurrency} at a time")
    elif options.concurrency > settings.pool_size:
        print(f"pages open connections and close them again: the pool keeps {settings.pool_size}; see --pool-size")
    if settings.round_trip_s:
        print(f"round trips take {settings.round_trip_s * 1000:g} ms longer, by a relay")
    relays = Relays()
    try:
        _read(relays.to(database, settings.round_trip_s), options, workload)
    finally:
        relays.stop()


def _read(database: DatabaseUrl, options: argparse.Namespace, workload: Workload) -> None:
    for stack in [options.stack] if options.stack else BENCH_STACKS:
        units = "asyncio tasks" if STACKS[stack].is_async else "threads"
        print(f"\n{stack}, {options.concurrency} {units}", flush=True)
        for timing in bench(database, stack, [options.strategy] if options.strategy else STRATEGIES, workload):
            print(timing, flush=True)
