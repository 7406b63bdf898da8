"""What a slot runs, and what every figure belongs to: a user class, under a load, with settings that vary.

A condition is a value: it can be compared, sorted, used as a key and sent as text. Which conditions a test runs, and in
which order, is left to `dbkit.analysis.plan`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

Spacing = Literal["poisson", "even"]
"""How arrivals follow one another: at random, as those of many people do, or at equal distances."""
SPACINGS: tuple[Spacing, ...] = get_args(Spacing)


@dataclass(frozen=True, order=True)
class Users:
    """A closed loop: each of so many users asks for its next page when the last one has come back."""

    count: int

    @property
    def users(self) -> int:
        """How many users there are."""
        return self.count

    @property
    def key(self) -> str:
        """See `Condition.key`."""
        return str(self)

    def __str__(self) -> str:
        return f"{self.count} {'user' if self.count == 1 else 'users'}"


@dataclass(frozen=True, order=True)
class Arrivals:
    """An open loop: so many pages are asked for a second, whether earlier ones have come back or not."""

    rate_per_s: float
    users: int
    """How many pages can be served at once, as by an application's workers; others wait for a free one."""
    spacing: Spacing = "poisson"

    @property
    def key(self) -> str:
        """See `Condition.key`."""
        return f"{self}, {Users(self.users)}"

    def __str__(self) -> str:
        return f"{self.rate_per_s:g} arrivals/s"


Load = Users | Arrivals
"""How much is asked for. The loads of one test are all of one kind."""

Variant = tuple[tuple[str, str], ...]
"""Settings by name, in order of the names: `(("pool-size", "5"),)`."""


@dataclass(frozen=True)
class Variation:
    """A setting that varies, with its values in the order in which they were given."""

    name: str
    values: tuple[str, ...]


def variants(variations: Iterable[Variation]) -> list[Variant]:
    """Each value of each setting with each of the others; one without settings where nothing varies."""
    in_order = sorted(variations, key=lambda variation: variation.name)
    choices = [[(variation.name, value) for value in variation.values] for variation in in_order]
    return list(itertools.product(*choices))


@dataclass(frozen=True, order=True)
class Condition:
    """What is compared with what."""

    user_class: str
    load: Load | None = None
    """None in a run without a schedule, where users come and go."""
    variant: Variant = ()
    """Settings in which conditions of one test differ."""

    @property
    def key(self) -> str:
        """The condition as text that stays the same between runs: `PsycopgJoined, 10 users, pool-size=5`."""
        return _text(self, self.load.key if self.load else None)


def labels(conditions: Iterable[Condition]) -> Mapping[Condition, str]:
    """What to call each of the conditions of a test: its class, and what else varies among them.

    Where conditions differ in their classes alone these are the names of the classes.
    """
    conditions = list(conditions)
    loads_vary = len({each.load for each in conditions}) > 1
    return {each: _text(each, str(each.load) if loads_vary else None) for each in conditions}


def _text(condition: Condition, load: str | None) -> str:
    settings = [f"{name}={value}" for name, value in condition.variant]
    return ", ".join([condition.user_class, *([load] if load else []), *settings])
