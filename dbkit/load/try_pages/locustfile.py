"""The user classes of a locustfile, loaded as Locust does, and those of them that are to be tried."""

from __future__ import annotations

import inspect
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from locust import User
from locust.argument_parser import parse_locustfile_paths
from locust.util.load_locustfile import load_locustfile

from dbkit.database.source_lines import application_traceback, raised_line
from dbkit.errors import DbkitError
from dbkit.load.try_pages.secrets import Secrets
from dbkit.load.users import PageUser

NAMES_SHOWN = 12

UserClasses = dict[str, type[User]]


def load(names: str) -> UserClasses:
    """All user classes of the files that `names` has, with commas between them, in order.

    Raises DbkitError where a file is not there, cannot be imported, or defines a class of another file's name.
    """
    paths = [name.strip() for name in names.split(",") if name.strip()]
    for path in paths:
        if "://" not in path and not Path(path).is_dir() and not (path.endswith(".py") and Path(path).is_file()):
            raise DbkitError(
                f"there is no locustfile {path!r}: name a file that ends in .py, or a folder of such files"
            )
    found: UserClasses = {}
    for path in parse_locustfile_paths(paths):
        for name, user_class in _import(path).items():
            known = found.setdefault(name, user_class)
            if inspect.getfile(known) != inspect.getfile(user_class):
                raise DbkitError(
                    f"{inspect.getfile(known)} and {inspect.getfile(user_class)} both have a class {name}: rename one"
                )
    if not found:
        raise DbkitError(f"{names} has no user class: make some by page_users, or subclass PageUser")
    return found


def _import(path: str) -> UserClasses:
    try:
        user_classes, _ = load_locustfile(path)
    except DbkitError:
        raise
    except SystemExit as ending:
        raise DbkitError(f"{path} ends the process when it is imported: {ending.code}") from None
    except Exception as error:
        lines = traceback.format_exception(type(error), error, application_traceback(error))
        print(Secrets().hide("".join(lines)), end="", file=sys.stderr)
        where = f" at {line}" if (line := raised_line(error)) else ""
        raise DbkitError(f"{path} cannot be imported: {type(error).__name__}{where}") from None
    return dict(user_classes)


def choose(classes: UserClasses, names: Sequence[str]) -> tuple[dict[str, type[PageUser]], list[str]]:
    """The named classes, or all, that read pages; and the names of those that do not.

    Raises DbkitError for an unknown name, and where no class reads pages.
    """
    for name in names:
        if name not in classes:
            known = [*classes][:NAMES_SHOWN] + ["…"] * (len(classes) > NAMES_SHOWN)
            raise DbkitError(f"there is no class {name!r}: expected one of {', '.join(known)}")
    chosen = {name: classes[name] for name in dict.fromkeys(names)} if names else classes
    reading = {name: each for name, each in chosen.items() if issubclass(each, PageUser)}
    others = [name for name in chosen if name not in reading]
    if not reading:
        raise DbkitError(
            f"{', '.join(others)}: no such class reads pages; make some by page_users, or subclass PageUser"
        )
    return reading, others
