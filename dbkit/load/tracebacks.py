"""The traceback of a page that failed, for people to read: where their code was, and what went wrong.

It has no values but those in an error's own words. For these see `dbkit.load.reasons`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from traceback import FrameSummary, StackSummary, walk_tb
from types import FrameType

import sqlalchemy.exc

from dbkit.errors import without_secrets
from dbkit.load.reasons import reason_of
from dbkit.workload import WrongPage

LEFT_OUT = {
    *("asyncpg", "dbkit", "gevent", "greenlet", "locust", "psycopg", "psycopg_pool", "sqlalchemy"),
    *("asyncio", "concurrent", "contextlib", "threading"),
}
"""Packages whose frames say little where others are there."""
KEPT = "dbkit.todo"
"""The page functions that come with dbkit are an application's code like any other's."""
FIRST_FRAMES, LAST_FRAMES = 4, 8
"""How many frames are kept of each end of a longer traceback."""
MOST_ERRORS = 3
"""How many errors are kept of a longer chain of causes: the last ones."""
MOST_LINES = 6
"""How many lines are kept of an error's own words."""
LONGEST_LINE = 300
_CAUSED = "\nThe above exception was the direct cause of the following exception:\n\n"
_MEANWHILE = "\nDuring handling of the above exception, another exception occurred:\n\n"
_GROUPED = "\nThe above exception was the first one in the following group:\n\n"


def traceback_of(error: BaseException) -> str:
    """Frames and words of an error, after those of its causes, as Python prints them.

    Frames of drivers, SQLAlchemy, Locust and dbkit are left out where there are others. What is below an error of a
    statement is too, as its words may hold parameters.
    """
    parts: list[str] = []
    words_between = ""
    current: BaseException | None = error
    while current is not None and len(parts) < MOST_ERRORS:
        parts.insert(0, _one(current) + words_between)
        current, words_between = _cause(current)
    return "".join(parts).rstrip()


def _cause(error: BaseException) -> tuple[BaseException | None, str]:
    """What led to an error, and the words between the two."""
    if isinstance(error, sqlalchemy.exc.StatementError):
        return None, ""
    if isinstance(error, BaseExceptionGroup):
        return error.exceptions[0], _GROUPED
    if error.__cause__ is not None:
        return error.__cause__, _CAUSED
    return (None if error.__suppress_context__ else error.__context__), _MEANWHILE


def _one(error: BaseException) -> str:
    noted = getattr(error, "__notes__", None)
    notes = [note for note in noted if isinstance(note, str)] if isinstance(noted, list) else []
    lines = "\n".join([str(reason_of(error)), *map(without_secrets, notes)]).splitlines()
    words = [f"{_short(line)}\n" for line in lines[:MOST_LINES]]
    return "".join(chain(_frames(error), words))


def _frames(error: BaseException) -> Iterator[str]:
    """The frames as Python prints them, with paths as people know them."""
    all_frames = list(walk_tb(error.__traceback__))
    frames = [each for each in all_frames if not _is_left_out(each[0])]
    if not frames and not isinstance(error, WrongPage):  # which dbkit raises where no code of theirs is running
        frames = all_frames
    left_out = len(frames) - FIRST_FRAMES - LAST_FRAMES
    if left_out > 0:
        yield from _lines(frames[:FIRST_FRAMES])
        yield f"  … {left_out} more …\n"
        frames = frames[-LAST_FRAMES:]
    yield from _lines(frames)


def _lines(frames: Sequence[tuple[FrameType, int]]) -> Iterator[str]:
    for found in StackSummary.extract(iter(frames)):
        line = without_secrets(found.line or "")
        shown = FrameSummary(_path(found.filename), found.lineno, found.name, line=_short(line))
        yield from StackSummary.from_list([shown]).format()


def _is_left_out(frame: FrameType) -> bool:
    module = str(frame.f_globals.get("__name__", ""))
    return module.partition(".")[0] in LEFT_OUT and not module.startswith(KEPT)


def _path(file: str) -> str:
    """A file's path from the working directory, or of a library from where it is imported from; else as it is."""
    path = Path(file)
    if path.is_relative_to(Path.cwd()) and "site-packages" not in path.parts:
        return str(path.relative_to(Path.cwd()))
    roots = [root for root in map(Path, filter(None, sys.path)) if path.is_relative_to(root)]
    return min((str(path.relative_to(root)) for root in roots), key=len, default=file)


def _short(line: str) -> str:
    return line if len(line) <= LONGEST_LINE else f"{line[: LONGEST_LINE - 1]}…"
