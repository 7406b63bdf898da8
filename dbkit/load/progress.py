"""Where a schedule stands, on the terminal: a bar there, a line a round where output is piped."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column

logger = logging.getLogger(__name__)

ShowSlot = Callable[[int, str, int], None]
"""Told at each slot's beginning: the round, the user class, and the slots planned altogether."""


@contextmanager
def slot_progress(rounds: int) -> Iterator[ShowSlot]:
    """Show each slot as it begins, with the time that is left, until the block ends."""
    console = Console(stderr=True)
    if not console.is_interactive:
        shown: set[int] = set()

        def log_round(round_number: int, user_class: str, slots: int) -> None:
            if round_number not in shown:
                shown.add(round_number)
                logger.info("round %d of %d", round_number, rounds)

        yield log_round
        return
    columns = (
        # what is too long for the line is the name: the slots and the time stay whole
        TextColumn("{task.description}", table_column=Column(no_wrap=True, max_width=max(console.width - 24, 1))),
        BarColumn(bar_width=None, table_column=Column(max_width=40)),
        MofNCompleteColumn(table_column=Column(no_wrap=True)),
        TimeRemainingColumn(table_column=Column(no_wrap=True)),
    )
    # drawn only between slots, as drawing would hold up the pages; and slots may be longer than rich looks back
    with Progress(
        *columns, console=console, transient=True, auto_refresh=False, speed_estimate_period=math.inf
    ) as progress:
        bar = progress.add_task("starting", total=None)
        begun = -1

        def show(round_number: int, user_class: str, slots: int) -> None:
            nonlocal begun
            begun += 1
            description = f"round {round_number} of {rounds}: {user_class:<20}"
            progress.update(bar, description=description, total=slots, completed=begun, refresh=True)

        yield show
