"""Both sides of a before and after, for as long as they are measured: `checkouts`.

Each is a commit in a working tree of its own, a folder, or the user's own working tree. How a commit is checked out is
in `dbkit.sides.worktrees`, how code is imported from there in `dbkit.sides.redirect`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import dbkit
from dbkit.database.embedded import FOLDER_VARIABLE, embedded_folder
from dbkit.errors import DbkitError, printable
from dbkit.sides.environments import environment
from dbkit.sides.git import Commit, Repository, is_ignored
from dbkit.sides.locks import Lock, read_lock
from dbkit.sides.redirect import VARIABLE, Route, editable_finders, is_within
from dbkit.sides.worktrees import private_folder, remove_stale, worktree

WORKING_TREE = "working tree"
_HOOK = "from dbkit.sides.redirect import redirect\n\nredirect(__file__)\n"
_EXAMPLE = "expected such as main..HEAD, or main alone for the working tree against it"


@dataclass(frozen=True)
class Checkout:
    """One side."""

    name: str
    """The revision or folder as it was given, or `working tree`. The names of both sides differ."""
    commit: str
    """The beginning of the commit's hash; empty where its code is no commit."""
    subject: str
    """The first line of the commit's message."""
    directory: Path
    """Where its processes run: the caller's working directory as it is in this checkout."""
    root: Path
    """The root of the checkout."""
    python: Path
    """The interpreter."""
    lock: str
    """The file of the packages that it runs with, as it was given; empty for those of the running interpreter."""
    imports: Path
    """A folder that comes first where its processes look for modules: it holds the running dbkit, and a hook."""
    route: Route

    def variables(self) -> dict[str, str]:
        """What its processes need in their environment, besides what this process has there.

        All sides import the dbkit that runs here, whatever their checkouts and environments hold, and all else from
        their own checkout. An embedded server is the one of the caller's working directory.
        """
        search = [os.path.abspath(each) for each in os.environ.get("PYTHONPATH", "").split(os.pathsep) if each]
        if self.lock:  # what is not the measured code may be packages, which are for the lock file to choose
            search = [each for each in search if each in self.route.paths]
        return {
            "PYTHONPATH": os.pathsep.join([str(self.imports), *map(self.route.led, search)]),
            VARIABLE: self.route.as_json,
            FOLDER_VARIABLE: str(embedded_folder().absolute()),
        }

    def located(self, path: Path) -> Path:
        """A file that the caller names, as it is on this side. A relative path stays so, for `directory`."""
        return Path(self.route.led(str(path))) if path.is_absolute() else path


@dataclass(frozen=True)
class _Source:
    """Where a side's code comes from."""

    name: str
    root: Path
    directory: Path
    facts: Commit | None = None
    checked_out: bool = False
    """Whether the commit is still to be checked out, in `root`."""


def _say(line: str) -> None:
    print(f"dbkit: {line}", file=sys.stderr, flush=True)


@contextmanager
def checkouts(
    revisions: str | None = None,
    before: Path | None = None,
    after: Path | None = None,
    lock_before: Path | None = None,
    lock_after: Path | None = None,
    *,
    say: Callable[[str], None] = _say,
) -> Iterator[tuple[Checkout, Checkout]]:
    """Both sides, before and after, until the block ends; then nothing of them is left.

    `revisions` is what `git diff` takes: `A..B`, `A...B` for the commit at which both part against B, or A alone
    against the working tree with all that is not committed. In its place `before` and `after` name two folders, which
    are used as they are. A lock file gives its side an environment of its own; where lock files alone are named, both
    sides are the working tree. `say` is given lines for the user: what is being made, and what is not measured.

    Raises DbkitError where that names no two sides, git cannot check one out, or a lock file cannot be installed.
    """
    locks = [None if each is None else read_lock(each) for each in (lock_before, lock_after)]
    _check(revisions, before, after, locks)
    with ExitStack() as stack:
        folder = stack.enter_context(private_folder())
        if revisions is not None:
            repository = Repository.find(Path.cwd())
            remove_stale(repository)
            sources = _revisions(repository, revisions, folder)
            for each in sources:
                if each.checked_out and each.facts is not None:
                    stack.enter_context(worktree(repository, each.facts, each.root))
            _check_checked_out(repository, sources, say)
        else:
            remove_stale(None)
            sources = _working_trees(locks) if before is None or after is None else _folders(before, after)
        imports = _make_imports(folder)
        one, other = (_checkout(sources, number, imports, lock, say) for number, lock in enumerate(locks))
        yield one, other


def _check(revisions: str | None, before: Path | None, after: Path | None, locks: list[Lock | None]) -> None:
    if (before is None) != (after is None):
        raise DbkitError("--before and --after belong together: name both folders")
    if before is not None and revisions is not None:
        raise DbkitError(f"{revisions!r} and --before: name two revisions or two folders, not both")
    if before is None and revisions is None and not any(locks):
        raise DbkitError(f"no revisions to compare: {_EXAMPLE}")


def _revisions(repository: Repository, revisions: str, folder: Path) -> tuple[_Source, _Source]:
    first, dots, second = revisions.partition("...")
    if not dots:
        first, dots, second = revisions.partition("..")
    if not revisions.strip(".") or ".." in second:
        raise DbkitError(f"invalid revisions {revisions!r}: {_EXAMPLE}")
    first, second = first or "HEAD", (second or "HEAD") if dots else ""
    one = repository.commit(first)
    here = Path.cwd().relative_to(repository.root)

    def checked_out(name: str, commit: Commit, root: Path) -> _Source:
        return _Source(name, root, root / here, commit, checked_out=True)

    if not second:
        own = _Source(WORKING_TREE, repository.root, Path.cwd())
        return _named(checked_out(first, one, folder / "before"), own)
    other = repository.commit(second)
    if dots == "...":
        one, first = repository.merge_base(one, other), f"{first} (merge base)"
    return _named(checked_out(first, one, folder / "before"), checked_out(second, other, folder / "after"))


def _folders(before: Path, after: Path) -> tuple[_Source, _Source]:
    found = []
    for each in (before, after):
        if not each.is_dir():
            raise DbkitError(f"{each} is not a folder: --before and --after name folders with the code")
        found.append((str(each), each.resolve(), _repository_of(each)))
    roots = [folder if repository is None else repository.root for _, folder, repository in found]
    if roots[0] == roots[1]:  # two folders of one repository are two codes, not one
        roots = [folder for _, folder, _ in found]
    one, other = (
        _Source(name, root, folder, repository.commit("HEAD") if repository and not repository.is_dirty() else None)
        for (name, folder, repository), root in zip(found, roots, strict=True)
    )
    return _named(one, other)


def _working_trees(locks: list[Lock | None]) -> tuple[_Source, _Source]:
    repository = _repository_of(Path.cwd())
    root = Path.cwd() if repository is None else repository.root
    one, other = (_Source(WORKING_TREE if lock is None else lock.name, root, Path.cwd()) for lock in locks)
    return _named(one, other)


def _named(one: _Source, other: _Source) -> tuple[_Source, _Source]:
    one, other = (replace(each, name=printable(each.name)) for each in (one, other))
    if one.name != other.name:
        return one, other
    return replace(one, name=f"{one.name} (before)"), replace(other, name=f"{other.name} (after)")


def _repository_of(folder: Path) -> Repository | None:
    """The repository of a folder, which may have none that git can use."""
    try:
        return Repository.find(folder)
    except DbkitError:
        return None


def _check_checked_out(repository: Repository, sources: tuple[_Source, _Source], say: Callable[[str], None]) -> None:
    for each in sources:
        if not each.directory.is_dir():
            missing = each.directory.relative_to(each.root)
            raise DbkitError(f"{each.name} has no folder {missing}: run this in a folder that both sides have")
    made = [each for each in sources if each.checked_out]
    if len(made) == len(sources) and repository.is_dirty():
        say(f"uncommitted changes are not measured: for those, give {made[0].name.split()[0]} alone")
    if any((each.root / ".gitmodules").exists() for each in made):
        say("submodules are not checked out: where pages need them, name two folders by --before and --after")


def _make_imports(folder: Path) -> Path:
    imports = folder / "imports"
    imports.mkdir()
    (imports / "dbkit").symlink_to(Path(dbkit.__file__).resolve().parent)
    (imports / "sitecustomize.py").write_text(_HOOK, encoding="utf-8")
    return imports


def _checkout(
    sources: tuple[_Source, _Source], number: int, imports: Path, lock: Lock | None, say: Callable[[str], None]
) -> Checkout:
    source = sources[number]
    own = source.facts or Commit("", "", "")
    route = _route(source.root, {each.root for each in sources}, imports)
    if not source.checked_out:
        route = replace(route, record=str(imports.with_name(f"imported-{number}.json")))
    if lock is None:
        python = Path(sys.executable)
    else:
        if lock.left_out:
            left_out = ", ".join(lock.left_out)
            say(f"{lock.name}: left out {left_out}: each side has the project's code in its own checkout")
        python = environment(lock, say)
    return Checkout(
        source.name,
        own.short,
        own.subject,
        source.directory,
        source.root,
        python,
        "" if lock is None else lock.name,
        imports,
        route,
    )


def _route(checkout: Path, roots: set[Path], imports: Path) -> Route:
    here = _repository_of(Path.cwd())
    places = {str(each) for each in roots | ({here.root} if here else set())}
    environments = [os.path.realpath(each) for each in (sys.prefix, sys.exec_prefix, sys.base_prefix)]
    kept = [each for each in environments if any(each != place and is_within(each, place) for place in places)]
    code = Route(str(imports), sorted(places), kept, [])
    searched = [each for each in map(os.path.abspath, _searched()) if code.original_of(each) and os.path.isdir(each)]
    kept += [os.path.realpath(each) for each in searched if is_ignored(Path(each))]
    paths = [each for each in searched if os.path.realpath(each) not in kept]
    return Route(str(checkout), sorted(places - {str(checkout)}), [*kept, str(imports)], paths)


def _searched() -> Iterator[str]:
    """Where this process looks for modules, and last where its editable packages lie, which have finders here alone."""
    yield from sys.path
    for finder in editable_finders():
        for name, path in getattr(finder, "MAPPING", {}).items():
            inside = os.sep + name.replace(".", os.sep)
            if path.endswith(inside):
                yield path.removesuffix(inside)
