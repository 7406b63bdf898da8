"""What Locust and `dbkit.load` cost: a user class's pages a second, beside its page function called bare.

    python -m benchmarks.through_locust

Each stack has two processes, which take turns. In the one, headless Locust runs the user class. In the other there is
no Locust, and as many readers call `dbkit.paging.read_page` for one page after another: greenlets in a process patched
by gevent for psycopg, tasks in a uvloop loop in the main thread for the async stacks. In every round each process has a
slot, the two of a stack one after the other, and now this one first, now that; a slot ends with the last of its pages.
The first slots open connections and warm up, unmeasured. Ratios and their intervals are `dbkit.verdict`'s.

Both sides read the same pages in the same order, and take their settings from dbkit's environment variables. Unlike
elsewhere the pool keeps a connection for each user. With fewer (DBKIT_POOL_SIZE=5), a pool closes connections and opens
others as the pages of several users happen to end together. Locust's users begin their next page a little later than
bare readers, so that this happens more often to theirs, and that becomes the larger part of what is measured.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import chain, cycle
from typing import Any

import uvloop
from rich.console import Console
from rich.progress import track
from rich.table import Table

from dbkit.arguments import (
    ArgumentParser,
    add_page_size,
    add_settings,
    exit_on_mistake,
    read_settings,
    seconds,
    whole_number,
)
from dbkit.database import STACKS, Stack, find_database, make_async_engine, make_engine
from dbkit.dataset import read_shape
from dbkit.errors import DbkitError
from dbkit.machine import CORES, ServerProcesses, read_machine
from dbkit.paging import STRATEGIES, read_page, read_page_async
from dbkit.verdict import MIN_ROUNDS, PAGES_PER_S, Observation, compare

PROG = "python -m benchmarks.through_locust"
SIDES = ("bare", "Locust")
USERS = 10
ASKED_RATIO = 0.9
"""What is asked of Locust: its pages a second by those called bare."""


@dataclass(frozen=True)
class Slot:
    """What one process did in one slot, and what the machine did meanwhile."""

    pages: int
    seconds: float
    cpu_s: float
    steal: float | None = None
    """Share of the machine's CPU time, 0 to 1."""


Slots = dict[tuple[Stack, str], list[Slot]]
"""All slots of each stack and side, in the order of the rounds."""


# The process that compares


def main() -> None:
    options = _parse()
    if options.serve:
        stack, side = options.serve
        _serve(stack, side, options.strategy)
        return
    database = find_database()
    read_shape(database)
    os.environ.setdefault("DBKIT_POOL_SIZE", str(USERS))
    shared = _shared_options()
    slots: Slots = {(stack, side): [] for stack in STACKS for side in SIDES}
    with ExitStack() as readers:
        read_for = {key: readers.enter_context(_reader(*key)) for key in slots}
        for read in read_for.values():
            read(options.slot_time)
        server = ServerProcesses.find(database)
        began_s, busy_s = time.perf_counter(), _busy_s(server)
        for number in track(range(options.rounds), "rounds", console=Console(stderr=True), transient=True):
            for stack in STACKS:
                for side in SIDES if number % 2 else reversed(SIDES):
                    slots[stack, side].append(read_for[stack, side](options.slot_time))
        elapsed_s, busy_s = time.perf_counter() - began_s, _busy_s(server) - busy_s
    others = (busy_s - sum(slot.cpu_s for slot in chain(*slots.values()))) / elapsed_s
    console = Console()
    console.print(f"{options.strategy}, {shared.page_size} todos, {USERS} users, {options.rounds} rounds")
    console.print(read_settings(shared), _table(slots))
    console.print(
        f"Whatever else ran on this machine took {others:.2f} of its {CORES} cores. The ratios hold if that is little:"
        " of two threads, those of Locust's async users, others take less than of one."
    )


def _table(slots: Slots) -> Table:
    table = Table()
    table.add_column("stack")
    for heading in ("bare\npages/s", "Locust\npages/s", "Locust / bare\n95 % interval", f"{ASKED_RATIO}\nor more"):
        table.add_column(heading, justify="right")
    for side in SIDES:
        table.add_column(f"{side}\nCPU ms/page", justify="right")
    for stack in STACKS:
        rates, cpu_ms, observations = [], [], []
        for side in SIDES:
            mine = slots[stack, side]
            pages = sum(slot.pages for slot in mine)
            rates.append(f"{pages / sum(slot.seconds for slot in mine):.0f}")
            cpu_ms.append(f"{sum(slot.cpu_s for slot in mine) * 1000 / pages:.2f}")
            for number, slot in enumerate(mine):
                observations.append(Observation(side, number, slot.pages / slot.seconds, slot.steal))
        comparison = compare(observations, "bare", PAGES_PER_S)["Locust"]
        assert comparison.low is not None and comparison.high is not None  # the rounds are enough
        ratio = f"{comparison.ratio:.3f} [{comparison.low:.3f}, {comparison.high:.3f}]"
        is_enough = "yes" if comparison.low >= ASKED_RATIO else "no" if comparison.high < ASKED_RATIO else "not shown"
        table.add_row(stack, *rates, ratio, is_enough, *cpu_ms)
    return table


def _busy_s(server: ServerProcesses | None) -> float:
    """CPU time that this machine has spent so far on all but the database server; NaN where it is not known."""
    busy_s, server_s = read_machine().busy_s, server.cpu_s() if server else 0.0
    return math.nan if busy_s is None or server_s is None else busy_s - server_s


@contextmanager
def _reader(stack: Stack, side: str) -> Iterator[Callable[[float], Slot]]:
    """A process that reads pages, as a function that has it read for so many seconds."""
    patched = ["gevent.monkey", "--module"] if stack == "psycopg" or side == "Locust" else []
    command = [sys.executable, "-m", *patched, "benchmarks.through_locust", *sys.argv[1:], "--serve", stack, side]
    with (
        tempfile.TemporaryFile("w+") as log,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):

        def read_for(slot_s: float) -> Slot:
            assert process.stdin is not None and process.stdout is not None
            before = read_machine()
            print(slot_s, file=process.stdin, flush=True)
            answer = process.stdout.readline()
            after = read_machine()
            if not answer:
                log.seek(0)
                raise DbkitError(f"{stack}, {side}: the process ended; {log.read().strip() or 'it says nothing'}")
            _, steal, _ = after.shares_since(before)
            return replace(Slot(**json.loads(answer)), steal=steal)

        yield read_for


# The processes that read


def _serve(stack: Stack, side: str, strategy: str) -> None:
    if side == "Locust":
        _serve_locust(stack, strategy)
    elif stack == "psycopg":
        _serve_greenlets(strategy)
    else:
        _serve_tasks(stack, strategy)


def _answer(commands: Iterable[str], read_until: Callable[[float], int]) -> None:
    """To each line, a number of seconds, read pages that long and answer with the slot."""
    for line in commands:
        started_s, cpu_s = time.perf_counter(), time.process_time()
        pages = read_until(started_s + float(line))
        slot = Slot(pages, time.perf_counter() - started_s, time.process_time() - cpu_s)
        print(json.dumps(asdict(slot)), flush=True)


def _serve_greenlets(strategy: str) -> None:
    import gevent

    options, users = _shared_options(), _page_numbers()
    settings = read_settings(options)
    engine = make_engine(find_database(), settings)

    def user(pages: Iterator[int], until_s: float) -> int:
        read = 0
        while time.perf_counter() < until_s:
            read_page(engine, STRATEGIES[strategy], next(pages), options.page_size, settings.end)
            read += 1
        return read

    def read_until(until_s: float) -> int:
        greenlets = [gevent.spawn(user, pages, until_s) for pages in users]
        return sum(greenlet.get() for greenlet in greenlets)

    _answer(sys.stdin, read_until)
    engine.dispose()


def _serve_tasks(stack: Stack, strategy: str) -> None:
    options, users = _shared_options(), _page_numbers()
    settings = read_settings(options)
    engine = make_async_engine(find_database(), stack, settings)

    async def user(pages: Iterator[int], until_s: float) -> int:
        read = 0
        while time.perf_counter() < until_s:
            page = next(pages)
            await read_page_async(engine, STRATEGIES[strategy], page, options.page_size, settings.end, settings.close)
            read += 1
        return read

    async def read_until(until_s: float) -> int:
        return sum(await asyncio.gather(*(user(pages, until_s) for pages in users)))

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        _answer(sys.stdin, lambda until_s: runner.run(read_until(until_s)))
        runner.run(engine.dispose())


def _serve_locust(stack: Stack, strategy: str) -> None:
    import gevent
    import locust.main
    from gevent.fileobject import FileObject
    from locust.env import Environment

    def serve(environment: Environment) -> None:
        from dbkit.load.state import load_of

        gate, stats, runner = load_of(environment).gate, environment.stats, environment.runner
        assert runner is not None

        def park_users() -> None:
            gate.close()
            gate.drain(timeout_s=60)

        def read_until(until_s: float) -> int:
            before = int(stats.num_requests)
            gate.open(gate.slot)
            gevent.sleep(until_s - time.perf_counter())
            park_users()
            if stats.errors:
                raise RuntimeError(f"pages failed: {[error.error for error in stats.errors.values()]}")
            return int(stats.num_requests) - before

        try:
            park_users()
            _answer(FileObject(sys.stdin.fileno(), "r", closefd=False), read_until)
        finally:
            runner.quit()

    def on_init(environment: Environment, **_: Any) -> None:
        environment.events.spawning_complete.add_listener(lambda **_: gevent.spawn(serve, environment))

    locust.events.init.add_listener(on_init)
    sys.argv = [
        *("locust", "--locustfile", "locustfiles/compare.py", "--headless", "--only-summary", "--loglevel", "WARNING"),
        *("--users", str(USERS), "--spawn-rate", str(USERS), "--page-order", "sequential", "--think-time", "0"),
        stack.title().replace("-", "") + strategy.title(),
    ]
    locust.main.main()


def _page_numbers() -> list[Iterator[int]]:
    """For each user the pages that it reads, as under Locust with `--page-order sequential`."""
    pages = read_shape(find_database()).pages(_shared_options().page_size)
    return [cycle(range(pages)) for _ in range(USERS)]


def _shared_options() -> argparse.Namespace:
    """The options that Locust has too, from the environment."""
    parser = ArgumentParser(prog=PROG)
    add_page_size(parser)
    add_settings(parser)
    options: argparse.Namespace = parser.parse_args([])
    return options


def _parse() -> argparse.Namespace:
    parser = ArgumentParser(
        prog=PROG,
        description=f"Pages/s of a user class through Locust beside its page function called bare, {USERS} users each."
        " Settings are read from the environment, as DBKIT_END=commit.",
    )
    parser.add_argument("--rounds", type=whole_number(MIN_ROUNDS), default=40, metavar="<number>", help="default 40")
    parser.add_argument(
        "--slot-time", type=seconds(0, above=True), default=0.5, metavar="<seconds>", help="of each side; default 0.5"
    )
    parser.add_argument("--strategy", choices=tuple(STRATEGIES), default="joined", help="default joined")
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)  # the stack and side of a process that reads
    options: argparse.Namespace = parser.parse_args()
    return options


if __name__ == "__main__":
    exit_on_mistake(PROG, main)
