"""Git, asked on its command line: which repository, which commits. See `dbkit.sides.worktrees` for what it checks out.

Nothing here changes the repository, not even the times in its index.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from dbkit.errors import DbkitError, printable
from dbkit.sides.programs import run_program

OTHER_WAY = "or name two folders by --before and --after"
# What a hook of git sets for the commands in it would name another working tree, or the user's index.
_OF_A_HOOK = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_COMMON_DIR")
# A checkout of ours is none of the hooks' business, and a monitor of its files would stay behind.
_SETTINGS = ("-c", f"core.hooksPath={os.devnull}", "-c", "core.fsmonitor=false")


@dataclass(frozen=True)
class Commit:
    """One commit."""

    hash: str
    short: str
    subject: str
    """The first line of its message."""


@dataclass(frozen=True)
class Repository:
    """A repository with a working tree."""

    root: Path
    """The root of the working tree."""

    @classmethod
    def find(cls, folder: Path) -> Self:
        """The repository that a folder belongs to.

        Raises DbkitError where there is none, it has no working tree, or git does not trust its owner.
        """
        asked = run_git(folder, "rev-parse", "--show-toplevel")
        if asked.returncode == 0:
            return cls(Path(asked.stdout.removesuffix("\n")))
        if "dubious ownership" in asked.stderr:
            raise DbkitError(f"git does not trust {folder}, which another user owns: {_advice(asked.stderr)}")
        if "work tree" in asked.stderr:
            raise DbkitError(f"{folder} is in a bare repository: run this in a clone with a working tree")
        if "not a git repository" in asked.stderr:
            raise DbkitError(f"{folder} is not in a git repository: run this in one, {OTHER_WAY}")
        raise DbkitError(_reason(asked))

    def commit(self, revision: str) -> Commit:
        """The commit that a branch, a tag, a hash or such as `HEAD~3` names.

        Raises DbkitError where it names none.
        """
        if not revision or revision.startswith("-"):
            raise DbkitError(f"invalid revision {revision!r}: expected a branch, a tag or a commit")
        asked = self.run("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}")
        if asked.returncode:
            raise DbkitError(f"unknown revision {revision!r}: {self._advice_on(revision)}")
        found = asked.stdout.strip()
        short, _, subject = self.ask("log", "-1", "--no-show-signature", "--format=%h %s", found).partition(" ")
        return Commit(found, short, printable(subject))

    def merge_base(self, one: Commit, other: Commit) -> Commit:
        """The commit at which two histories part. Raises DbkitError where they have none in common."""
        asked = self.run("merge-base", one.hash, other.hash)
        if asked.returncode:
            advice = self._advice_on_shallow() or "compare them by two dots"
            raise DbkitError(f"{one.short} and {other.short} have no commit in common: {advice}")
        return self.commit(asked.stdout.split()[0])

    def is_dirty(self) -> bool:
        """Whether something tracked is not committed, or a file of Python is not tracked."""
        listed = self.ask("status", "--porcelain", "-z", "--no-renames", "--untracked-files=all").split("\0")
        return any(not each.startswith("??") or each.endswith(".py") for each in listed if each)

    def ask(self, *arguments: str) -> str:
        """What a command prints, without the newline at its end. Raises DbkitError with git's reason if it fails."""
        asked = self.run(*arguments)
        if asked.returncode:
            raise DbkitError(_reason(asked))
        return asked.stdout.removesuffix("\n")

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """See `run_git`, in the root."""
        return run_git(self.root, *arguments)

    def _advice_on(self, revision: str) -> str:
        branches = self.run("for-each-ref", "--format=%(refname:short)", f"refs/remotes/*/{revision}").stdout.split()
        if branches:
            return f"did you mean {branches[0]}?"
        return self._advice_on_shallow() or "expected a branch, a tag or a commit; git branch --all lists branches"

    def _advice_on_shallow(self) -> str:
        if self.run("rev-parse", "--is-shallow-repository").stdout.strip() != "true":
            return ""
        return "this clone is shallow; type git fetch --unshallow, or give actions/checkout fetch-depth: 0"


def is_ignored(folder: Path) -> bool:
    """Whether a folder, or one that it lies in, is ignored by the repository that it belongs to. Without git, no."""
    try:
        return run_git(folder, "check-ignore", "--quiet", ".").returncode == 0
    except DbkitError:
        return False


def run_git(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run git in a folder, with its messages in English. Raises DbkitError where there is no git."""
    environment = {name: value for name, value in os.environ.items() if name not in _OF_A_HOOK}
    environment |= {"LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0"}
    command = ["git", "-C", str(folder), *_SETTINGS, *arguments]
    try:
        return run_program(command, environment)
    except FileNotFoundError:
        raise DbkitError(f"git is not installed: install it, {OTHER_WAY}") from None


def _reason(failed: subprocess.CompletedProcess[str]) -> str:
    lines = [line.strip() for line in failed.stderr.splitlines() if line.strip()]
    reasons = [line for line in lines if line.startswith(("fatal:", "error:"))] or lines[-1:] or ["no reason given"]
    return f"git: {reasons[0].partition(': ')[2] or reasons[0]}"


def _advice(message: str) -> str:
    found = [line.strip() for line in message.splitlines() if line.strip().startswith("git config")]
    return found[0] if found else "see safe.directory in git help config"
