"""`dbkit diff` as users run it: two revisions of a real repository, by their counts and under load."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from dbkit.analysis.sequential import LEAST_ROUNDS
from tests.locust_runs import DEADLINE_S, REPOSITORY
from tests.repositories import ALONE, LAZY, Shop, make_shop, make_tables

SHORT = ("--rounds", "3", "--slot-time", "0.2", "--warm-up", "0.1", "-u", "2")


@pytest.fixture(scope="module")
def shop_url(server_url: str) -> str:
    make_tables(server_url)
    return server_url


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return make_shop(tmp_path / "a shop with spaces")


def environment(url: str, folder: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not re.match("DBKIT_|LOCUST_|PG|GIT_", name)}
    own = {
        "DBKIT_DATABASE_URL": url,
        "PYTHONPATH": str(REPOSITORY),
        "TMPDIR": str(folder),
        "XDG_CACHE_HOME": str(folder),
    }
    return kept | ALONE | own


@contextmanager
def started(shop: Shop, url: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A `dbkit diff` in the shop's folder, in a session of its own; what it makes lies beside the shop."""
    beside = shop.root.parent / "beside"
    beside.mkdir(exist_ok=True)
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "dbkit", "diff", *arguments],
        cwd=shop.folder,
        env=environment(url, beside),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


def diff(shop: Shop, url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A run to its end; then nothing is left of it."""
    with started(shop, url, *arguments) as process:
        output, errors = process.communicate(timeout=DEADLINE_S)
    assert leftovers(shop) == []
    return subprocess.CompletedProcess([], process.returncode, output, errors)


def leftovers(shop: Shop) -> list[str]:
    """Processes and folders of a command that has ended."""
    here = str(shop.root.parent)
    left = []
    for process in psutil.process_iter(["cmdline", "environ"]):
        if here in (process.info["environ"] or {}).get("TMPDIR", ""):
            left.append(" ".join(process.info["cmdline"] or []))
    kept = {"dbkit", ".dbkit"}  # caches
    return left + [str(each) for each in (shop.root.parent / "beside").iterdir() if each.name not in kept]


def error_line(done: subprocess.CompletedProcess[str]) -> str:
    """The one line that says what is wrong."""
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr.splitlines()[-1].removeprefix("python -m dbkit: error: ")


def test_a_lazy_relation_is_found_by_its_counts_with_the_line_that_sends_it(shop: Shop, shop_url: str) -> None:
    shop.branch("lazy", *LAZY)
    done = diff(shop, shop_url, "main..lazy", "--counts-only", "--", "shop_load.py")
    counts = re.escape("PsycopgShelves: statements 2 → 11, round trips 4 → 15, prepares 0 → 1, bytes from server ")
    assert re.search(counts + r"\d+ → \d+,.* at 5 of 5 keys, such as 0\b", done.stdout)
    assert "+ 10 × shop/pages.py:26 in shelves: SELECT" in done.stdout
    assert "PsycopgTitles: the same statements, counts and pages, at 20 keys" in done.stdout
    assert "dbkit: reading pages of main and lazy, without load …" in done.stderr
    assert done.returncode == 3
    assert shop.is_clean()


def test_the_working_tree_is_compared_with_what_is_not_committed(shop: Shop, shop_url: str) -> None:
    shop.change("return list(session.scalars(query))", "return list(session.scalars(query))[:2]")
    (shop.folder / "locust.conf").write_text("end = commit\n")  # of the user's folder, for both sides
    done = diff(shop, shop_url, "main", "--counts-only", "--", "shop_load.py", "PsycopgTitles")
    assert "after:  working tree" in done.stdout
    assert "PsycopgTitles: the same statements, another page, at 20 of 20 keys" in done.stdout
    assert "PsycopgShelves" not in done.stdout
    assert done.returncode == 0
    assert shop.git("status", "--short") == " M shop/pages.py\n?? locust.conf\n"


def test_two_revisions_are_measured_in_turns_by_processes_of_their_own(shop: Shop, shop_url: str) -> None:
    shop.branch("lazy", *LAZY)
    results = shop.root.parent / "results" / "diff"
    (shop.folder / "locust.conf").write_text(f"processes = 2\ncsv = {results.with_name('of-conf')}\n")
    done = diff(shop, shop_url, "main..lazy", "--csv", str(results), *SHORT, "--", "shop_load.py")
    assert {each.name.partition("_")[0] for each in results.parent.iterdir()} == {"diff"}
    assert done.returncode == 3, done.stderr
    comparison: dict[str, Any] = json.loads((results.parent / "diff_comparison.json").read_text())
    rows = {(row["user_class"], row["settings"]["revision"]): row for row in comparison["strategies"]}
    assert {name: row["statements"] for name, row in rows.items()} == {
        **{("PsycopgShelves", "main"): 2, ("PsycopgShelves", "lazy"): 11},
        **{("PsycopgTitles", "main"): 1, ("PsycopgTitles", "lazy"): 1},
    }
    assert {row["processes"] for row in rows.values()} == {1}
    assert all(row["pages"] and not row["failures"] for row in rows.values())
    for number in (1, 2, 3):  # each condition as often as the others
        turns = Counter(slot["condition"] for slot in comparison["slots"] if slot["round"] == number)
        assert len(turns) == 4 and len({*turns.values()}) == 1
    verdicts = {(each["label"], each["quantity"]): each for each in comparison["verdicts"]}
    assert {each["differs_in"] for each in verdicts.values()} == {"revision"}
    assert {each["reference"] for each in verdicts.values()} == {
        *("PsycopgShelves, revision=main", "PsycopgTitles, revision=main"),
    }
    assert comparison["revisions"]["after"]["name"] == "lazy"
    assert [change["after"].get("statements") for change in comparison["revisions"]["pages"]] == [11, 1]
    assert any("statements 2 → 11" in sentence for sentence in comparison["headline"])


def test_rounds_go_on_until_it_is_decided(shop: Shop, shop_url: str) -> None:
    """Ten times the statements are seen at the first look, long before the budget is spent."""
    shop.branch("lazy", *LAZY)
    results = shop.root.parent / "results" / "diff"
    arguments = ("--rounds", "auto", "--budget", "60", "--slot-time", "0.2", "--warm-up", "0.1", "-u", "2")
    done = diff(shop, shop_url, "main..lazy", "--csv", str(results), *arguments, "--", "shop_load.py", "PsycopgShelves")
    assert done.returncode == 3, done.stderr
    assert "PsycopgShelves is slower on lazy: " in done.stdout
    comparison = json.loads((results.parent / "diff_comparison.json").read_text())
    assert max(slot["round"] for slot in comparison["slots"]) == LEAST_ROUNDS


def in_workers(shop: Shop, code: str) -> Path:
    """Have code run where a worker imports the locustfile; the file that it may write to, as `file`."""
    file = shop.root.parent / "written"
    file.touch()
    lines = [
        f"\nimport os, sys, time\n\nfile = {str(file)!r}\nif '--worker' in sys.argv:\n",
        textwrap.indent(textwrap.dedent(code), "    "),
    ]
    with (shop.folder / "shop_load.py").open("a") as locustfile:
        locustfile.writelines(lines)
    shop.commit("What workers do besides")
    return file


def test_each_round_is_read_by_processes_and_keys_that_no_other_round_has(shop: Shop, shop_url: str) -> None:
    written = in_workers(
        shop,
        """
        from locust import events

        @events.request.add_listener
        def note(context, **_):
            with open(file, "a") as pages:
                print(context["slot"], os.getpid(), context["key"], sep="\\t", file=pages)

        @events.quitting.add_listener
        def set_exit_code(environment, **_):
            environment.process_exit_code = 0
        """,
    )
    results = shop.root.parent / "results" / "diff"
    arguments = ("main..main", "--csv", str(results), *SHORT, "-u", "1", "--", "shop_load.py", "PsycopgTitles")
    diff(shop, shop_url, *arguments)
    comparison = json.loads((results.parent / "diff_comparison.json").read_text())
    pages = [line.split("\t") for line in written.read_text().splitlines()]
    read_by: defaultdict[tuple[int, str], set[str]] = defaultdict(set)
    first_keys: defaultdict[int, set[tuple[str, ...]]] = defaultdict(set)
    for number, condition in {(slot["round"], slot["condition"]) for slot in comparison["slots"]}:
        slots = [each for each in comparison["slots"] if (each["round"], each["condition"]) == (number, condition)]
        of_slots = [[page for page in pages if page[0] == str(each["slot"])] for each in slots]
        read_by[number, condition] = {pid for of_slot in of_slots for _, pid, _ in of_slot}
        first_keys[number].add(tuple(of_slot[0][2] for of_slot in of_slots))
    assert len(read_by) == 3 * 2
    assert [len(pids) for pids in read_by.values()] == [1] * len(read_by)
    assert len(set.union(*read_by.values())) == len(read_by)
    assert [len(keys) for keys in first_keys.values()] == [1, 1, 1]  # the same on both sides
    assert len(set.union(*first_keys.values())) == 3
    assert sum(row["pages"] for row in comparison["strategies"]) == sum(slot["pages"] for slot in comparison["slots"])
    assert not [each for each in comparison["warnings"] if "lost" in each]


@pytest.mark.parametrize(
    "at_start, then, rounds",
    [(1, "", []), (2, "", [1]), (2, "raise ValueError('a name that is not there yet')", [1])],
    ids=["before the first round", "before the second", "so that it cannot be imported"],
)
def test_files_that_change_meanwhile_end_it_with_what_was_measured_before(
    shop: Shop, shop_url: str, at_start: int, then: str, rounds: list[int]
) -> None:
    in_workers(
        shop,
        f"""
        with open(file, "a+") as starts:
            if os.environ["DBKIT_SIDE_NAME"] == "working tree":
                print(os.getpid(), file=starts, flush=True)
                starts.seek(0)
                if len(starts.readlines()) == {at_start}:
                    with open(os.path.join(os.path.dirname(__file__), "shop", "pages.py"), "a") as pages:
                        pages.write("# somebody goes on\\n")
                    {then}
        """,
    )
    results = shop.root.parent / "results"
    done = diff(shop, shop_url, "main", *SHORT, "--csv", str(results / "diff"), "--", "shop_load.py", "PsycopgTitles")
    assert done.returncode == 2
    assert "shop/pages.py has changed since the run began, so the run ends here: " in done.stderr
    assert "Traceback" not in done.stderr
    assert "a name" not in done.stderr
    measured = [json.loads(file.read_text()) for file in results.glob("diff_comparison.json")]
    assert {slot["round"] for each in measured for slot in each["slots"]} == {*rounds}
    assert {each["state"] for each in measured} == ({"cut short"} if rounds else set())


def test_processes_that_cannot_start_again_are_named_and_what_was_measured_is_written(
    shop: Shop, shop_url: str
) -> None:
    in_workers(
        shop,
        """
        with open(file, "a+") as starts:
            print(os.getpid(), file=starts, flush=True)
            starts.seek(0)
            if len(starts.readlines()) > 2:
                raise ValueError("not once more")
        """,
    )
    results = shop.root.parent / "results"
    arguments = ("main..main", *SHORT, "--csv", str(results / "diff"), "--", "shop_load.py", "PsycopgTitles")
    done = diff(shop, shop_url, *arguments)
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert (
        last.startswith("python -m dbkit: error: main")
        and "a load process has ended: " in last
        and "not once more" in last
    )
    comparison = json.loads((results / "diff_comparison.json").read_text())
    assert comparison["state"] == "cut short"
    assert {slot["round"] for slot in comparison["slots"]} == {1}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_processes_start_again_ends_it_with_results_and_nothing_left(
    shop: Shop, shop_url: str, number: signal.Signals
) -> None:
    written = in_workers(
        shop,
        """
        with open(file, "a+") as starts:
            print(os.getpid(), file=starts, flush=True)
            starts.seek(0)
            if len(starts.readlines()) > 2:
                time.sleep(600)
        """,
    )
    results = shop.root.parent / "results"
    arguments = ("main..main", *SHORT, "--csv", str(results / "diff"), "--", "shop_load.py", "PsycopgTitles")
    with started(shop, shop_url, *arguments) as process:
        _wait_until(lambda: len(written.read_text().splitlines()) == 4)
        process.send_signal(number)
        _, errors = process.communicate(timeout=DEADLINE_S)
    assert "Traceback" not in errors
    assert process.returncode in (3, 4)
    comparison = json.loads((results / "diff_comparison.json").read_text())
    assert comparison["state"] == "cut short"
    assert {slot["round"] for slot in comparison["slots"]} == {1}
    assert leftovers(shop) == []


def test_a_class_that_is_on_one_side_alone_is_named_and_not_compared(shop: Shop, shop_url: str) -> None:
    shop.branch("renamed", "titles=titles", "names=titles", "shop_load.py")
    done = diff(shop, shop_url, "main..renamed", "--counts-only", "--", "shop_load.py")
    assert "on main alone, and so not compared with renamed: PsycopgTitles" in done.stdout
    assert "on renamed alone, and so not compared with main: PsycopgNames" in done.stdout
    nothing = diff(shop, shop_url, "main..renamed", "--counts-only", "--", "shop_load.py", "PsycopgNames")
    assert error_line(nothing).startswith("no class can be compared")
    unknown = diff(shop, shop_url, "main..renamed", "--counts-only", "--", "shop_load.py", "PsycopgNone")
    assert error_line(unknown) == "there is no class PsycopgNone on either side"


def test_a_revision_that_cannot_be_imported_says_so(shop: Shop, shop_url: str) -> None:
    shop.branch("broken", "def titles", "def titles_of_old")
    done = diff(shop, shop_url, "main..broken", "--", "shop_load.py")
    *traceback, line = done.stderr.splitlines()
    assert line.startswith("python -m dbkit: error: broken: its pages cannot be read (exit code 2): ")
    assert line.endswith("shop_load.py cannot be imported: ImportError at shop_load.py:3 in <module>")
    assert traceback[-1].startswith("ImportError: cannot import name 'titles' from 'shop.pages'")
    assert done.returncode == 2
    assert shop.is_clean()


def test_a_page_that_fails_after_is_a_failure(shop: Shop, shop_url: str) -> None:
    shop.change("select(Book.title)", "select(Book.title + 1)")
    shop.change("keys=range(5)", "keys=lambda session: 1 / 0", "shop_load.py")
    done = diff(shop, shop_url, "main", "--counts-only", "--", "shop_load.py")
    assert "PsycopgTitles: its page cannot be read after: " in done.stdout
    assert "PsycopgShelves: its page cannot be read after: DbkitError: the keys of workload 'shelves'" in done.stdout
    assert done.returncode == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_under_load_ends_it_with_results_and_nothing_left(
    shop: Shop, shop_url: str, number: signal.Signals
) -> None:
    results = shop.root.parent / "results"
    arguments = ("main..main", "--rounds", "500", "--csv", str(results / "diff"), "--", "shop_load.py", "PsycopgTitles")
    with started(shop, shop_url, *arguments) as process:
        _wait_for(process, "round 2", shop)
        process.send_signal(number)
        process.communicate(timeout=DEADLINE_S)
    assert process.returncode in (3, 4)
    assert json.loads((results / "diff_comparison.json").read_text())["state"] == "cut short"
    assert leftovers(shop) == []
    assert shop.is_clean()


def test_a_signal_before_the_load_ends_it_with_nothing_left(shop: Shop, shop_url: str) -> None:
    shop.change("def shelves", "import time; time.sleep(600)\n\n\ndef shelves")
    with started(shop, shop_url, "main", "--", "shop_load.py") as process:
        _wait_until(lambda: any("page_facts" in line for line in leftovers(shop)))
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=DEADLINE_S)
    assert (process.returncode, errors.splitlines()[-1]) == (143, "python -m dbkit: interrupted")
    assert leftovers(shop) == []


@pytest.mark.parametrize(("role", "who"), [("--master", "the process that makes the result"), ("--worker", "main (")])
def test_a_process_that_is_killed_under_load_is_named(shop: Shop, shop_url: str, role: str, who: str) -> None:
    arguments = ("main..main", "--rounds", "500", "--processes", "2", "--", "shop_load.py", "PsycopgTitles")
    with started(shop, shop_url, *arguments) as process:
        _wait_for(process, "round 2", shop)
        next(each for each in psutil.Process(process.pid).children() if role in each.cmdline()).kill()
        _, errors = process.communicate(timeout=DEADLINE_S)
    last = errors.splitlines()[-1]
    assert last.startswith(f"python -m dbkit: error: {who}") and last.endswith("has ended: it was killed by SIGKILL")
    assert process.returncode == 2
    assert leftovers(shop) == []
    assert shop.is_clean()


def test_what_a_killed_command_leaves_ends_and_is_removed_at_the_next_start(shop: Shop, shop_url: str) -> None:
    shop.change("def shelves", "import time; time.sleep(600)\n\n\ndef shelves")
    with started(shop, shop_url, "main", "--", "shop_load.py") as process:
        _wait_until(lambda: any("page_facts" in line for line in leftovers(shop)))
        process.kill()
        process.communicate(timeout=DEADLINE_S)
    _wait_until(lambda: not any("page_facts" in line for line in leftovers(shop)))
    assert diff(shop, shop_url, "none..main", "--", "shop_load.py").returncode == 2
    assert shop.git("status", "--short") == " M shop/pages.py\n"
    assert "before" not in shop.git("worktree", "list")


def _wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _wait_for(process: subprocess.Popen[str], words: str, shop: Shop) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        if words in line:
            return
    raise AssertionError(f"it ended without {words!r}")


def test_folders_are_compared_as_they_are(shop: Shop, shop_url: str) -> None:
    other = shop.root.parent / "other"
    shutil.copytree(shop.root, other)
    changed = Shop(other, other)
    changed.change(*LAZY)
    for side, factor in ((shop, 1), (changed, 2)):
        texts = f"lambda session, text: [len(text) * {factor}]"
        added = f'[each] = page_users(Workload("texts", keys=["a\\n::error::b"]), stacks=["psycopg"], texts={texts})\n'
        side.change('page_users(Workload("titles', f'{added}page_users(Workload("titles', "shop_load.py")
    done = diff(
        shop, shop_url, "--before", str(shop.root), "--after", str(other), "--counts-only", "--", "shop_load.py"
    )
    assert "statements 2 → 11" in done.stdout
    assert r"another page, at 1 of 1 key, such as 'a\n::error::b'" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["main..main"], "name the locustfile after --, such as: dbkit diff main..HEAD -- shop_load.py"),
        (["main..main", "--processes", "0", "--", "shop_load.py"], "argument --processes: invalid value '0'"),
        (["main..main", "--", "other.py"], "there is no locustfile 'other.py'"),
        (["main..main", "--rounds", "some", "--", "shop_load.py"], "argument --rounds: invalid value 'some': expected"),
        (["main..main", "--nothing", "--", "shop_load.py"], "unrecognized arguments: --nothing"),
        (["none..main", "--", "shop_load.py"], "none"),
        (
            ["main..main", "--limit", "p95_ms < 50", "--max-users", "2", "--", "shop_load.py", "PsycopgTitles"],
            "--limit does not go with dbkit diff",
        ),
        (["main..main", "--calibrate", "--", "shop_load.py"], "--calibrate does not go with dbkit diff"),
        (["--", "shop_load.py"], "no revisions to compare"),
    ],
)
def test_bad_input_is_one_line(shop: Shop, shop_url: str, arguments: list[str], expected: str) -> None:
    done = diff(shop, shop_url, *arguments)
    assert done.returncode == 2
    assert expected in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert shop.is_clean()
