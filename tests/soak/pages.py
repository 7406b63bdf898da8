"""The locustfile of the soak: one class a stack, and files whose lengths say how many pages were asked for and ended.

Each process appends a byte a page, as a page function begins and as Locust hears of a page, so that no count is lost
with a process. For how they are read see `tests.soak.counts`.
"""

from __future__ import annotations

import os
from typing import Any

from locust import events

from dbkit.database.stacks import STACKS
from dbkit.load import page_users
from dbkit.paging import core, lazy
from dbkit.todo.workload import TODO_LIST

_files: dict[tuple[int, str, str], int] = {}


def count(stack: str, what: str) -> None:
    """Count one page, in one write, which no thread and no other process can break."""
    key = os.getpid(), stack, what
    if (file := _files.get(key)) is None:
        path = f"{os.environ['SOAK_COUNTS']}/{stack}.{what}.{os.getpid()}"
        file = _files.setdefault(key, os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND))
    os.write(file, b".")


@events.request.add_listener  # type: ignore[untyped-decorator]
def ended(request_type: str, exception: Exception | None, **_: Any) -> None:
    """Count a page that ended, by how."""
    count(request_type, "served" if exception is None else "failed")


def counted(stack: str) -> Any:
    """The page function of a stack: pages of one statement and of many take turns."""

    def read(session: Any, page: int, page_size: int) -> Any:
        count(stack, "asked")
        return (core if page % 2 else lazy)(session, page, page_size)

    return read


for each in STACKS:
    page_users(TODO_LIST, [each], read=counted(each))
