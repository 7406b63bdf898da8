"""Makes user classes: one for each stack and each strategy of a workload.

For what a class is see `dbkit.load.users`. Whether the classes fit together is checked before a run, in
`dbkit.load.checks`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Any

from sqlalchemy import URL, Engine
from sqlalchemy.ext.asyncio import AsyncEngine

from dbkit.database.settings import PageEnd
from dbkit.database.stacks import STACKS
from dbkit.load.users import AsyncPageUser, PageUser, SyncPageUser, ThreadPageUser
from dbkit.paging import PageFunction, is_async
from dbkit.workload import Workload

_BASES: dict[str, type[PageUser]] = {"greenlets": SyncPageUser, "threads": ThreadPageUser, "tasks": AsyncPageUser}


def page_users(
    workload: Workload,
    /,
    stacks: Iterable[str] | None = None,
    *,
    engine: Engine | Callable[[URL], Engine] | None = None,
    async_engine: AsyncEngine | Callable[[URL], AsyncEngine] | None = None,
    end: PageEnd | None = None,
    writes: bool | None = None,
    reset: Any = None,
    checks: Any = (),
    prefix: str = "",
    **strategies: PageFunction,
) -> list[type[PageUser]]:
    """Make a user class for each of the `stacks` with each of the `strategies`, in the module that calls this.

    The classes are named after stack and strategy, `AsyncpgJoined`, with the `prefix` before it. `stacks` are those of
    `dbkit.database.stacks`: all of them by default, or the async ones for a function that is `async def`. `engine` is
    for the sync stacks and `async_engine` for the others. All else is as in `dbkit.load.users.PageUser`.

    A mistake is reported before a run, as those in other classes are.
    """
    module = sys._getframe(1).f_globals
    chosen = None if stacks is None else [stacks] if isinstance(stacks, str) else list(stacks)
    made = []
    for name in STACKS if chosen is None else chosen:
        stack = STACKS.get(name)
        for strategy, function in strategies.items():
            if chosen is None and stack and not stack.is_async and callable(function) and is_async(function):
                continue
            class_name = f"{prefix}{_camel(name)}{_camel(strategy)}"
            attributes = {
                "__module__": module["__name__"],
                "stack": name,
                "workload": workload,
                "strategy": strategy,
                "page_function": function,
                "engine": async_engine if stack and stack.is_async else engine,
                "end": end,
                "writes": writes,
                "reset": reset,
                "checks": checks,
            }
            base = _BASES[stack.concurrency] if stack else PageUser
            user_class = type(class_name, (base,), attributes)
            module[class_name] = user_class
            made.append(user_class)
    return made


def _camel(name: str) -> str:
    return "".join(part[:1].upper() + part[1:] for part in name.replace("-", "_").split("_"))
