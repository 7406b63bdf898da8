"""dbkit's options on Locust's command line, and the values that they have in one test.

The table of options is `dbkit.cli.options`. Values reach the workers with Locust's own spawn message; all but the
database's URL, which each process keeps to itself. Which values go together is left to `dbkit.load.checks`, what is
posted from the web form to `dbkit.load.web.form`.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, fields, replace
from typing import Any

from locust.argument_parser import LocustArgumentParser

from dbkit.analysis.condition import Arrivals, Load, Spacing, Users, Variant, Variation, variants
from dbkit.analysis.revisions import REVISION
from dbkit.cli import options
from dbkit.cli.values import read_sides
from dbkit.cli.variations import read_ladder, read_rates
from dbkit.database.engines import DIRECT
from dbkit.database.settings import POOLERS, Jit, PageEnd, PoolClass, Pooler, SessionClose, Settings, Switch

REPORTED_OPTIONS = (
    "num_users",
    *(option.name for option in options.options_of("locust") if option.reported),
    "processes",
)
"""The options that a result names, because they bear on its figures."""


DATABASE = "database"
"""The setting that is no option: by which name the database is known."""


def database_of_variant(variant: Variant) -> str:
    """The name of the database that is read in a slot of that variant."""
    return dict(variant).get(DATABASE, DIRECT)


def add_options(parser: LocustArgumentParser) -> None:
    """Add every option of dbkit to Locust's parser (a listener of `init_command_line_parser`)."""
    options.add_options(parser, "locust")


@dataclass(frozen=True, kw_only=True)
class TestOptions:
    """What a test was started with. Names are those of the flags; times are in seconds.

    What belongs to a process, such as its database and the files that it writes, is not here.
    """

    num_users: int | None
    """None where a shape of the user's own decides."""
    processes: int | None
    """How many workers `--processes` starts; None for none."""
    page_size: int
    page_order: str
    think_time: float
    think_time_spread: float
    seed: int
    pool_size: int
    max_overflow: int
    pool_timeout: float
    connect_timeout: int
    statement_timeout: float
    tcp_keepalive: float
    tcp_user_timeout: float
    end: PageEnd
    session_close: SessionClose
    pool_class: PoolClass
    pre_ping: Switch
    jit: Jit
    pooler: Pooler
    round_trip: float
    loads: str
    """See `loads_to_compare`."""
    arrivals: str
    """See `arrivals_to_compare`."""
    arrival_spacing: Spacing
    vary: str
    """See `variations`."""
    budget: float
    limit: str
    """A limit to search for, or nothing."""
    max_users: int
    max_arrivals: int
    sides: str
    """See `variations`."""
    rounds: int
    """`dbkit.cli.values.AUTO` for as many as it takes."""
    slot_time: float
    max_slot_time: float
    warm_up: float
    drain_timeout: float
    page_timeout: float
    max_in_flight: int
    calibrate: bool
    reference: str

    @classmethod
    def read(cls, namespace: argparse.Namespace) -> TestOptions:
        """The options as they are in `namespace` now."""
        return cls(**{field.name: getattr(namespace, field.name) for field in fields(cls)})

    @property
    def loads_to_compare(self) -> tuple[Load, ...]:
        """The loads of `--arrivals`, or of `--loads`, or that of `-u`."""
        if self.arrivals:
            return self.arrivals_to_compare
        counts = read_ladder(self.loads) if self.loads else (self.num_users or 1,)
        return tuple(Users(count) for count in counts)

    @property
    def arrivals_to_compare(self) -> tuple[Arrivals, ...]:
        """The loads of `--arrivals`, each served by `-u` users at the most."""
        rates = read_rates(self.arrivals) if self.arrivals else ()
        return tuple(Arrivals(rate, self.num_users or 1, self.arrival_spacing) for rate in rates)

    @property
    def most_users(self) -> int:
        """The largest number of users that a slot can have."""
        return self.max_users if self.max_users else max(load.users for load in self.loads_to_compare)

    @property
    def are_many(self) -> bool:
        """Whether conditions differ in more than their classes."""
        return bool(self.loads or self.arrivals or self.vary or self.limit or self.sides)

    @property
    def variations(self) -> tuple[Variation, ...]:
        """The settings that vary; in a before and after the revision is one of them."""
        sides = read_sides(self.sides)
        return (*((Variation(REVISION, sides),) if sides else ()), *options.read_variations_of(self.vary))

    def of_variant(self, variant: Variant) -> TestOptions:
        """The options in a slot of that variant."""
        of_options = [(name, text) for name, text in variant if name in options.VARYING and name != DATABASE]
        values = {name.replace("-", "_"): options.VARYING[name](text) for name, text in of_options}
        return replace(self, **values)

    @property
    def settings(self) -> Settings:
        """How its pages use the database."""
        return options.read_settings(self)

    @property
    def strictest_pooler(self) -> Pooler:
        """The pooler that allows least, of those that vary: for what is no page."""
        varied = [self.of_variant(variant).pooler for variant in variants(self.variations)]
        return max(self.pooler, *varied, key=POOLERS.index)

    def reported(self) -> dict[str, Any]:
        """The values of `REPORTED_OPTIONS`, by name."""
        return {name: getattr(self, name) for name in REPORTED_OPTIONS}
