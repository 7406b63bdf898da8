"""Processes that read pages bare: page functions called by as many readers as there are users, and nothing else.

    with bare_reader("asyncpg", "joined", users=10) as read_for:
        slot = read_for(0.5)

There is no Locust and no `dbkit.load` in them. psycopg is read by greenlets in a process patched by gevent, and by
native threads in one that is not; the async stacks by tasks in a uvloop loop of the main thread. Readers read the same
pages in the same order as Locust's users do with `--page-order sequential`. Settings come from dbkit's environment
variables.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import cycle
from statistics import fmean

import uvloop

from dbkit.cli.arguments import ArgumentParser
from dbkit.cli.options import add_options, read_settings
from dbkit.database.engines import find_database, make_async_engine, make_engine
from dbkit.database.stacks import STACKS
from dbkit.errors import DbkitError
from dbkit.measure.machine import read_machine
from dbkit.paging import STRATEGIES, read_page, read_page_async
from dbkit.todo.dataset import read_shape

MODULE = "benchmarks.readers"
PATCHED = ("gevent.monkey", "--module")
"""Has gevent patch a process before the module after it is imported."""


@dataclass(frozen=True)
class Slot:
    """What one process did in one slot, from its beginning to the last page's end."""

    pages: int
    seconds: float
    cpu_s: float
    p50_ms: float
    p95_ms: float
    steal: float | None = None
    """Share of the machine's CPU time, 0 to 1, that its hypervisor gave to others."""

    @classmethod
    def of(cls, pages_ms: Sequence[float], since_at_s: float, cpu_before_s: float) -> Slot:
        """The slot of pages with these response times, which began at these readings of the two clocks."""
        seconds, cpu_s = time.perf_counter() - since_at_s, time.process_time() - cpu_before_s
        in_order = sorted(pages_ms)
        p50_ms, p95_ms = (in_order[min(int(share * len(in_order)), len(in_order) - 1)] for share in (0.5, 0.95))
        return cls(len(in_order), seconds, cpu_s, p50_ms, p95_ms)

    @classmethod
    def together(cls, slots: Sequence[Slot]) -> Slot:
        """Several slots as one: sums, and the means of the percentiles and of the share of steal."""
        steals = [slot.steal for slot in slots if slot.steal is not None]
        return cls(
            sum(slot.pages for slot in slots),
            sum(slot.seconds for slot in slots),
            sum(slot.cpu_s for slot in slots),
            fmean(slot.p50_ms for slot in slots),
            fmean(slot.p95_ms for slot in slots),
            fmean(steals) if steals else None,
        )


ReadFor = Callable[[float], Slot]
"""Has a process read for so many seconds."""


@contextmanager
def bare_reader(stack: str, strategy: str, users: int) -> Iterator[ReadFor]:
    """A process of so many bare readers, for the length of the block."""
    patched = PATCHED if STACKS[stack].concurrency == "greenlets" else ()
    with reader([*patched, MODULE, stack, strategy, str(users)], users) as read_for:
        yield read_for


@contextmanager
def reader(module: Sequence[str], users: int) -> Iterator[ReadFor]:
    """A process of a module and its arguments that answers each number of seconds with a slot.

    The pool keeps a connection for each user.

    With fewer (DBKIT_POOL_SIZE=5), pools close connections and open others as pages happen to end together.
    """
    environment = {"DBKIT_POOL_SIZE": str(users)} | os.environ
    with (
        tempfile.TemporaryFile("w+") as log,
        subprocess.Popen(
            [sys.executable, "-m", *module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=environment,
        ) as process,
    ):

        def read_for(slot_s: float) -> Slot:
            assert process.stdin is not None and process.stdout is not None
            before = read_machine()
            print(slot_s, file=process.stdin, flush=True)
            answer = process.stdout.readline()
            _, steal, _ = read_machine().shares_since(before)
            if not answer:
                log.seek(0)
                raise DbkitError(f"{' '.join(module)}: the process ended; {log.read().strip() or 'it says nothing'}")
            return replace(Slot(**json.loads(answer)), steal=steal)

        yield read_for


def user_class(stack: str, strategy: str) -> str:
    """The name of the class in `locustfiles/users.py` that reads the same pages through Locust."""
    return stack.title().replace("-", "") + strategy.title()


# In the process


def answer(commands: Iterable[str], read_until: Callable[[float], Sequence[float]]) -> None:
    """To each line, a number of seconds, read pages until then, and answer with the slot of their times in ms."""
    for line in commands:
        since_at_s, cpu_before_s = time.perf_counter(), time.process_time()
        pages_ms = read_until(since_at_s + float(line))
        print(json.dumps(asdict(Slot.of(pages_ms, since_at_s, cpu_before_s))), flush=True)


def shared_options() -> argparse.Namespace:
    """The options that Locust has too, from the environment."""
    parser = ArgumentParser(prog=f"python -m {MODULE}")
    add_options(parser, "bench")
    options: argparse.Namespace = parser.parse_args([])
    return options


def _serve(stack: str, strategy: str, users: int) -> None:
    options = shared_options()
    pages = read_shape(find_database()).pages(options.page_size)
    numbers = [cycle(range(pages)) for _ in range(users)]
    if STACKS[stack].is_async:
        _serve_tasks(stack, strategy, options, numbers)
    else:
        _serve_sync(stack, strategy, options, numbers)


def _serve_sync(stack: str, strategy: str, options: argparse.Namespace, users: Sequence[Iterator[int]]) -> None:
    settings, function = read_settings(options), STRATEGIES[strategy]
    engine = make_engine(find_database(), settings, stack)

    def user(pages: Iterator[int], until_at_s: float, pages_ms: list[float]) -> None:
        while (began_at_s := time.perf_counter()) < until_at_s:
            read_page(engine, function, next(pages), options.page_size, end=settings.end)
            pages_ms.append((time.perf_counter() - began_at_s) * 1000)

    def read_until(until_at_s: float) -> list[float]:
        pages_ms: list[float] = []
        # in a patched process these are greenlets
        threads = [threading.Thread(target=user, args=(pages, until_at_s, pages_ms)) for pages in users]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return pages_ms

    answer(sys.stdin, read_until)
    engine.dispose()


def _serve_tasks(stack: str, strategy: str, options: argparse.Namespace, users: Sequence[Iterator[int]]) -> None:
    settings, function = read_settings(options), STRATEGIES[strategy]
    engine = make_async_engine(find_database(), settings, stack)

    async def user(pages: Iterator[int], until_at_s: float, pages_ms: list[float]) -> None:
        while (began_at_s := time.perf_counter()) < until_at_s:
            await read_page_async(
                engine, function, next(pages), options.page_size, end=settings.end, close=settings.close
            )
            pages_ms.append((time.perf_counter() - began_at_s) * 1000)

    async def read_until(until_at_s: float) -> list[float]:
        pages_ms: list[float] = []
        await asyncio.gather(*(user(pages, until_at_s, pages_ms) for pages in users))
        return pages_ms

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        answer(sys.stdin, lambda until_at_s: runner.run(read_until(until_at_s)))
        runner.run(engine.dispose())


if __name__ == "__main__":
    _serve(sys.argv[1], sys.argv[2], int(sys.argv[3]))
