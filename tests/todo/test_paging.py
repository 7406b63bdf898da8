"""Pages as a plain script reads them: the same page from every strategy on every stack, and what it really cost."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dbkit.database.settings import PAGE_ENDS, PageEnd, Settings
from dbkit.database.stacks import STACKS
from dbkit.database.url import DatabaseUrl
from dbkit.measure.cost import PARTS
from dbkit.paging import STRATEGIES, RenderedPage
from dbkit.todo.dataset import Shape, create
from tests.stacks import StackEngine, open_stack
from tests.wire import WireCounts, WireProxy, upstream_of, wire_proxy

PAGE_SIZE = 20
TODOS = 2000  # of the default dataset
STATEMENTS = {"lazy": 21, "selectin": 2, "joined": 1, "subquery": 2, "core": 1}
ROWS = {"lazy": 20 + 40, "selectin": 20 + 40, "joined": 40, "subquery": 20 + 40, "core": 20}
# psycopg prepares what it has executed five times, so that there are pages before, at and after that
WARM_PAGES = 10
DEADLINE_S = 60

Engines = dict[str, StackEngine]


@pytest.fixture(scope="module")
def proxy(seeded_url: str) -> Iterator[WireProxy]:
    with wire_proxy(upstream_of(seeded_url)) as running:
        yield running


@pytest.fixture(scope="module")
def proxied_url(proxy: WireProxy, seeded_url: str) -> str:
    return proxy.url(seeded_url)


@pytest.fixture(scope="module")
def engines(seeded_url: str) -> Iterator[Engines]:
    with ExitStack() as exits:
        yield {stack: exits.enter_context(open_stack(stack, seeded_url)) for stack in STACKS}


@pytest.fixture(scope="module")
def all_todos(seeded_url: str) -> RenderedPage:
    return todos_of(seeded_url)


def todos_of(url: str) -> RenderedPage:
    """Every todo with its comments, put together here from two plain statements."""
    with psycopg.connect(url) as connection:
        todos = connection.execute("SELECT id, title FROM dbkit.todo ORDER BY id").fetchall()
        comments = connection.execute("SELECT todo_id, body FROM dbkit.comment ORDER BY id").fetchall()
    bodies: dict[int, list[str]] = {id: [] for id, _ in todos}
    for todo_id, body in comments:
        bodies[todo_id].append(body)
    return [(title, bodies[id]) for id, title in todos]


def differing(engines: Engines, todos: RenderedPage, page: int, page_size: int) -> list[str]:
    """The strategies and stacks that show another page than the one which is there."""
    expected = todos[page * page_size : (page + 1) * page_size]
    return [
        f"{name} on {stack}, page {page} of {page_size}"
        for (stack, engine), (name, function) in itertools.product(engines.items(), STRATEGIES.items())
        if engine.read(function, page, page_size)[0] != expected
    ]


def seen(proxy: WireProxy, before: WireCounts) -> WireCounts:
    return proxy.counts() - before


# What a page shows


def test_the_default_dataset_is_there(all_todos: RenderedPage) -> None:
    assert len(all_todos) == TODOS
    assert all_todos[0] == ("user1-task-0", ["c1-0", "c2-0"])
    assert all_todos[-1] == ("user20-task-99", ["c1-99", "c2-99"])


@pytest.mark.parametrize("stack", STACKS)
def test_pages_are_identical_by_all_strategies(engines: Engines, all_todos: RenderedPage, stack: str) -> None:
    pages = TODOS // PAGE_SIZE
    for page in (*range(0, pages, 5), pages - 1, pages):  # with the one past the end
        assert differing({stack: engines[stack]}, all_todos, page, PAGE_SIZE) == []


@pytest.mark.parametrize(("page", "page_size"), [(0, 3000), (1, TODOS), (1, 3000)])
def test_a_page_may_hold_the_whole_dataset_or_more(
    engines: Engines, all_todos: RenderedPage, page: int, page_size: int
) -> None:
    assert differing(engines, all_todos, page, page_size) == []


@settings(max_examples=30, deadline=None)
@given(page_size=st.sampled_from([1, 7]) | st.integers(1, 60), data=st.data())
def test_any_page_of_any_size_is_identical_by_all_strategies_on_all_stacks(
    engines: Engines, all_todos: RenderedPage, page_size: int, data: st.DataObject
) -> None:
    page = data.draw(st.integers(0, TODOS // page_size + 1), label="page")
    assert differing(engines, all_todos, page, page_size) == []


@pytest.mark.parametrize(
    ("page_size", "page", "length"),
    [
        (1, TODOS - 1, 1),  # the last one
        (1, TODOS, 0),
        (7, TODOS // 7, TODOS % 7),  # short
        (7, TODOS // 7 + 1, 0),
        (20, 10**6, 0),
    ],
)
def test_the_end_of_the_list_is_identical_by_all_strategies_on_all_stacks(
    engines: Engines, all_todos: RenderedPage, page_size: int, page: int, length: int
) -> None:
    assert len(all_todos[page * page_size : (page + 1) * page_size]) == length
    assert differing(engines, all_todos, page, page_size) == []


def test_todos_without_comments_are_shown(database_url: str) -> None:
    create(DatabaseUrl.parse(database_url), Shape(users=3, todos=9, comments=0), replace=False)
    todos = todos_of(database_url)
    assert todos[0] == ("user1-task-0", [])
    with ExitStack() as exits:
        engines = {stack: exits.enter_context(open_stack(stack, database_url)) for stack in STACKS}
        for page in range(3):
            assert differing(engines, todos, page, PAGE_SIZE) == []


def test_a_todo_without_comments_among_others_is_shown(database_url: str) -> None:
    create(DatabaseUrl.parse(database_url), Shape(users=3, todos=9, comments=3), replace=False)
    with psycopg.connect(database_url) as connection:
        connection.execute("DELETE FROM dbkit.comment WHERE todo_id IN (1, 5, 20, 27)")
    todos = todos_of(database_url)
    with ExitStack() as exits:
        engines = {stack: exits.enter_context(open_stack(stack, database_url)) for stack in STACKS}
        for page in range(3):
            assert differing(engines, todos, page, PAGE_SIZE) == []


@pytest.mark.parametrize("strategy", ["lazy", "joined"])
def test_a_script_reads_a_page_by_its_number_alone(seeded_url: str, all_todos: RenderedPage, strategy: str) -> None:
    script = f"""
import json
from dbkit.paging import page_{strategy}
print(json.dumps([page_{strategy}(3), page_{strategy}(-(-{TODOS} // 7) - 1, 7), page_{strategy}({TODOS})]))
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "DBKIT_DATABASE_URL": seeded_url},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=True,
    )
    expected = [all_todos[60:80], all_todos[TODOS // 7 * 7 :], []]
    assert json.loads(done.stdout) == json.loads(json.dumps(expected))


# What a page costs


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("end", PAGE_ENDS)
@pytest.mark.parametrize("stack", STACKS)
def test_counts_of_a_page_are_those_on_the_wire(
    proxy: WireProxy, proxied_url: str, stack: str, end: PageEnd, strategy: str
) -> None:
    with open_stack(stack, proxied_url, Settings(end=end)) as engine:
        for page in range(1 + WARM_PAGES):
            before = proxy.counts()
            cost = engine.read(STRATEGIES[strategy], page, PAGE_SIZE)[1]
            wire = seen(proxy, before)
            assert cost.statements == STATEMENTS[strategy]
            assert cost.rows == ROWS[strategy]
            assert cost.connections == wire.connections == (1 if page == 0 else 0)
            if page > 0:
                assert wire.statements == STATEMENTS[strategy]
                assert wire.rows == ROWS[strategy]
                assert cost.round_trips == wire.round_trips
                assert cost.prepares == wire.prepares


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("end", PAGE_ENDS)
@pytest.mark.parametrize("stack", STACKS)
def test_counts_of_a_page_on_a_cold_connection_leave_out_what_opened_it(
    proxy: WireProxy, proxied_url: str, stack: str, end: PageEnd, strategy: str
) -> None:
    def opening() -> WireCounts:
        before = proxy.counts()
        engine.connect()
        return seen(proxy, before)

    def reading() -> WireCounts:
        before = proxy.counts()
        cost = engine.read(STRATEGIES[strategy], 1, PAGE_SIZE)[1]
        wire = seen(proxy, before)
        assert cost.connections == wire.connections == 1
        return wire - WireCounts(1, cost.statements, cost.round_trips, cost.rows, cost.prepares, 0, 0, 0, 0)

    def totals(wire: WireCounts) -> tuple[int, int, int, int]:
        return wire.statements, wire.round_trips, wire.rows, wire.prepares

    # the first connection of an engine asks the server more than later ones do
    with open_stack(stack, proxied_url, Settings(end=end)) as engine:
        first_opening = opening()
        engine.dispose()
        later_opening = opening()
    with open_stack(stack, proxied_url, Settings(end=end)) as engine:
        first_reading = reading()
        engine.dispose()
        later_reading = reading()
    assert totals(first_reading) == totals(first_opening)
    assert totals(later_reading) == totals(later_opening)


@pytest.mark.parametrize("end", PAGE_ENDS)
@pytest.mark.parametrize("stack", STACKS)
def test_counts_at_the_end_of_the_list_are_those_on_the_wire(
    proxy: WireProxy, proxied_url: str, stack: str, end: PageEnd
) -> None:
    with open_stack(stack, proxied_url, Settings(end=end)) as engine:
        for function in STRATEGIES.values():
            engine.read(function, 0, 7)
        for function, page in itertools.product(STRATEGIES.values(), [TODOS // 7, TODOS // 7 + 1] * 2):
            before = proxy.counts()
            cost = engine.read(function, page, 7)[1]
            wire = seen(proxy, before)
            assert (cost.statements, cost.round_trips, cost.rows) == (wire.statements, wire.round_trips, wire.rows)


@pytest.mark.parametrize(
    ("end", "begins", "commits", "rollbacks"),
    [("rollback", 1, 0, 1), ("commit", 1, 1, 0), ("autocommit", 0, 0, 0)],
)
@pytest.mark.parametrize("stack", STACKS)
def test_a_page_ends_as_the_settings_say(
    proxy: WireProxy, proxied_url: str, stack: str, end: PageEnd, begins: int, commits: int, rollbacks: int
) -> None:
    with open_stack(stack, proxied_url, Settings(end=end)) as engine:
        engine.connect()
        for page in range(3):
            before = proxy.counts()
            engine.read(STRATEGIES["joined"], page, PAGE_SIZE)
            wire = seen(proxy, before)
            assert (wire.begins, wire.commits, wire.rollbacks) == (begins, commits, rollbacks)


@pytest.mark.parametrize("stack", STACKS)
def test_the_parts_of_a_page_add_up_to_its_response_time(seeded_url: str, stack: str) -> None:
    with open_stack(stack, seeded_url) as engine:
        for page in range(3):
            for function in STRATEGIES.values():
                cost = engine.read(function, page, PAGE_SIZE)[1]
                parts = cost.as_dict()
                assert sum(parts[name] for name in PARTS) == pytest.approx(cost.response_ms)
                # time counted twice would make the rest, which is the client's, negative
                assert all(parts[name] >= 0 for name in PARTS)
                assert parts["db_ms"] > 0
                assert (parts["connect_ms"] > 0) is bool(cost.connections)
