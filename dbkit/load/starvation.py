"""Users that wait for a page for long are named while it happens: with what they wait for, in the log and the result.

A page that does not come is in no figure until it is broken off, so that a class behind a pool or a pooler that is too
small would just be missing. When a page is broken off is left to `dbkit.load.page_limits`.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, NamedTuple

import gevent

from dbkit.load.gate import Gate, Passing
from dbkit.load.page import Page

logger = logging.getLogger(__name__)

LONG_S = 5.0
"""From which on a page that has not come counts as one that is waited for."""
LOOK_S = 1.0
POOL = "a connection of their pool, which others hold: raise --pool-size, or pool_size of an engine of your own"
CONNECTING = "the server, or a pooler before it, to let them in"
PLACE = "a place for their page, of which there are as many as --max-in-flight says: raise it, or ask for fewer pages"
ANSWER = "their page: for an answer of the server, or of a pooler before it, or for code of the page itself"


class Waiting(NamedTuple):
    """Users of one class that wait for the same."""

    user_class: str
    waits_for: str


@dataclass
class Longest:
    """How many users of one process have waited at once, and for how long at the most."""

    users: int = 0
    longest_s: float = 0.0

    def add(self, users: int, longest_s: float) -> None:
        """So many have waited at once, one of them for `longest_s`."""
        self.users = max(self.users, users)
        self.longest_s = max(self.longest_s, longest_s)


@dataclass
class Starved:
    """Who has waited for long in the present test: in one process, and on a master in all."""

    _of_processes: defaultdict[Waiting, defaultdict[str, Longest]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(Longest))
    )
    """By what they wait for, then by the process's name; that of this one is empty."""
    _logged: set[Waiting] = field(default_factory=set)

    def note(self, waiting: Waiting, users: int, longest_s: float) -> None:
        """So many users of this process wait now, one of them for `longest_s`. The first time it is logged."""
        if waiting not in self._logged:
            self._logged.add(waiting)
            logger.warning("%s", _words(waiting, users, "have waited", "has waited"))
        self._of_processes[waiting][""].add(users, longest_s)

    def warnings(self) -> list[str]:
        """The same in words, for a result."""
        found = []
        for waiting, processes in sorted(self._of_processes.items()):
            users = sum(each.users for each in processes.values())
            longest_s = max(each.longest_s for each in processes.values())
            found.append(f"{_words(waiting, users, 'waited', 'waited')} (up to {longest_s:.0f} s)")
        return found

    def take_message(self) -> list[Any]:
        """What this process has noted since the last call, in plain values."""
        message = [
            [*waiting, longest.users, longest.longest_s]
            for waiting, processes in self._of_processes.items()
            for longest in processes.values()
        ]
        self._of_processes.clear()
        return message

    def merge_message(self, message: Iterable[Any], process: str) -> None:
        """Add what the process of this name has taken. Its users are others than those of another process."""
        for user_class, waits_for, users, longest_s in message:
            self._of_processes[Waiting(user_class, waits_for)][process].add(users, longest_s)

    def clear(self) -> None:
        """Forget everything, as at the start of a test."""
        self._of_processes.clear()
        self._logged.clear()


class StarvationWatch:
    """Looks at the pages of one process that are in flight, or wait to be, once a second."""

    def __init__(self, gate: Gate, note: Callable[[Waiting, int, float], object]) -> None:
        self._gate = gate
        self._note = note
        self._timer = gevent.get_hub().loop.timer(LOOK_S, LOOK_S, ref=False)

    def start(self) -> None:
        """Begin to look."""
        self._timer.start(gevent.spawn, self._look)  # in a greenlet, as what is logged may wait

    def stop(self) -> None:
        """Look no more."""
        self._timer.stop()
        self._timer.close()

    def _look(self) -> None:
        now_s = perf_counter()
        waits_s: defaultdict[Waiting, list[float]] = defaultdict(list)
        for stint, waits_for, since_s in self._waiting():
            if now_s - since_s > LONG_S:
                waits_s[Waiting(type(stint.reader).__name__, waits_for)].append(now_s - since_s)
        for waiting, of_users_s in waits_s.items():
            self._note(waiting, len(of_users_s), max(of_users_s))

    def _waiting(self) -> Iterator[tuple[Passing, str, float]]:
        """Whose page has not come, with what it waits for, and since when."""
        for stint, page in self._gate.in_progress():
            yield stint, _waits_for(page), page.cost.started_at_s
        for stint, since_s in self._gate.in_line():
            yield stint, PLACE, since_s


def _waits_for(page: Page) -> str:
    if page.cost.connect_began_at_s is not None:
        return CONNECTING
    return POOL if page.cost.in_pool else ANSWER


def _words(waiting: Waiting, users: int, verb: str, verb_of_one: str) -> str:
    who, does = ("1 user", verb_of_one) if users == 1 else (f"{users} users", verb)
    return f"{who} of {waiting.user_class} {does} for more than {LONG_S:g} s for {waiting.waits_for}"
