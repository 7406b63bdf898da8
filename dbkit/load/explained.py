"""The plans of what user classes send: which pages are explained, and where that runs. See `dbkit.plans` for how."""

from __future__ import annotations

import logging
from collections.abc import Iterable

import gevent
import msgspec
import psycopg

from dbkit.analysis.result import Plan
from dbkit.database.application import application_engine
from dbkit.database.stacks import find_stack
from dbkit.database.url import DatabaseUrl
from dbkit.errors import DbkitError
from dbkit.load.context import LoadContext
from dbkit.load.loop_thread import LoopThread
from dbkit.load.page_class import PageClass
from dbkit.plans import BUDGET_S, PageToExplain, explain_pages

logger = logging.getLogger(__name__)

TIMEOUT_S = 2 * BUDGET_S
"""How long all plans may take, also where the network is gone and no timeout of the server is heard of."""


def plans_of(page_classes: Iterable[PageClass], context: LoadContext) -> list[Plan]:
    """What each strategy of the classes sends for a typical page and for the last one, explained by the server.

    It takes a while. Classes that write are left out, unless `--plans all` asks for them. Where the server does not
    answer there are no plans, and a warning says why.
    """
    which = context.options.plans
    if which == "none":
        return []
    classes: dict[tuple[str, str], PageClass] = {}
    for page_class in page_classes:
        workload, strategy = page_class.workload, page_class.strategy
        if page_class.writes and which != "all":
            continue
        if workload and page_class.keys and page_class.function is not None:
            known = classes.setdefault((workload.name, strategy), page_class)
            if known.function != page_class.function:
                strategy = f"{strategy} of {page_class.name}"  # another one of the same name
                classes[workload.name, strategy] = page_class
    pages = [_page_to_explain(*names, page_class, context.database) for names, page_class in classes.items()]
    if not pages:
        return []
    logger.info("asking the server for the plans of what each strategy sends")
    # in a greenlet of its own: on a signal Locust kills the one that is stopping the test
    explaining = gevent.spawn(_explain, pages, context)
    explaining.join(TIMEOUT_S)
    if not explaining.ready():
        explaining.kill(block=False)
        logger.warning("no plans: the server has not answered for %s s", TIMEOUT_S)
        return []
    return explaining.get()  # type: ignore[no-any-return]


def _page_to_explain(workload: str, strategy: str, page_class: PageClass, database: DatabaseUrl) -> PageToExplain:
    source, stack = page_class.engine, find_stack(page_class.stack)
    typical, last = page_class.keys[len(page_class.keys) // 2], page_class.keys[-1]
    return PageToExplain(
        workload,
        strategy,
        page_class.source.function,
        {"typical": typical} | ({"last": last} if last != typical else {}),
        engine=None if source is None else lambda: application_engine(source, stack, database, page_class.name),
        end=page_class.end,
        writes=page_class.writes,
    )


def _explain(pages: list[PageToExplain], context: LoadContext) -> list[Plan]:
    loop_thread = LoopThread()
    try:
        found = explain_pages(context.database, context.test.options.settings, pages, run=loop_thread.run)
        return msgspec.convert(found, list[Plan])
    except (DbkitError, psycopg.Error) as error:
        logger.warning("no plans: %s", error)
        return []
    except KeyboardInterrupt:  # signals raise none here
        logger.warning("no plans: a page raised KeyboardInterrupt")
        return []
    finally:
        loop_thread.stop()
