"""What Locust and `dbkit.load` cost: a user class beside its page function called bare.

    python -m benchmarks.through_locust                          # every stack; joined, core, lazy; 1, 10 and 50 users
    python -m benchmarks.through_locust --users 10 --rounds 20   # the narrower intervals of one number of users

Each class has two processes, which take turns: headless Locust, and bare readers (`benchmarks.readers`). In every round
each process has several slots, the two of a stack one after the other, and now this one first, now that; a slot ends
with the last of its pages. The first slots open connections and warm up, unmeasured.

Every round has processes of its own, and is one observation. Two processes of the same program differ by some percent
for as long as they live, as memory and hashes lie elsewhere in each: more slots of the same two would narrow an
interval around that difference. Ratios and their intervals are made as those of classes are, by
`dbkit.analysis.verdict`.

What is asked of Locust with 10 users: at least 0.97 of the bare pages a second, at most 1.03 of the CPU time a page and
1.15 of the p95. Exit code 1 where the middle of an interval falls short of that.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import chain, product
from math import log
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.readers import PATCHED, ReadFor, Slot, answer, bare_reader, reader, shared_options, user_class
from dbkit.analysis.verdict import CLIENT_CPU_MS, MIN_ROUNDS, PAGES_PER_S, Observation, Quantity, compare, response_time
from dbkit.cli.arguments import ArgumentParser, exit_on_mistake
from dbkit.cli.values import duration, integer
from dbkit.database.engines import find_database
from dbkit.database.server import ServerProcesses
from dbkit.database.stacks import STACKS
from dbkit.measure.machine import CORES, read_machine
from dbkit.output.terminal import output_console
from dbkit.paging import STRATEGIES
from dbkit.todo.dataset import read_shape

PROG = "python -m benchmarks.through_locust"
BARE, LOCUST = "bare", "Locust"
USERS = (1, 10, 50)
STRATEGIES_READ = ("joined", "core", "lazy")
ASKED_USERS = 10


@dataclass(frozen=True)
class Figure:
    """One thing that is compared, and what is asked of it."""

    heading: str
    quantity: Quantity
    at_least: float | None = None
    at_most: float | None = None

    def value(self, slot: Slot) -> float:
        return {
            "pages/s": slot.pages / slot.seconds,
            "CPU a page": slot.cpu_s * 1000 / slot.pages,
            "p50": slot.p50_ms,
            "p95": slot.p95_ms,
        }[self.heading]

    @property
    def asked(self) -> str:
        return f"{self.at_least} or more" if self.at_least else f"{self.at_most} or less" if self.at_most else ""

    def is_met(self, ratio: float) -> bool:
        return (self.at_least is None or ratio >= self.at_least) and (self.at_most is None or ratio <= self.at_most)


FIGURES = (
    Figure("pages/s", PAGES_PER_S, at_least=0.97),
    Figure("CPU a page", CLIENT_CPU_MS, at_most=1.03),
    Figure("p50", response_time("p50")),
    Figure("p95", response_time("p95"), at_most=1.15),
)

Slots = dict[tuple[str, str], list[Slot]]
"""What each stack and side did in each round."""


def main() -> None:
    options = _parse()
    if options.serve:
        _serve_locust(*options.serve)
        return
    read_shape(find_database())
    console = output_console(piped_width=110)
    fallen_short: list[str] = []
    shared = shared_options()
    console.print(
        f"{options.rounds} rounds of {options.slots} slots of {options.slot_time:g} s, {shared.page_size} todos a page,"
        f" pages end by {shared.end}, sessions close by {shared.session_close}, a connection for each user\n"
    )
    for users, strategy in product(options.users, options.strategies):
        slots, others = _measure(options, strategy, users)
        table, short = _table(slots, strategy, users)
        console.print(table)
        console.print(f"Other processes took {others:.2f} of this machine's {CORES} cores meanwhile.\n")
        fallen_short += short
    if fallen_short:
        console.print(f"Less than what is asked for: {', '.join(fallen_short)}")
        sys.exit(1)


def _measure(options: argparse.Namespace, strategy: str, users: int) -> tuple[Slots, float]:
    """The rounds of all stacks, and how many cores were used meanwhile by neither these processes nor the server."""
    slots: Slots = {(stack, side): [] for stack in options.stacks for side in (BARE, LOCUST)}
    server = ServerProcesses.find(find_database())
    reading_s = others_cpu_s = 0.0
    what = f"{strategy}, {users} users"
    for _ in track(range(options.rounds), what, console=Console(stderr=True), transient=True):
        with ExitStack() as readers:
            read_for = {
                (stack, side): readers.enter_context(SIDES[side](stack, strategy, users)) for stack, side in slots
            }
            for read in read_for.values():
                read(options.slot_time)
            began_s, busy_s = time.perf_counter(), _busy_s(server)
            of_round: Slots = {each: [] for each in slots}
            for number, stack in product(range(options.slots), options.stacks):
                for side in (BARE, LOCUST) if number % 2 else (LOCUST, BARE):
                    of_round[stack, side].append(read_for[stack, side](options.slot_time))
            reading_s += time.perf_counter() - began_s
            others_cpu_s += _busy_s(server) - busy_s - sum(slot.cpu_s for slot in chain(*of_round.values()))
        for each, its_slots in of_round.items():
            slots[each].append(Slot.together(its_slots))
    return slots, others_cpu_s / reading_s


def _table(slots: Slots, strategy: str, users: int) -> tuple[Table, list[str]]:
    table = Table(title=f"{strategy}, {users} {'user' if users == 1 else 'users'}: Locust ÷ bare, 95 % intervals")
    table.add_column("stack")
    for figure in FIGURES:
        table.add_column(f"{figure.heading}\n{figure.asked if users == ASKED_USERS else ''}", justify="right")
    table.add_column("bare\npages/s", justify="right")
    fallen_short = []
    for stack in dict.fromkeys(stack for stack, _ in slots):
        cells = []
        for figure in FIGURES:
            observations = [
                Observation(side, number, figure.value(slot), slot.steal)
                for side in (BARE, LOCUST)
                for number, slot in enumerate(slots[stack, side])
            ]
            comparison = compare(observations, BARE, figure.quantity)[LOCUST]
            assert comparison.ratio is not None and comparison.low is not None and comparison.high is not None
            is_met = users != ASKED_USERS or figure.is_met(comparison.ratio)
            if not is_met:
                fallen_short.append(f"{figure.heading} of {stack} {strategy}")
            half_width = log(comparison.high / comparison.low) / 2
            cells.append(f"{comparison.ratio:.3f} ± {half_width:.3f}{'' if is_met else ' !'}")
        bare = slots[stack, BARE]
        rate = sum(slot.pages for slot in bare) / sum(slot.seconds for slot in bare)
        table.add_row(stack, *cells, f"{rate:.0f}")
    return table, fallen_short


def _busy_s(server: ServerProcesses | None) -> float:
    """CPU time that this machine has spent so far on all but the database server; NaN where it is not known."""
    busy_s, server_s = read_machine().busy_s, server.cpu_s() if server else 0.0
    return float("nan") if busy_s is None or server_s is None else busy_s - server_s


@contextmanager
def _locust_reader(stack: str, strategy: str, users: int) -> Iterator[ReadFor]:
    command = [*PATCHED, "benchmarks.through_locust", "--serve", stack, strategy, str(users)]
    with reader(command, users) as read_for:
        yield read_for


SIDES = {BARE: bare_reader, LOCUST: _locust_reader}


def _serve_locust(stack: str, strategy: str, users: str) -> None:
    import locust.main  # patches the process: before all that dbkit.load imports
    from gevent.fileobject import FileObject
    from locust.env import Environment

    def serve(environment: Environment) -> None:
        import gevent

        from dbkit.load.context import context_of
        from dbkit.load.window import Window

        load, stats, runner = context_of(environment), environment.stats, environment.runner
        pages_ms: list[float] = []
        environment.events.request.add_listener(lambda response_time, **_: pages_ms.append(response_time))

        def park_users() -> None:
            load.gate.close()
            load.gate.drain(timeout_s=60)
            load.outbox.flush()

        def read_until(until_s: float) -> list[float]:
            pages_ms.clear()
            load.gate.open(Window(0))  # in a slot, as in rounds
            load.gate.measure()
            gevent.sleep(until_s - time.perf_counter())
            park_users()
            if stats.errors:
                raise RuntimeError(f"pages failed: {[error.error for error in stats.errors.values()]}")
            return pages_ms

        assert runner is not None
        try:
            park_users()
            answer(FileObject(sys.stdin.fileno(), "r", closefd=False), read_until)
        finally:
            runner.quit()

    def on_init(environment: Environment, **_: Any) -> None:
        import gevent

        environment.events.spawning_complete.add_listener(lambda **_: gevent.spawn(serve, environment))

    locust.events.init.add_listener(on_init)
    sys.argv = [
        *("locust", "--locustfile", "locustfiles/users.py", "--headless", "--only-summary", "--loglevel", "WARNING"),
        *("--users", users, "--spawn-rate", users, "--page-order", "sequential", "--think-time", "0"),
        user_class(stack, strategy),
    ]
    locust.main.main()


def _parse() -> argparse.Namespace:
    parser = ArgumentParser(
        prog=PROG,
        description="A user class through Locust beside its page function called bare. Settings are read from the "
        "environment, as DBKIT_END=commit.",
    )
    parser.add_argument("--users", type=integer(1), nargs="+", default=USERS, help="default 1 10 50")
    parser.add_argument("--stacks", choices=STACKS, nargs="+", default=[*STACKS], help="default all")
    parser.add_argument("--strategies", choices=tuple(STRATEGIES), nargs="+", default=STRATEGIES_READ)
    parser.add_argument("--rounds", type=integer(MIN_ROUNDS), default=10, metavar="<number>", help="default 10")
    parser.add_argument("--slots", type=integer(1), default=5, metavar="<number>", help="in a round; default 5")
    parser.add_argument(
        "--slot-time", type=duration(positive=True), default=0.5, metavar="<seconds>", help="of each side; default 0.5"
    )
    parser.add_argument("--serve", nargs=3, help=argparse.SUPPRESS)  # stack, strategy, users of a Locust that reads
    options: argparse.Namespace = parser.parse_args()
    return options


if __name__ == "__main__":
    exit_on_mistake(PROG, main)
