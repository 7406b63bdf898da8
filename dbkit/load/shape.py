"""Rounds: every condition alone for one slot, in random order, again and again, as a Locust shape.

A locustfile takes part by one class:

    class Compare(Rounds):
        '''One class at a time.'''

All slots run inside one `tick()`: ticks a second apart would cut pages and mix slots. Which conditions there are is in
`dbkit.load.schedules`; what is run is planned by `dbkit.analysis.plan`, and run by `dbkit.load.conductor`.
"""

from __future__ import annotations

import logging

from locust import LoadTestShape
from locust.env import Environment

from dbkit.analysis.plan import Schedule, rounds
from dbkit.load.context import context_of
from dbkit.load.options import TestOptions
from dbkit.load.schedules import before_and_after, conditions_of
from dbkit.load.searches import schedule_of, search_of


class Rounds(LoadTestShape):
    """Isolated, interleaved slots: by the classes chosen and the options of rounds, such as `--loads` or `--limit`."""

    abstract = True
    use_common_options = True

    def schedule(self, user_classes: list[str], options: TestOptions) -> Schedule:
        """What the test runs. Override it to run something else in slots."""
        if (search := search_of(user_classes, options)) is not None:
            return schedule_of(search, options)
        conditions = conditions_of(user_classes, options)
        if options.sides:
            assert self.runner is not None
            test = context_of(self.runner.environment).page_classes_without_keys(
                options, self.runner.environment.user_classes
            )
            return before_and_after(conditions, {name: each.described() for name, each in test.items()}, options)
        return rounds(conditions, options.rounds, options.seed, calibrate=options.calibrate)

    def tick(self) -> None:
        """Run the schedule to its end; Locust then ends the test."""
        assert self.runner is not None
        environment = self.runner.environment
        context = context_of(environment)
        options = TestOptions.read(context.options)
        names = [user_class.__name__ for user_class in environment.user_classes]
        assert context.conduct is not None, "only a single process or a master runs a schedule"
        context.conduct(self.schedule(names, options), options)


class BeforeAndAfter(Rounds):
    """Two revisions in turns, whatever shape the locustfile has: see `dbkit diff`."""

    abstract = False


def take_rounds(environment: Environment) -> None:
    """Have a before and after run in rounds."""
    shape: LoadTestShape = BeforeAndAfter()  # type: ignore[no-untyped-call]
    shape.runner = environment.runner
    environment.shape_class = shape


def quieten_locust() -> None:
    """Leave the terminal to dbkit's table: Locust's would add warm-ups in, and report each slot's users."""
    for name in ("locust.stats_logger", "locust.runners"):
        logging.getLogger(name).setLevel(logging.WARNING)
