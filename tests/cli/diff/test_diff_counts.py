"""What `dbkit diff` says of two revisions by what is exact of their pages, and for what it cannot compare."""

from __future__ import annotations

import re
import shutil

import pytest

from tests.cli.diff.runs import diff, error_line
from tests.repositories import LAZY, Shop


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
