"""Where a schedule stands, and that on the terminal: a bar there, a line a round where output is piped."""

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
class Standing:
    """Where a running schedule stands."""

    rounds: int
    slots: int
    """All that are to be run, repeats so far included."""
    slot_s: float
    """How long a slot takes with all that belongs to it; a guess before the first has ended."""
    round: int = 0
    slot: int = 0
    """Of the present one, from 1."""
    user_class: str = ""
    phase: str = ""
    slot_began_s: float = 0.0

    def begin_slot(self, round_number: int, user_class: str) -> None:
        self.round, self.user_class, self.phase = round_number, user_class, "users coming"
        self.slot += 1
        self.slot_began_s = time.perf_counter()

    @property
    def left_s(self) -> float:
        """About how long the rest takes."""
        in_slot_s = min(time.perf_counter() - self.slot_began_s, self.slot_s)
        return (self.slots - self.slot + 1) * self.slot_s - in_slot_s


ShowSlot = Callable[[Standing], None]
"""Called at each slot's beginning."""


@contextmanager
def slot_progress() -> Iterator[ShowSlot]:
    """Show each slot as it begins, with the time that is left, until the block ends."""
    console = Console(stderr=True)
    if not console.is_interactive:
        shown: set[int] = set()

        def log_round(standing: Standing) -> None:
            if standing.round not in shown:
                shown.add(standing.round)
                logger.info("round %d of %d", standing.round, standing.rounds)

        yield log_round
        return
    # drawn only between slots, as drawing would hold up the pages; and slots may be longer than rich looks back
    with progress_bar(console, auto_refresh=False, speed_estimate_period=math.inf) as progress:
        bar = progress.add_task("starting", total=None)

        def show(standing: Standing) -> None:
            description = f"round {standing.round} of {standing.rounds}: {standing.user_class:<20}"
            progress.update(
                bar, description=description, total=standing.slots, completed=standing.slot - 1, refresh=True
            )

        yield show
