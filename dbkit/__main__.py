"""dbkit's own commands, `python -m dbkit bench` and `report`. Making the dataset is `seed.py`'s, load tests Locust's.

A subcommand is a function `(options) -> None` that prints; its options are added in `_parse`, and its work is a
module's.
"""

from __future__ import annotations

import argparse
import logging
import sys

from dbkit.arguments import (
    ArgumentParser,
    add_database_url,
    add_page_size,
    add_settings,
    exit_on_mistake,
    read_settings,
    whole_number,
)
from dbkit.bench import BENCH_STACKS, Workload, bench, check_connections
from dbkit.comparison import read_comparison
from dbkit.database import find_database
from dbkit.dataset import read_shape
from dbkit.files import check_distinct, write_text
from dbkit.paging import STRATEGIES
from dbkit.report import report
from dbkit.summary import summary

PROG = "python -m dbkit"


def main() -> None:
    options = _parse()
    options.command(options)


def _bench(options: argparse.Namespace) -> None:
    database = options.database_url or find_database()
    settings = read_settings(options)
    pages_there = read_shape(database).pages(options.page_size)
    workload = Workload(
        # after the last page the first again, so that every page has something to read
        pages=tuple(number % pages_there for number in range(options.pages)),
        page_size=options.page_size,
        concurrency=options.concurrency,
        settings=settings,
    )
    check_connections(database, workload)
    # it warns of each statement that is cancelled because another page failed, or on Ctrl-C
    logging.getLogger("psycopg").setLevel(logging.ERROR)
    print(f"{options.pages} pages of {options.page_size} todos, {options.concurrency} at a time, from {database}")
    print(f"pool {settings.pool_size} + {settings.max_overflow}, end {settings.end}, session close {settings.close}")
    if options.concurrency > settings.pool_capacity:
        print(f"pages wait for a connection: the pool has {settings.pool_capacity} for {options.concurrency} at a time")
    elif options.concurrency > settings.pool_size:
        print(f"pages open connections and close them again: the pool keeps {settings.pool_size}; see --pool-size")
    for stack in [options.stack] if options.stack else BENCH_STACKS:
        units = "threads" if stack == "psycopg-threads" else "asyncio tasks"
        print(f"\n{stack}, {options.concurrency} {units}", flush=True)
        for timing in bench(database, stack, [options.strategy] if options.strategy else STRATEGIES, workload):
            print(timing, flush=True)


def _report(options: argparse.Namespace) -> None:
    content = read_comparison(options.comparison)
    output = options.output or f"{options.comparison.removesuffix('.json').removesuffix('_comparison')}_report.html"
    to_standard_output = options.summary == "-"
    paths = {"the file to read": options.comparison, "--output": output}
    if options.summary and not to_standard_output:
        paths["--summary"] = options.summary
    check_distinct(paths)
    write_text(output, report(content), option="--output")
    print(output, file=sys.stderr if to_standard_output else sys.stdout)
    if to_standard_output:
        print(summary(content), end="")
    elif options.summary:
        write_text(options.summary, summary(content), option="--summary")
        print(options.summary)


def _parse() -> argparse.Namespace:
    parser = ArgumentParser(prog=PROG, description="Which way of loading list pages is fastest on your PostgreSQL.")
    parser.set_defaults(command=lambda options: parser.print_help())
    commands = parser.add_subparsers(title="commands", metavar="<command>")

    command = commands.add_parser(
        "bench",
        help="time each strategy on each stack, without Locust",
        description="Read pages with each strategy on each stack, psycopg in threads and the others under asyncio, and "
        "time it. Every strategy reads its pages once before, unmeasured.",
    )
    command.set_defaults(command=_bench)
    command.add_argument(
        "--pages",
        type=whole_number(1),
        default=25,
        metavar="<number>",
        help="pages to read, from the first on; after the dataset's last one, the first again; default 25",
    )
    command.add_argument(
        "--concurrency",
        type=whole_number(1),
        default=10,
        metavar="<number>",
        help="pages read at a time: threads, or tasks that a semaphore lets through; default 10",
    )
    command.add_argument("--stack", choices=BENCH_STACKS, help="this stack alone; default all")
    command.add_argument("--strategy", choices=tuple(STRATEGIES), help="this strategy alone; default all")
    add_page_size(command)
    add_database_url(command)
    add_settings(command)

    command = commands.add_parser(
        "report",
        help="make the report of a comparison again, from its JSON file",
        description="Make the HTML report of a comparison from the JSON file that `locust --csv` left, and print where "
        "it is.",
    )
    command.set_defaults(command=_report)
    command.add_argument("comparison", metavar="<prefix>_comparison.json", help="the file to read")
    command.add_argument(
        "--output",
        metavar="<file>",
        help="where to write the report; default <prefix>_report.html, beside what is read",
    )
    command.add_argument(
        "--summary", metavar="<file>", help="write a short summary in Markdown too; - for standard output"
    )

    options: argparse.Namespace = parser.parse_args()
    return options


if __name__ == "__main__":
    exit_on_mistake(PROG, main)
