"""How far a schedule is, and that on the terminal: a bar there, a line a round where output is piped."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console

from dbkit.output.terminal import progress_bar

logger = logging.getLogger(__name__)


@dataclass
class ScheduleProgress:
    """How far a running schedule is."""

    rounds: int
    slots: int
    """All that are to be run, with those that are run again."""
    slot_s: float
    """How long a slot takes with all that belongs to it; a guess before the first has ended."""
    began_at_s: float
    """When the schedule began, by `time.perf_counter`."""
    budget_s: float | None = None
    """After how long the schedule ends at the latest, where rounds and slots are no more than the most there can be."""
    round: int = 0
    slot: int = 0
    """The number of the present one, from 1."""
    user_class: str = ""
    phase: str = ""
    slot_began_at_s: float = 0.0

    def begin_slot(self, round_number: int, user_class: str) -> None:
        """The next slot begins."""
        self.round, self.user_class, self.phase = round_number, user_class, "users coming"
        self.slot += 1
        self.slot_began_at_s = time.perf_counter()

    def end_slot(self) -> None:
        """The present slot has ended, with all that belongs to it."""
        self.slot_s = (time.perf_counter() - self.began_at_s) / self.slot

    @property
    def left_s(self) -> float:
        """About how long the rest takes, in seconds."""
        if self.budget_s is not None:
            return max(self.budget_s - (time.perf_counter() - self.began_at_s), 0.0)
        in_slot_s = min(time.perf_counter() - self.slot_began_at_s, self.slot_s)
        return (self.slots - self.slot + 1) * self.slot_s - in_slot_s

    @property
    def done(self) -> float:
        """The share of it that is done, 0 to 1."""
        return 1 - self.left_s / (self.budget_s or self.slots * self.slot_s)

    @property
    def words(self) -> str:
        """Which round it is, and of how many where that is known."""
        return f"round {self.round}" + (f" of {self.rounds}" if self.budget_s is None else "")


ShowSlot = Callable[[ScheduleProgress], None]
"""Called at each slot's beginning."""


@contextmanager
def slot_progress() -> Iterator[ShowSlot]:
    """Show each slot as it begins, with the time that is left, until the block ends."""
    console = Console(stderr=True)
    if not console.is_interactive:
        shown: set[int] = set()

        def log_round(progress: ScheduleProgress) -> None:
            if progress.round not in shown:
                shown.add(progress.round)
                logger.info("%s", progress.words)

        yield log_round
        return
    # drawn only between slots, as drawing would hold up the pages; and slots may be longer than rich looks back
    with progress_bar(console, auto_refresh=False, speed_estimate_period=math.inf) as bars:
        bar = bars.add_task("starting", total=None)

        def show(progress: ScheduleProgress) -> None:
            description = f"{progress.words}: {progress.user_class:<20}"
            completed = progress.slot - 1 if progress.budget_s is None else progress.done * progress.slots
            bars.update(bar, description=description, total=progress.slots, completed=completed, refresh=True)

        yield show
