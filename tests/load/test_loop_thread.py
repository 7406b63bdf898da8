"""The loop thread as page users meet it: called by greenlets of a process that gevent has patched.

The tests' bodies run in such a process, where `import locust` comes first; pytest's own stays unpatched.
"""

from __future__ import annotations

import asyncio
import functools
import json
import os
import random
import subprocess
import sys
import time
import traceback
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest import mock

import psycopg
import pytest
from sqlalchemy import text

from dbkit.database.engines import make_async_engine
from dbkit.database.settings import Settings
from dbkit.database.stacks import stacks_of
from dbkit.database.url import DatabaseUrl

REPOSITORY = Path(__file__).parents[2]
DEADLINE_S = 60
Test = Callable[..., None]


class PatchedProcess:
    """A process that gevent has patched before anything else was imported, as Locust's are."""

    def __init__(self, stderr: Path) -> None:
        script = f"import locust; from {__name__} import run_here; run_here()"
        self._stderr = stderr.open("w+")
        self._process = subprocess.Popen(
            [sys.executable, "-c", script],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            text=True,
        )

    def run(self, name: str, fixtures: dict[str, Any]) -> str:
        """Run the body of a test of this module there; its traceback, or what else was said on stderr."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps([name, fixtures]), file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        return (json.loads(answer) if answer else "the process has ended\n") + self._stderr.read()

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()
        self._stderr.close()


process: PatchedProcess


@pytest.fixture(scope="module", autouse=True)
def patched_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    global process
    process = PatchedProcess(tmp_path_factory.mktemp("patched") / "stderr")
    yield
    process.end()


def in_patched_process(test: Test) -> Test:
    """Have a test's body run in the patched process, which gets the fixtures' values as JSON."""

    @functools.wraps(test)
    def run(**fixtures: Any) -> None:
        if said := process.run(test.__name__, fixtures):
            pytest.fail(said, pytrace=False)

    return run


def run_here() -> None:
    """The patched process's own loop: a test's name and fixtures come in, its traceback goes out, or nothing."""
    for line in sys.stdin:
        name, fixtures = json.loads(line)
        said = ""
        try:
            globals()[name].__wrapped__(**fixtures)
        except BaseException:
            said = traceback.format_exc()
        print(json.dumps(said), flush=True)


def wait_until(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S / 2
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def outcome(call: Callable[[], object]) -> object:
    """What a greenlet's call gave, or raised: gevent would write the latter to stderr."""
    try:
        return call()
    except BaseException as error:
        return error


def native_threads() -> int:
    # a thread that has been joined may take a moment more to leave the kernel's list
    return len(os.listdir("/proc/self/task"))


def connections(url: str, name: str, state: str = "%") -> int:
    """Connections of this application name, as the server sees them."""
    with psycopg.connect(url) as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s AND state LIKE %s", [name, state]
        ).fetchone()
    assert row is not None
    return int(row[0])


# Calling


@in_patched_process
def test_only_the_calling_greenlet_waits() -> None:
    import gevent

    from dbkit.load.loop_thread import LoopThread

    thread = LoopThread()
    happened = asyncio.Event()
    steps = []

    async def wait() -> str:
        steps.append("waiting")
        await happened.wait()
        return "it happened"

    async def let_it_happen() -> None:
        steps.append("happening")
        happened.set()

    # were the hub or the loop held up by the first call, the second would never come
    waiting = gevent.spawn(thread.run, wait)
    while not steps:
        gevent.sleep(0)
    thread.run(let_it_happen)
    assert waiting.get() == "it happened"
    assert steps == ["waiting", "happening"]
    thread.stop()


@in_patched_process
def test_coroutines_run_in_one_native_thread_that_is_not_the_callers() -> None:
    from gevent import monkey

    from dbkit.load.loop_thread import LoopThread

    get_ident = monkey.get_original("_thread", "get_ident")

    async def thread_and_loop() -> tuple[int, int]:
        return get_ident(), id(asyncio.get_running_loop())

    before = native_threads()
    thread = LoopThread()
    places = {thread.run(thread_and_loop) for _ in range(3)}
    assert len(places) == 1
    assert get_ident() not in places.pop()
    assert native_threads() == before + 1
    thread.stop()


@in_patched_process
def test_a_thousand_calls_at_once_each_get_their_own_answer() -> None:
    import gevent

    from dbkit.load.loop_thread import LoopThread

    thread = LoopThread()
    calls = 1000
    in_flight = most_in_flight = 0

    async def answer(number: int) -> int:
        nonlocal in_flight, most_in_flight
        in_flight += 1
        most_in_flight = max(most_in_flight, in_flight)
        while most_in_flight < calls:  # all of them are in before the first one may leave
            await asyncio.sleep(0.001)
        in_flight -= 1
        return number

    for _ in range(3):
        in_flight = most_in_flight = 0
        greenlets = [gevent.spawn(thread.run, functools.partial(answer, number)) for number in range(calls)]
        assert [greenlet.get() for greenlet in greenlets] == list(range(calls))
    thread.stop()


@in_patched_process
def test_an_exception_comes_with_the_traceback_of_its_coroutine() -> None:
    from dbkit.load.loop_thread import LoopThread

    thread = LoopThread()
    cause = OSError("the cause")

    async def deep() -> None:
        raise KeyError("a page") from cause

    async def page() -> None:
        await deep()

    for _ in range(2):
        try:
            thread.run(page)
        except KeyError as error:
            names = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
            assert names[-2:] == ["page", "deep"], names
            assert names[0] == test_an_exception_comes_with_the_traceback_of_its_coroutine.__name__, names
            assert error.__cause__ is cause
        else:
            raise AssertionError("nothing was raised")
    thread.stop()


@in_patched_process
def test_what_is_no_ordinary_exception_is_the_callers_too_and_leaves_the_loop_running() -> None:
    from dbkit.load.loop_thread import LoopThread

    thread = LoopThread()

    async def fail(kind: type[BaseException]) -> None:
        raise kind("this one")

    async def answer() -> int:
        return 42

    for kind in (SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError, StopIteration, TimeoutError):
        try:
            thread.run(functools.partial(fail, kind))
        except BaseException as error:
            # a coroutine may not raise StopIteration: Python makes a RuntimeError of it
            assert isinstance(error, RuntimeError if kind is StopIteration else kind), repr(error)
        else:
            raise AssertionError(f"{kind} was not raised")
        assert thread.run(answer) == 42
    thread.stop()


@in_patched_process
def test_a_function_that_fails_before_it_gives_a_coroutine_is_the_callers_mistake() -> None:
    from dbkit.load.loop_thread import LoopThread

    thread = LoopThread()

    def no_coroutine() -> Any:
        raise KeyError("no coroutine")

    def not_awaitable() -> Any:
        return 42

    for function, kind in ((no_coroutine, KeyError), (not_awaitable, TypeError)):
        try:
            thread.run(function)
        except kind:
            pass
        else:
            raise AssertionError(f"{kind} was not raised")
    thread.stop()


# Calls that could never answer


@in_patched_process
def test_a_call_from_the_loops_own_thread_is_an_error() -> None:
    from dbkit.load.loop_thread import LoopThread, LoopThreadError

    thread = LoopThread()

    async def answer() -> int:
        return 42

    async def ask_oneself() -> int:
        return thread.run(answer)

    try:
        thread.run(ask_oneself)
    except LoopThreadError as error:
        assert "await" in str(error)
    else:
        raise AssertionError("it answered")
    assert thread.run(answer) == 42
    thread.stop()


@in_patched_process
def test_a_call_from_another_native_thread_is_an_error() -> None:
    import gevent

    from dbkit.load.loop_thread import LoopThread, LoopThreadError

    thread = LoopThread()

    async def answer() -> int:
        return 42

    def ask() -> str:
        try:
            return str(thread.run(answer))
        except LoopThreadError as error:
            return repr(error)

    assert "another thread" in gevent.get_hub().threadpool.apply(ask)
    assert thread.run(answer) == 42
    thread.stop()


@in_patched_process
def test_a_call_after_stop_is_an_error_and_stopping_twice_is_harmless() -> None:
    from dbkit.load.loop_thread import LoopThread, LoopThreadError

    thread = LoopThread()
    cleaned = []

    async def answer() -> int:
        return 42

    async def clean_up() -> None:
        cleaned.append(True)

    assert thread.run(answer) == 42
    for _ in range(2):
        thread.stop(clean_up)
        try:
            thread.run(answer)
        except LoopThreadError as error:
            assert "stopped" in str(error)
        else:
            raise AssertionError("it answered")
    assert cleaned == [True]


# Killing


@pytest.mark.parametrize("stack", stacks_of("tasks"))
@in_patched_process
def test_a_killed_greenlet_cancels_its_query_on_the_server(seeded_url: str, stack: str) -> None:
    import gevent

    from dbkit.load.loop_thread import LoopThread

    name = f"killed-{stack}-{os.getpid()}"
    thread = LoopThread()
    engine = make_async_engine(
        DatabaseUrl.parse(f"{seeded_url}&application_name={name}"), Settings(pool_size=2, max_overflow=0), stack
    )
    ended: list[str] = []

    async def sleep_long() -> None:
        try:
            async with engine.connect() as connection:
                await connection.execute(text("SELECT pg_sleep(300)"))
        except BaseException as error:
            ended.append(type(error).__name__)
            raise

    async def answer() -> int:
        async with engine.connect() as connection:
            return int((await connection.execute(text("SELECT 42"))).scalar_one())

    sleepers = [gevent.spawn(thread.run, sleep_long) for _ in range(2)]
    wait_until(lambda: connections(seeded_url, name, "active") == 2)
    sleepers[0].kill()
    assert sleepers[0].dead
    wait_until(lambda: connections(seeded_url, name, "active") == 1)
    wait_until(lambda: len(ended) == 1)
    assert ended == ["CancelledError"]
    # the pool has room again
    assert thread.run(answer) == 42
    assert not sleepers[1].dead
    sleepers[1].kill()
    wait_until(lambda: connections(seeded_url, name, "active") == 0)
    thread.stop(engine.dispose)
    wait_until(lambda: connections(seeded_url, name) == 0)


@in_patched_process
def test_a_timeout_around_a_call_cancels_it() -> None:
    import gevent

    from dbkit.load.loop_thread import LoopThread

    thread = LoopThread()
    ended: list[str] = []

    async def wait_for_ever() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    async def tasks() -> int:
        return len(asyncio.all_tasks())

    with gevent.Timeout(0.05, False):
        thread.run(wait_for_ever)
    wait_until(lambda: ended == ["cancelled"])
    wait_until(lambda: thread.run(tasks) == 1)
    thread.stop()


@in_patched_process
def test_kills_at_any_moment_of_a_call_leave_nothing_behind() -> None:
    import gevent

    from dbkit.load.loop_thread import LoopThread

    thread = LoopThread()
    chance = random.Random(1)

    async def echo(number: int) -> int:
        for _ in range(chance.randrange(4)):
            await asyncio.sleep(0)
        return number

    def call(number: int) -> int:
        return thread.run(functools.partial(echo, number))

    async def tasks() -> int:
        return len(asyncio.all_tasks())

    for _ in range(100):
        greenlets = [gevent.spawn(call, number) for number in range(20)]
        for _ in range(chance.randrange(4)):
            gevent.sleep(0)
        doomed = chance.sample(greenlets, 10)
        gevent.killall(doomed, block=chance.random() < 0.5)
        for number, greenlet in enumerate(greenlets):
            answer = greenlet.get()
            assert answer == number or (greenlet in doomed and isinstance(answer, gevent.GreenletExit)), answer
    wait_until(lambda: thread.run(tasks) == 1)
    thread.stop()


# Stopping


@pytest.mark.parametrize("stack", stacks_of("tasks"))
@in_patched_process
def test_stop_cancels_what_runs_and_disposes_of_the_connections(seeded_url: str, stack: str) -> None:
    import gevent

    from dbkit.load.loop_thread import LoopThread

    name = f"stopped-{stack}-{os.getpid()}"
    before = native_threads()
    thread = LoopThread()
    engine = make_async_engine(DatabaseUrl.parse(f"{seeded_url}&application_name={name}"), Settings(), stack)

    async def sleep_long() -> None:
        async with engine.connect() as connection:
            await connection.execute(text("SELECT pg_sleep(300)"))

    sleepers = [gevent.spawn(outcome, functools.partial(thread.run, sleep_long)) for _ in range(3)]
    wait_until(lambda: connections(seeded_url, name, "active") == 3)
    thread.stop(engine.dispose)
    wait_until(lambda: native_threads() == before)
    assert [type(sleeper.get()) for sleeper in sleepers] == [asyncio.CancelledError] * 3
    wait_until(lambda: connections(seeded_url, name) == 0)


@in_patched_process
def test_stop_raises_what_cleaning_up_raises_once_the_thread_has_ended() -> None:
    from dbkit.load.loop_thread import LoopThread

    before = native_threads()
    thread = LoopThread()

    async def clean_up() -> None:
        raise KeyError("no broom")

    try:
        thread.stop(clean_up)
    except KeyError:
        wait_until(lambda: native_threads() == before)
    else:
        raise AssertionError("nothing was raised")


@in_patched_process
def test_a_call_that_will_not_be_cancelled_does_not_hold_up_stop_or_its_caller_for_ever() -> None:
    import gevent

    from dbkit.load import loop_thread

    before = native_threads()
    thread = loop_thread.LoopThread()
    waits = []

    async def stubborn() -> None:
        while True:
            waits.append(True)
            with suppress(asyncio.CancelledError):
                await asyncio.Event().wait()

    caller = gevent.spawn(outcome, functools.partial(thread.run, stubborn))
    wait_until(lambda: bool(waits))
    with mock.patch.object(loop_thread, "CANCEL_TIMEOUT_S", 0.01):
        thread.stop()
    wait_until(lambda: native_threads() == before)
    assert len(waits) == 2  # it was asked to end
    with gevent.Timeout(5):
        assert isinstance(caller.get(), asyncio.CancelledError | loop_thread.LoopThreadError)


@in_patched_process
def test_a_coroutine_may_hand_work_to_a_native_thread() -> None:
    import time

    from dbkit.load import loop_thread

    def work(seconds: float) -> float:
        time.sleep(seconds)  # as gevent has patched it
        if not seconds:
            raise KeyError("no time")
        return seconds

    async def handing_over() -> list[Any]:
        return await asyncio.gather(*(asyncio.to_thread(work, 0.01 * n) for n in range(4)), return_exceptions=True)

    before = native_threads()
    thread = loop_thread.LoopThread()
    error, *slept = thread.run(handing_over)
    assert isinstance(error, KeyError)
    assert slept == [0.01, 0.02, 0.03]
    thread.stop()
    wait_until(lambda: native_threads() == before)


@in_patched_process
def test_a_task_that_exits_does_not_end_the_loop() -> None:
    from dbkit.load import loop_thread

    async def leave() -> None:
        raise SystemExit(3)

    async def waiting() -> object:
        (error,) = await asyncio.gather(leave(), return_exceptions=True)
        return error

    async def one() -> int:
        return 1

    before = native_threads()
    thread = loop_thread.LoopThread()
    assert isinstance(thread.run(waiting), SystemExit)
    assert thread.run(one) == 1
    thread.stop()
    wait_until(lambda: native_threads() == before)


@in_patched_process
def test_a_task_that_a_call_has_left_behind_is_ended() -> None:
    from dbkit.load import loop_thread

    thread = loop_thread.LoopThread()
    ended = []

    async def forgotten() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    async def careless() -> None:
        tasks.append(asyncio.create_task(forgotten()))
        await asyncio.sleep(0)

    tasks: list[asyncio.Task[None]] = []
    thread.run(careless)
    with mock.patch.object(loop_thread, "CANCEL_TIMEOUT_S", 0.01):
        thread.stop()
    assert ended == [True]


@in_patched_process
def test_generators_are_closed_before_the_loop_is_and_one_that_never_ends_holds_up_no_stop() -> None:
    from dbkit.load import loop_thread

    before = native_threads()
    thread = loop_thread.LoopThread()
    ended, kept = [], []

    async def polite() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            await asyncio.sleep(0)
            ended.append("polite")

    async def stubborn() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            while True:
                with suppress(asyncio.CancelledError):
                    await asyncio.Event().wait()

    async def begin() -> None:
        for generator in (polite(), stubborn()):
            kept.append(generator)
            await anext(generator)

    async def clean_up() -> None:
        ended.append("cleaned up")

    thread.run(begin)
    with mock.patch.object(loop_thread, "LAST_TIMEOUT_S", 0.01):
        thread.stop(clean_up)
    assert ended == ["polite", "cleaned up"]
    wait_until(lambda: native_threads() == before)


@in_patched_process
def test_starting_and_stopping_many_times_leaves_no_thread() -> None:
    import gevent

    from dbkit.load.loop_thread import LoopThread

    async def answer() -> int:
        await asyncio.sleep(0)
        return 42

    before, files = native_threads(), len(os.listdir("/proc/self/fd"))
    for _ in range(100):
        thread = LoopThread()
        greenlets = [gevent.spawn(thread.run, answer) for _ in range(5)]
        assert [greenlet.get() for greenlet in greenlets] == [42] * 5
        thread.stop()
    wait_until(lambda: native_threads() == before)
    assert len(os.listdir("/proc/self/fd")) <= files + 1  # the hub's own, made with the first watcher
