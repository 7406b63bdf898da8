"""Both sides of a before and after: which code they are, and that nothing of them stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dbkit.errors import DbkitError
from dbkit.sides.checkouts import Checkout, checkouts
from tests.locust_runs import DEADLINE_S, REPOSITORY
from tests.sides.repositories import IDENTITY, Shop, make_shop


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The system's folder for temporary files during the test."""
    folder = tmp_path / "temporary files"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return folder


@pytest.fixture
def shop(tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    """A repository with `service` as the working directory; at the end nothing may be left of any side."""
    for name, value in IDENTITY.items():
        monkeypatch.setenv(name, value)
    made = make_shop(tmp_path / "a shop")
    branches = made.git("for-each-ref", "--format=%(refname)", "refs/heads")
    monkeypatch.chdir(made.root / "service")
    yield made
    assert made.worktrees == []
    assert list(temporary.iterdir()) == []
    assert made.git("for-each-ref", "--format=%(refname)", "refs/heads") == branches


def code(side: Checkout) -> str:
    return (side.directory / "local.py").read_text().split("'")[1]


@pytest.mark.parametrize(
    ("revisions", "names", "subjects", "codes"),
    [
        ("main..HEAD", ("main", "HEAD"), ("Pages before", "Pages after"), ("before", "after")),
        ("main..", ("main", "HEAD"), ("Pages before", "Pages after"), ("before", "after")),
        ("..main", ("HEAD", "main"), ("Pages after", "Pages before"), ("after", "before")),
        ("main", ("main", "working tree"), ("Pages before", ""), ("before", "after")),
        ("main..main", ("main (before)", "main (after)"), ("Pages before",) * 2, ("before", "before")),
        (
            "change~1...change",
            ("change~1 (merge base)", "change"),
            ("Pages before", "Pages after"),
            ("before", "after"),
        ),
    ],
)
def test_revisions_are_those_of_git_diff(
    shop: Shop, revisions: str, names: tuple[str, str], subjects: tuple[str, str], codes: tuple[str, str]
) -> None:
    with checkouts(revisions) as sides:
        assert tuple(side.name for side in sides) == names
        assert tuple(side.subject for side in sides) == subjects
        assert tuple(map(code, sides)) == codes
        for side in sides:
            revision = side.name.split()[0]
            assert side.commit == ("" if revision == "working" else shop.git("rev-parse", "--short", revision.strip()))
            assert side.directory == side.root / "service"
        assert shop.root not in {side.root for side in sides if side.commit}


def test_three_dots_leave_out_what_the_first_branch_got_meanwhile(shop: Shop) -> None:
    shop.git("checkout", "--quiet", "main")
    shop.write("service/local.py", "COMMIT = 'meanwhile'\n")
    shop.commit("Meanwhile")
    with checkouts("main...change") as sides:
        assert tuple(map(code, sides)) == ("before", "after")
    with checkouts("main..change") as sides:
        assert tuple(map(code, sides)) == ("meanwhile", "after")


def test_one_revision_alone_is_compared_with_what_is_not_committed(shop: Shop) -> None:
    shop.write("service/local.py", "COMMIT = 'not committed'\n")
    said: list[str] = []
    with checkouts("HEAD", say=said.append) as (before, after):
        assert (code(before), code(after)) == ("after", "not committed")
        assert after.directory == Path.cwd()
    assert said == []


@pytest.mark.parametrize(
    ("changed", "is_said"),
    [("service/local.py", True), ("service/new.py", True), ("results.csv", False), (".venv/x.py", False)],
)
def test_uncommitted_changes_that_are_not_measured_are_said(shop: Shop, changed: str, is_said: bool) -> None:
    shop.write(changed, "CHANGED = 1\n")
    said: list[str] = []
    with checkouts("main..HEAD", say=said.append):
        pass
    assert said == (["uncommitted changes are not measured: for those, give main alone"] if is_said else [])


def test_the_index_and_the_working_tree_stay_as_they_are_also_in_a_hook(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shop.write("service/local.py", "COMMIT = 'staged'\n")
    shop.git("add", "--all")
    shop.write("service/local.py", "COMMIT = 'changed'\n")
    os.utime(shop.root / "shop" / "pages.py")  # git would write this into the index when it looks
    index, status = (shop.root / ".git" / "index"), shop.git("--no-optional-locks", "status", "--porcelain")
    content = index.read_bytes()
    hook = shop.write(".git/hooks/post-checkout", f"#!/bin/sh\ntouch '{tmp_path}/hook ran'\n")
    hook.chmod(0o755)
    # as git sets them for what a hook runs
    monkeypatch.setenv("GIT_DIR", str(shop.root / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(index))
    with checkouts("main..HEAD", say=lambda line: None) as sides:
        assert tuple(map(code, sides)) == ("before", "after")
    assert index.read_bytes() == content
    monkeypatch.delenv("GIT_DIR")
    assert shop.git("--no-optional-locks", "status", "--porcelain") == status
    assert not (tmp_path / "hook ran").exists()


def test_folders_are_taken_as_they_are(shop: Shop, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    shop.git("clone", "--quiet", "--branch", "main", str(shop.root), str(clone))
    shop.write("service/local.py", "COMMIT = 'not committed'\n")
    with checkouts(before=clone / "service", after=Path(".")) as (before, after):
        assert (before.name, after.name) == (str(clone / "service"), ".")
        assert (before.subject, after.subject) == ("Pages before", "")  # what is not committed is no commit
        assert (before.root, after.root) == (clone, shop.root)
        assert (code(before), code(after)) == ("before", "not committed")
    assert clone.exists()


def test_folders_need_no_repository(tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for each in ("a", "b"):
        (tmp_path / each).mkdir()
    monkeypatch.setenv("PATH", str(tmp_path))  # nor git
    with checkouts(before=tmp_path / "a", after=tmp_path / "b") as (before, after):
        assert (before.directory, after.root, after.commit) == (tmp_path / "a", tmp_path / "b", "")


def test_names_and_subjects_can_be_shown_whatever_they_are_made_of(shop: Shop, tmp_path: Path, temporary: Path) -> None:
    (shop.root / "message").write_bytes("Café \x1b[31m\n".encode())
    shop.git("commit", "--quiet", "--allow-empty", "--file", "message")
    (shop.root / "message").unlink()
    with checkouts("HEAD") as (before, _):
        assert before.subject == "Café �[31m"
    folder = tmp_path / os.fsdecode(b"shop \xff")
    folder.mkdir()
    with checkouts(before=folder, after=tmp_path) as (before, _):
        assert before.name == f"{tmp_path}/shop �" and before.directory == folder


def test_submodules_are_said(shop: Shop, tmp_path: Path) -> None:
    other = make_shop(tmp_path / "other")
    shop.git("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(other.root), "other")
    shop.commit("A submodule")
    said: list[str] = []
    with checkouts("HEAD", say=said.append):
        pass
    assert ["submodules are not checked out" in line for line in said] == [True]


def failure(revisions: str | None = None, before: str | None = None, after: str | None = None) -> str:
    folders = [Path(each) if each is not None else None for each in (before, after)]
    with pytest.raises(DbkitError) as mistake, checkouts(revisions, *folders, say=lambda line: None):
        pass
    assert "\n" not in str(mistake.value)
    return str(mistake.value)


@pytest.mark.parametrize(
    ("revisions", "before", "after", "said"),
    [
        ("nothing..HEAD", None, None, "unknown revision 'nothing': expected a branch, a tag or a commit"),
        ("main..v1", None, None, "unknown revision 'v1'"),
        ("HEAD:shop", None, None, "unknown revision 'HEAD:shop'"),
        ("--output=x..HEAD", None, None, "invalid revision '--output=x'"),
        ("-d", None, None, "invalid revision '-d'"),
        ("", None, None, "invalid revisions ''"),
        ("..", None, None, "invalid revisions '..'"),
        ("main..HEAD..main", None, None, "invalid revisions"),
        ("side..HEAD", None, None, "unknown revision 'side': did you mean origin/side?"),
        (None, ".", None, "--before and --after belong together"),
        (None, None, ".", "--before and --after belong together"),
        (None, None, None, "no revisions to compare"),
        ("main", ".", "..", "name two revisions or two folders, not both"),
        (None, ".", "nowhere", "nowhere is not a folder"),
        (None, "local.py", ".", "local.py is not a folder"),
    ],
)
def test_a_mistake_is_one_line(
    shop: Shop, revisions: str | None, before: str | None, after: str | None, said: str
) -> None:
    shop.git("update-ref", "refs/remotes/origin/side", "HEAD")
    assert said in failure(revisions, before, after)


def test_a_folder_that_a_revision_has_not(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.write("later/local.py", "")
    monkeypatch.chdir(shop.root / "later")
    assert failure("main") == "main has no folder later: run this in a folder that both sides have"


def test_histories_with_nothing_in_common(shop: Shop) -> None:
    tree = shop.git("rev-parse", "HEAD^{tree}")
    shop.git("tag", "alone", shop.git("commit-tree", tree, "-m", "Alone"))
    assert "have no commit in common: compare them by two dots" in failure("alone...HEAD")


def test_a_shallow_clone_says_how_to_get_the_rest(shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.git("clone", "--quiet", "--depth", "1", f"file://{shop.root}", str(tmp_path / "shallow"))
    monkeypatch.chdir(tmp_path / "shallow")
    assert "shallow; type git fetch --unshallow, or give actions/checkout fetch-depth: 0" in failure("HEAD~1")


def test_where_git_has_no_working_tree(shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    assert "elsewhere is not in a git repository: run this in one, or name two folders" in failure("main")
    shop.git("clone", "--quiet", "--bare", str(shop.root), str(tmp_path / "bare"))
    monkeypatch.chdir(tmp_path / "bare")
    assert "is in a bare repository: run this in a clone with a working tree" in failure("main")
    monkeypatch.chdir(shop.root)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "git is not installed" in failure("main")
    monkeypatch.undo()


def test_a_folder_for_temporary_files_that_is_missing(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    said = "no folder for the two sides (No such file or directory): TMPDIR names another place"
    assert failure("main") == said


def test_a_repository_of_another_user(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    said = failure("main")
    monkeypatch.delenv("GIT_TEST_ASSUME_DIFFERENT_OWNER")
    assert "another user owns: git config --global --add safe.directory" in said and str(shop.root) in said


def test_nothing_is_left_when_the_block_fails(shop: Shop) -> None:
    with pytest.raises(KeyboardInterrupt), checkouts("main..HEAD") as (before, _):
        (before.directory / "made.txt").write_text("by a process")
        raise KeyboardInterrupt


# Prints the folders of the sides and then waits for its end. SIGTERM raises an exception, as in `dbkit diff`.
PROGRAM = """
import signal, sys, time
from dbkit.sides.checkouts import checkouts
signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(143))
with checkouts("main..HEAD") as sides:
    print(*[side.root for side in sides], sep="\\n", flush=True)
    time.sleep(600)
"""


def started() -> tuple[subprocess.Popen[str], list[Path]]:
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    process = subprocess.Popen([sys.executable, "-c", PROGRAM], env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, [Path(process.stdout.readline().strip()) for _ in range(2)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_nothing_is_left_after_a_signal(shop: Shop, number: signal.Signals) -> None:
    process, roots = started()
    assert all(each.is_dir() for each in roots) and shop.worktrees == ["after", "before"]
    process.send_signal(number)
    with process:
        process.wait(DEADLINE_S)
    assert not any(each.exists() for each in roots)


def test_nothing_is_left_after_a_signal_while_git_checks_out(shop: Shop, tmp_path: Path) -> None:
    shop.write(".gitattributes", "local.py filter=slow\n")
    shop.commit("A filter")
    begun = tmp_path / "begun"
    shop.git("config", "filter.slow.smudge", f"echo $$ > '{begun}'; sleep 600; cat")
    program = PROGRAM.replace("main..HEAD", "HEAD..main")
    with subprocess.Popen([sys.executable, "-c", program], env=os.environ | {"PYTHONPATH": str(REPOSITORY)}) as process:
        deadline_s = time.monotonic() + DEADLINE_S
        while not begun.exists() or not begun.read_text():
            assert time.monotonic() < deadline_s
            time.sleep(0.01)
        process.terminate()
        assert process.wait(DEADLINE_S) == 143


def test_what_a_killed_process_left_is_removed_at_the_next_start_and_nothing_else(shop: Shop, tmp_path: Path) -> None:
    shop.git("worktree", "add", "--quiet", "--detach", str(tmp_path / "the user's own"))
    killed, left = started()
    killed.kill()
    with killed:
        killed.wait(DEADLINE_S)
    alive, used = started()
    try:
        assert not any(each.exists() for each in left) and all(each.is_dir() for each in used)
        with checkouts("main"):
            assert all(each.is_dir() for each in used)
            assert len(shop.worktrees) == 4
    finally:
        alive.terminate()
        with alive:
            alive.wait(DEADLINE_S)
    assert (tmp_path / "the user's own" / "shop").is_dir()
    shop.git("worktree", "remove", str(tmp_path / "the user's own"))
