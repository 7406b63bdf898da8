"""The dataset as users make it, by `seed.py`, and as the rest of dbkit reads it."""

from __future__ import annotations

import functools
import os
import re
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbkit.database.url import DatabaseUrl
from dbkit.errors import DbkitError
from dbkit.todo.dataset import MARK, Shape, check, create, read_shape
from tests import waiting
from tests.started import finished
from tests.terminal import on_a_terminal

REPOSITORY = Path(__file__).parents[2]
SEED = (sys.executable, str(REPOSITORY / "seed.py"))
DEADLINE_S = 60
SMALL = Shape(users=3, todos=4, comments=2)
# copying it takes seconds, so that a test can see it under way
LARGE = ("--users", "5000", "--comments", "20")
UNREACHABLE = "postgresql://somebody:hunter2@127.0.0.1:1/nowhere"


def run(url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return finished([*SEED, "--database-url", url, *arguments], REPOSITORY, {**os.environ}, DEADLINE_S)


def seed(url: str, *arguments: str) -> str:
    """The one line that a run prints which went well."""
    done = run(url, *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("\n") == 1
    return done.stdout


def mistake(url: str, *arguments: str) -> str:
    """The one line of a mistake that a run prints."""
    done = run(url, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(r"seed\.py: error: .+\n", done.stderr)
    return done.stderr


def start(url: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*SEED, "--database-url", url, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # a background job may have inherited that Ctrl-C is ignored
        preexec_fn=functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )


def query(url: str, statement: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(statement).fetchall()


def execute(url: str, statements: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute(statements)


def everything(url: str) -> list[tuple[Any, ...]]:
    """Every relation and schema of the database, its files and its comment: what is touched at all differs."""
    return query(
        url,
        """
        SELECT relname::text, oid, relfilenode, obj_description(oid, 'pg_class') FROM pg_class WHERE oid >= 16384
        UNION ALL SELECT nspname, oid, 0, obj_description(oid, 'pg_namespace') FROM pg_namespace WHERE oid >= 16384
        ORDER BY 1, 2
        """,
    )


def with_options(url: str, options: str) -> str:
    return f"{url}{'&' if '?' in url else '?'}options={options.replace(' ', '%20').replace('=', '%3D')}"


wait_until = partial(waiting.wait_until, deadline_s=DEADLINE_S)


def make(url: str, shape: Shape = SMALL) -> DatabaseUrl:
    database = DatabaseUrl.parse(url)
    assert create(database, shape, replace=False)
    return database


# What is made


def test_the_default_dataset_is_the_documented_one_row_by_row(database_url: str) -> None:
    line = seed(database_url)
    assert line == f"seeded {DatabaseUrl.parse(database_url)}: 20 users, 2,000 todos, 4,000 comments\n"

    users = [(user, f"user{user}") for user in range(1, 21)]
    assert query(database_url, "SELECT id, name FROM dbkit.app_user ORDER BY id") == users
    owned = [(user, task) for user in range(1, 21) for task in range(100)]
    todos = [
        (id, user, f"user{user}-task-{task}", task in range(0, 100, 3))
        for id, (user, task) in enumerate(owned, start=1)
    ]
    assert query(database_url, "SELECT id, user_id, title, done FROM dbkit.todo ORDER BY id") == todos
    bodies = [(todo, body) for todo, (_, task) in enumerate(owned, 1) for body in (f"c1-{task}", f"c2-{task}")]
    comments = [(id, *body) for id, body in enumerate(bodies, 1)]
    assert query(database_url, "SELECT id, todo_id, body FROM dbkit.comment ORDER BY id") == comments


@pytest.mark.parametrize("indexes", [True, False])
def test_foreign_keys_are_always_there_and_their_indexes_unless_left_out(database_url: str, indexes: bool) -> None:
    make(database_url, Shape(users=3, indexes=indexes))
    keys = """
        SELECT child.relname, parent.relname FROM pg_constraint
        JOIN pg_class AS child ON child.oid = conrelid JOIN pg_class AS parent ON parent.oid = confrelid
        WHERE contype = 'f' AND convalidated ORDER BY 1
    """
    assert query(database_url, keys) == [("comment", "todo"), ("todo", "app_user")]
    columns = """
        SELECT relname, attname FROM pg_index
        JOIN pg_class ON oid = indrelid JOIN pg_attribute ON attrelid = indrelid AND attnum = indkey[0]
        WHERE relnamespace = 'dbkit'::regnamespace AND NOT indisprimary ORDER BY 1
    """
    expected = [("comment", "todo_id"), ("todo", "user_id")]
    assert query(database_url, columns) == (expected if indexes else [])


@pytest.mark.parametrize("comments", [0, 2])
def test_new_rows_get_the_ids_after_the_datasets(database_url: str, comments: int) -> None:
    make(database_url, Shape(users=3, todos=4, comments=comments))
    insert = "INSERT INTO dbkit.comment (todo_id, body) VALUES (1, '') RETURNING id"
    assert query(database_url, insert) == [(12 * comments + 1,)]
    assert query(database_url, "INSERT INTO dbkit.app_user (name) VALUES ('') RETURNING id") == [(4,)]


def test_the_planner_knows_the_tables_from_the_start(database_url: str) -> None:
    make(database_url, Shape())
    known = "SELECT tablename, attname FROM pg_stats WHERE schemaname = 'dbkit' AND attname LIKE '%id' ORDER BY 1, 2"
    columns = [("app_user", "id"), ("comment", "id"), ("comment", "todo_id"), ("todo", "id"), ("todo", "user_id")]
    assert query(database_url, known) == columns


def test_memory_does_not_grow_with_the_dataset(database_url: str) -> None:
    def peak_kib(*arguments: str) -> int:
        child = subprocess.Popen([*SEED, "--database-url", database_url, *arguments], stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        assert child.returncode == 0
        return usage.ru_maxrss

    # as Python's tuples the larger one's rows would fill some 50 MB
    assert peak_kib("--users", "1000", "--reset", "--yes") - peak_kib("--users", "1", "--reset", "--yes") < 20_000


# What is there already


def test_a_dataset_of_the_asked_shape_is_left_alone(database_url: str) -> None:
    database = make(database_url)
    before = everything(database_url)
    said = seed(database_url, "--users", "3", "--todos", "4", "--comments", "2")
    assert said == f"{database} already has 3 users, 12 todos, 24 comments: nothing to do\n"
    assert not create(database, SMALL, replace=True)
    assert everything(database_url) == before


@pytest.mark.parametrize(
    "other",
    [
        Shape(users=4, todos=4, comments=2),
        Shape(users=3, todos=5, comments=2),
        Shape(users=3, todos=4, comments=0),
        Shape(users=3, todos=4, comments=2, indexes=False),
        Shape(users=4, todos=3, comments=2),
    ],
)
def test_another_shape_is_replaced_on_demand_only(database_url: str, other: Shape) -> None:
    database = make(database_url)
    before = everything(database_url)
    with pytest.raises(DbkitError, match=r"has 3 users, 12 todos, 24 comments, not .*--reset"):
        create(database, other, replace=False)
    assert everything(database_url) == before
    assert create(database, other, replace=True)
    assert check(database) == read_shape(database) == other


def test_reset_on_the_command_line_replaces_the_dataset_and_nothing_else(database_url: str) -> None:
    make(database_url)
    execute(database_url, "CREATE TABLE public.todo AS SELECT 'mine' AS title")
    assert "not 3 users, 300 todos, 0 comments, foreign" in mistake(
        database_url, "--users", "3", "--comments", "0", "--no-indexes"
    )
    assert read_shape(DatabaseUrl.parse(database_url)) == SMALL
    assert "seeded" in seed(database_url, "--users", "3", "--comments", "0", "--no-indexes", "--reset", "--yes")
    assert check(DatabaseUrl.parse(database_url)) == Shape(users=3, comments=0, indexes=False)
    assert query(database_url, "SELECT title FROM public.todo") == [("mine",)]


def test_reset_asks_before_it_replaces_a_dataset(database_url: str) -> None:
    make(database_url)
    line = mistake(database_url, "--reset")
    assert (
        line == f"seed.py: error: --reset replaces the dataset in {database_url}, and there is no terminal to ask on:"
        " add --yes\n"
    )
    reset = (*SEED, "--users", "3", "--comments", "0", "--reset")
    variables = {**os.environ, "DBKIT_DATABASE_URL": database_url}
    for typed in ("\n", "n\n", "yesterday\n", "\x04"):
        said = on_a_terminal(*reset, width=300, variables=variables, typed=typed, exit_code=2)
        assert f"Replace the dataset in {database_url}? [y/N]" in said
        assert "is left as it is" in said
    assert read_shape(DatabaseUrl.parse(database_url)) == SMALL
    assert "seeded" in on_a_terminal(*reset, width=300, variables=variables, typed="y\n")
    assert read_shape(DatabaseUrl.parse(database_url)) == Shape(users=3, comments=0)


def test_the_embedded_server_is_not_asked_about(tmp_path: Path) -> None:
    kept = {name: value for name, value in os.environ.items() if name != "DBKIT_DATABASE_URL"}
    for arguments in (("--users", "1"), ("--users", "2", "--reset")):
        done = subprocess.run(
            [*SEED, *arguments],
            env=kept | {"DBKIT_EMBEDDED_FOLDER": str(tmp_path / "server")},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert "seeded" in done.stdout


@pytest.mark.parametrize("comment", ["NULL", "'dbkit'", "'{}'", f"'{MARK}'", f"'{MARK}[3]'", f"'our {MARK}{{}}'"])
def test_a_schema_that_lacks_the_mark_is_not_touched(database_url: str, comment: str) -> None:
    execute(database_url, f"CREATE SCHEMA dbkit CREATE TABLE todo (id int); COMMENT ON SCHEMA dbkit IS {comment}")
    before = everything(database_url)
    database = DatabaseUrl.parse(database_url)
    for attempt in (
        lambda: create(database, Shape(), replace=True),
        lambda: create(database, Shape(), replace=False),
        lambda: read_shape(database),
        lambda: check(database),
    ):
        with pytest.raises(DbkitError, match="without dbkit's mark, which is not touched: rename it"):
            attempt()
    assert everything(database_url) == before


def test_a_foreign_schema_is_a_clear_error_on_the_command_line(database_url: str) -> None:
    execute(database_url, "CREATE SCHEMA dbkit")
    assert "has a schema dbkit without dbkit's mark" in mistake(database_url, "--reset", "--yes")
    assert query(database_url, "SELECT nspname FROM pg_namespace WHERE nspname = 'dbkit'") == [("dbkit",)]


@pytest.mark.parametrize(
    "theirs",
    [
        "CREATE VIEW public.theirs AS SELECT title FROM dbkit.todo",
        "CREATE TABLE dbkit.theirs (id int)",
        "CREATE TABLE public.theirs (user_id int REFERENCES dbkit.app_user)",
        "CREATE FUNCTION dbkit.theirs() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    ],
)
def test_what_others_built_on_the_dataset_is_named_and_not_dropped(database_url: str, theirs: str) -> None:
    database = make(database_url)
    execute(database_url, theirs)
    before = everything(database_url)
    with pytest.raises(
        DbkitError, match=r"theirs.* depends on .*dbkit.*; it was not made by dbkit: move or drop it first"
    ):
        create(database, Shape(), replace=True)
    assert everything(database_url) == before
    assert check(database) == SMALL


def test_a_reader_who_holds_the_tables_is_a_clear_error_and_not_a_hang(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dbkit.todo.dataset.LOCK_TIMEOUT_S", 0.1)
    database = make(database_url)
    with psycopg.connect(database_url) as reader:
        reader.execute("SELECT FROM dbkit.todo")
        with pytest.raises(DbkitError, match=r"the dataset is in use by .*: end that first"):
            create(database, Shape(), replace=True)
    assert check(database) == SMALL


# Interrupted, and two at once


@pytest.mark.parametrize("seeded", [True, False], ids=["old dataset", "none"])
@pytest.mark.parametrize("interrupt", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_run_leaves_the_old_dataset_or_none(
    database_url: str, interrupt: signal.Signals, seeded: bool
) -> None:
    if seeded:
        make(database_url)
    before = everything(database_url)
    run = start(database_url, *LARGE, "--reset", "--yes")
    with psycopg.connect(database_url, autocommit=True) as watcher:

        def found(statement: str) -> bool:
            return watcher.execute(f"SELECT EXISTS ({statement} AND datname = current_database())").fetchone() == (
                True,
            )

        wait_until(lambda: found("SELECT FROM pg_stat_progress_copy WHERE tuples_processed > 10000"))
        run.send_signal(interrupt)
        output = run.communicate(timeout=DEADLINE_S)
        wait_until(lambda: not found("SELECT FROM pg_stat_activity WHERE application_name = 'dbkit'"))
    if interrupt == signal.SIGINT:
        assert (run.returncode, *output) == (130, "", "seed.py: interrupted\n")
    else:
        assert (run.returncode, *output) == (-interrupt, "", "")
    assert everything(database_url) == before
    database = DatabaseUrl.parse(database_url)
    if seeded:
        assert check(database) == SMALL
    else:
        assert create(database, SMALL, replace=False)


def test_of_two_runs_at_once_one_makes_the_dataset_and_the_other_finds_it(database_url: str) -> None:
    # with this default a seeding that waited would still see what was there before
    url = with_options(database_url, "-c default_transaction_isolation=serializable")
    with psycopg.connect(database_url, autocommit=True) as gate:
        gate.execute("SELECT pg_advisory_lock(hashtext(%s))", [MARK])
        runs = [start(url), start(url)]
        waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        wait_until(lambda: gate.execute(waiting).fetchone() == (2,))
    lines = sorted(run.communicate(timeout=DEADLINE_S) for run in runs)
    assert [run.returncode for run in runs] == [0, 0]
    name = DatabaseUrl.parse(database_url)
    rows = "20 users, 2,000 todos, 4,000 comments"
    assert lines == [(f"{name} already has {rows}: nothing to do\n", ""), (f"seeded {name}: {rows}\n", "")]
    check(name)


# Checking


DAMAGES = {
    "a user renamed": "UPDATE dbkit.app_user SET name = 'user4' WHERE id = 2",
    "a todo of another user": "UPDATE dbkit.todo SET user_id = 1 WHERE id = 5",
    "a title": "UPDATE dbkit.todo SET title = 'user1-task-0' WHERE id = 12",
    "a todo done": "UPDATE dbkit.todo SET done = NOT done WHERE id = 2",
    "a comment on another todo": "UPDATE dbkit.comment SET todo_id = 2 WHERE id = 1",
    "a body": "UPDATE dbkit.comment SET body = 'c2-0' WHERE id = 1",
    "a body unknown": "ALTER TABLE dbkit.comment ALTER body DROP NOT NULL; UPDATE dbkit.comment SET body = NULL",
    "two comments swapped": "UPDATE dbkit.comment SET body = CASE id WHEN 1 THEN 'c2-0' ELSE 'c1-0' END WHERE id <= 2",
    "the first comment gone": "DELETE FROM dbkit.comment WHERE id = 1",
    "a comment in the middle gone": "DELETE FROM dbkit.comment WHERE id = 7",
    "the last comment gone": "DELETE FROM dbkit.comment WHERE id = 24",
    "all comments gone": "TRUNCATE dbkit.comment",
    "a comment more": "INSERT INTO dbkit.comment (todo_id, body) VALUES (12, 'c3-3')",
    "a comment below": "INSERT INTO dbkit.comment VALUES (-2147483648, 1, 'c1-0')",
    "a comment under another id": "UPDATE dbkit.comment SET id = 25 WHERE id = 24",
    "a comment in another's place": "DELETE FROM dbkit.comment WHERE id = 7; "
    "INSERT INTO dbkit.comment VALUES (0, 1, 'c0-0')",
    "a comment twice": "ALTER TABLE dbkit.comment DROP CONSTRAINT comment_pkey; UPDATE dbkit.comment SET id = 1, "
    "todo_id = 1, body = 'c1-0' WHERE id = 2",
    "a table gone": "DROP TABLE dbkit.comment",
    "a column gone": "ALTER TABLE dbkit.todo DROP done",
    "a column of another type": "ALTER TABLE dbkit.todo ALTER done TYPE text",
    "an index gone": "DROP INDEX dbkit.ix_todo_user_id",
    "an index more": "CREATE INDEX theirs ON dbkit.todo (title)",
    "a foreign key gone": "ALTER TABLE dbkit.comment DROP CONSTRAINT comment_todo_id_fkey",
    "a primary key gone": "ALTER TABLE dbkit.comment DROP CONSTRAINT comment_pkey",
    "the mark of another shape": f"""COMMENT ON SCHEMA dbkit IS '{MARK}{{"users": 3, "todos": 3, "comments": 2}}'""",
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_check_finds_all_damage_and_reset_repairs_it(database_url: str, damage: str) -> None:
    database = make(database_url)
    assert check(database) == SMALL
    execute(database_url, damage)
    with pytest.raises(DbkitError, match=r"damaged.*: replace it with python seed.py --reset"):
        check(database)
    assert create(database, SMALL, replace=True)
    assert check(database) == SMALL


def test_a_comment_where_none_is_due_is_damage(database_url: str) -> None:
    database = make(database_url, Shape(users=1, todos=1, comments=0))
    check(database)
    execute(database_url, "INSERT INTO dbkit.comment (todo_id, body) VALUES (1, 'c1-0')")
    with pytest.raises(DbkitError, match="damaged"):
        check(database)


def test_check_on_the_command_line_compares_with_the_mark_and_with_the_shape_given(database_url: str) -> None:
    name = make(database_url)
    assert seed(database_url, "--check") == f"{name}: every row is right: 3 users, 12 todos, 24 comments\n"
    assert "which differs in users and indexes" in mistake(database_url, "--check", "--users", "4", "--no-indexes")
    execute(database_url, "UPDATE dbkit.todo SET title = '' WHERE id = 7")
    assert "the row of dbkit.todo with id 7 is not the dataset's" in mistake(database_url, "--check")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("DROP TABLE dbkit.comment", 'relation "dbkit.comment" does not exist; the dataset is damaged'),
        ("TRUNCATE dbkit.comment", "the last id of dbkit.comment is 0, not 24"),
        ("DROP SCHEMA dbkit CASCADE", "has no dataset: make it with python seed.py"),
    ],
)
def test_the_shape_is_read_back_unless_rows_are_obviously_missing(database_url: str, damage: str, message: str) -> None:
    database = make(database_url)
    assert read_shape(database) == SMALL
    execute(database_url, damage)
    with pytest.raises(DbkitError, match=re.escape(message)):
        read_shape(database)


def test_a_dataset_with_rows_obviously_missing_does_not_pass_for_there_already(database_url: str) -> None:
    database = make(database_url)
    execute(database_url, "TRUNCATE dbkit.comment")
    with pytest.raises(DbkitError, match=r"the last id of dbkit.comment is 0, not 24"):
        create(database, SMALL, replace=False)


# What a right page holds


shapes = st.builds(Shape, st.integers(1, 5), st.integers(1, 9), st.integers(0, 3), st.booleans())


@given(shape=shapes, page_size=st.integers(1, 60))
def test_the_pages_together_are_the_whole_dataset_once(shape: Shape, page_size: int) -> None:
    pages = [shape.expected_page(page, page_size) for page in range(shape.pages(page_size))]
    assert [todo for page in pages for todo in page] == [
        (f"user{user}-task-{task}", [f"c{comment}-{task}" for comment in range(1, shape.comments + 1)])
        for user in range(1, shape.users + 1)
        for task in range(shape.todos)
    ]
    assert all(len(page) == page_size for page in pages[:-1])
    assert 1 <= len(pages[-1]) <= page_size
    assert shape.expected_page(len(pages), page_size) == []


@pytest.mark.parametrize("comments", [0, 1, 11])
def test_the_pages_are_what_the_database_gives(database_url: str, comments: int) -> None:
    shape = Shape(users=3, todos=7, comments=comments)
    make(database_url, shape)
    statement = """
        SELECT title, ARRAY(SELECT body FROM dbkit.comment WHERE todo_id = todo.id ORDER BY comment.id)
        FROM dbkit.todo ORDER BY id LIMIT {0} OFFSET {0} * {1}
    """
    for page_size in (1, 5, 21, 22):
        for page in range(shape.pages(page_size) + 1):
            assert shape.expected_page(page, page_size) == query(database_url, statement.format(page_size, page))


# Mistakes


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--users", "0"), "argument --users: invalid value '0': expected an integer of at least 1"),
        (("--users", "2000000", "--todos", "2000"), "expected at most 2,147,483,647 rows in each table"),
        ((), "is the server running there?"),
    ],
)
def test_a_mistake_is_one_line_that_says_what_to_do(arguments: tuple[str, ...], message: str) -> None:
    line = mistake(UNREACHABLE, *arguments)
    assert message in line
    assert "hunter2" not in line


@pytest.mark.parametrize("numbers", [(0, 1, 1), (1, 0, 1), (1, 1, -1), (2**31, 1, 0), (2**16, 2**15, 0), (1, 2**30, 2)])
def test_an_impossible_shape_cannot_be_made(numbers: tuple[int, int, int]) -> None:
    with pytest.raises(DbkitError, match=r"invalid shape of the dataset.*: expected at "):
        Shape(*numbers)


def test_a_server_that_may_only_be_read_is_a_clear_error(database_url: str) -> None:
    url = with_options(database_url, "-c default_transaction_read_only=on")
    with pytest.raises(DbkitError, match="in a read-only transaction; use a server"):
        create(DatabaseUrl.parse(url), SMALL, replace=False)
    make(database_url)
    assert not create(DatabaseUrl.parse(url), SMALL, replace=False)


def test_a_user_without_the_right_to_make_a_schema_is_a_clear_error(database_url: str) -> None:
    role = f"reader_{os.getpid()}"
    execute(database_url, f"CREATE ROLE {role}")
    try:
        database = DatabaseUrl.parse(with_options(database_url, f"-c role={role}"))
        with pytest.raises(DbkitError, match=r"permission denied for database .*; connect as the user that"):
            create(database, SMALL, replace=False)
        make(database_url)
        with pytest.raises(DbkitError, match="permission denied for schema dbkit; connect as the user that"):
            read_shape(database)
        with pytest.raises(DbkitError, match=r"(must be owner of|permission denied for) .*; connect as the user that"):
            create(database, Shape(), replace=True)
    finally:
        execute(database_url, f"DROP ROLE {role}")


# The terminal


def seeding_on_a_terminal(url: str, **variables: str) -> str:
    """The output of a run on a terminal."""
    return on_a_terminal(
        *SEED, "--database-url", url, width=100, variables={**os.environ, "TERM": "xterm-256color", **variables}
    )


def test_a_terminal_shows_a_progress_bar_in_colour_unless_no_color_is_set(database_url: str) -> None:
    colour = re.compile(r"\x1b\[[0-9;]*3[0-9]")
    written = seeding_on_a_terminal(database_url, NO_COLOR="")
    assert "━━━" in written
    assert "6020/6020" in written
    assert colour.search(written)
    execute(database_url, "DROP SCHEMA dbkit CASCADE")
    written = seeding_on_a_terminal(database_url, NO_COLOR="1")
    assert "━━━" in written
    assert not colour.search(written)
