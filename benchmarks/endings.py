"""What it costs how a page ends, and how an async session is closed: every combination on every stack, in turns.

    python -m benchmarks.endings [--rounds 12] [--pages 150] [--concurrency 5]

The same `joined` page, read without Locust: psycopg by threads, the async stacks by asyncio tasks. Pages/s are compared
with a page that is rolled back in a session closed by `async with`, as people write it.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import threading
from collections.abc import Callable

from rich.console import Console
from rich.table import Table

from dbkit.analysis.verdict import PAGES_PER_S, Comparison, Observation, compare
from dbkit.cli.arguments import ArgumentParser, exit_on_mistake
from dbkit.cli.bench import BENCH_STACKS
from dbkit.cli.options import OPTIONS
from dbkit.cli.values import integer
from dbkit.database.engines import find_database, make_async_engine, make_engine
from dbkit.database.settings import PAGE_ENDS, SESSION_CLOSES, Settings
from dbkit.database.stacks import STACKS
from dbkit.database.url import DatabaseUrl
from dbkit.measure.cost import PageCost
from dbkit.measure.machine import read_machine
from dbkit.measure.tally import Tally
from dbkit.paging import DEFAULT_PAGE_SIZE, joined, read_page, read_page_async
from dbkit.todo.dataset import read_shape

Side = tuple[str, Settings]
ReadPages = Callable[[list[int], Tally], None]
"""Reads the pages, so many at a time, into the tally."""


def main() -> None:
    parser = ArgumentParser(prog="python -m benchmarks.endings", description=__doc__)
    OPTIONS["database_url"].add_to(parser)
    parser.add_argument("--rounds", type=integer(4), default=12)
    parser.add_argument("--pages", type=integer(1), default=150, help="pages of each side in each round")
    parser.add_argument("--concurrency", type=integer(1), default=5)
    options = parser.parse_args()
    database = options.database_url or find_database()
    pages = read_shape(database).pages(DEFAULT_PAGE_SIZE)
    Console(width=100).print(_run(database, options.rounds, options.pages, options.concurrency, pages))


def _run(database: DatabaseUrl, rounds: int, pages_a_turn: int, concurrency: int, pages: int) -> Table:
    names = {name: side for name, side in _sides(concurrency)}
    readers = {name: _reader(database, side, concurrency) for name, side in names.items()}
    tallies = {name: Tally() for name in names}
    observations: dict[str, list[Observation]] = {stack: [] for stack in BENCH_STACKS}
    chosen = random.Random(1)
    for number in range(rounds + 1):
        for name in chosen.sample(sorted(names), len(names)):
            turn, before = Tally(), read_machine()
            readers[name]([chosen.randrange(pages) for _ in range(pages_a_turn)], turn)
            after = read_machine()
            if number == 0:
                continue  # connections opened, statements prepared
            seconds = after.at_s - before.at_s
            _, steal, _ = after.shares_since(before)
            observations[names[name][0]].append(Observation(name, number, turn.pages / seconds, steal))
            tallies[name].merge(turn)
    table = Table(box=None, header_style="bold")
    table.add_column("stack: end + close", no_wrap=True)
    for heading in ("trips", "db ms", "client ms", "p50 ms", "pages/s × the first"):
        table.add_column(heading, justify="right", no_wrap=True)
    for stack in BENCH_STACKS:
        reference = next(name for name, side in names.items() if side[0] == stack)
        verdicts = compare(observations[stack], reference, PAGES_PER_S)
        for name in (name for name, side in names.items() if side[0] == stack):
            tally = tallies[name]
            table.add_row(
                name,
                f"{tally.sums['round_trips'] / tally.pages:.2f}",
                *(f"{tally.mean_ms(part):.2f}" for part in ("db_ms", "client_ms")),
                f"{tally.response.percentile(0.5):.3g}",
                _words(verdicts.get(name)),
            )
    return table


def _sides(concurrency: int) -> list[tuple[str, Side]]:
    sides: list[tuple[str, Side]] = []
    for stack, end, close in itertools.product(BENCH_STACKS, PAGE_ENDS, SESSION_CLOSES):
        if not STACKS[stack].is_async and close == "finally":
            continue
        how = f" + {close}" if STACKS[stack].is_async else ""
        sides.append((f"{stack}: {end}{how}", (stack, Settings(pool_size=concurrency, end=end, close=close))))
    return sides


def _reader(database: DatabaseUrl, side: Side, concurrency: int) -> ReadPages:
    return (_tasks if STACKS[side[0]].is_async else _threads)(database, side, concurrency)


def _threads(database: DatabaseUrl, side: Side, concurrency: int) -> ReadPages:
    stack, settings = side
    engine = make_engine(database, settings, stack)

    def read_pages(pages: list[int], tally: Tally) -> None:
        left, lock = iter(pages), threading.Lock()

        def work() -> None:
            while True:
                with lock:
                    page = next(left, None)
                if page is None:
                    return
                cost = PageCost()
                with cost:
                    read_page(engine, joined, page, DEFAULT_PAGE_SIZE, end=settings.end)
                with lock:
                    _add(cost, tally)

        workers = [threading.Thread(target=work) for _ in range(concurrency)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()

    return read_pages


def _tasks(database: DatabaseUrl, side: Side, concurrency: int) -> ReadPages:
    stack, settings = side
    loop = asyncio.new_event_loop()
    engine = make_async_engine(database, settings, stack)

    async def work(pages: list[int], tally: Tally) -> None:
        left = iter(pages)

        async def one_at_a_time() -> None:
            for page in left:
                cost = PageCost()
                with cost:
                    await read_page_async(
                        engine, joined, page, DEFAULT_PAGE_SIZE, end=settings.end, close=settings.close
                    )
                _add(cost, tally)

        await asyncio.gather(*(one_at_a_time() for _ in range(concurrency)))

    return lambda pages, tally: loop.run_until_complete(work(pages, tally))


def _add(cost: PageCost, tally: Tally) -> None:
    tally.add(cost.as_dict() | {"think_ms": 0.0}, cost.response_ms, failed=False)


def _words(verdict: Comparison | None) -> str:
    if verdict is None or verdict.ratio is None or verdict.low is None:
        return ""
    words = f"{verdict.ratio:.2f} [{verdict.low:.2f}, {verdict.high:.2f}]"
    return words if verdict.shown else f"no difference {words[words.index('[') :]}"


if __name__ == "__main__":
    exit_on_mistake("python -m benchmarks.endings", main)
