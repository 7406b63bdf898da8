"""Where a schedule stands, on the terminal: a bar there, a line a round where output is piped."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

logger = logging.getLogger(__name__)

ShowSlot = Callable[[int, str, int], None]
"""Told at each slot's beginning: the round, the user class, and the slots planned altogether."""


@contextmanager
def slot_progress(rounds: int) -> Iterator[ShowSlot]:
    """Show each slot as it begins, with the time that is left, until the block ends."""
    console = Console(stderr=True)
    if not console.is_terminal:
        shown: set[int] = set()

        def log_round(round_number: int, user_class: str, slots: int) -> None:
            if round_number not in shown:
                shown.add(round_number)
                logger.info("round %d of %d", round_number, rounds)

        yield log_round
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("starting", total=None)
        begun = -1

        def show(round_number: int, user_class: str, slots: int) -> None:
            nonlocal begun
            begun += 1
            description = f"round {round_number} of {rounds}: {user_class:<20}"
            progress.update(bar, description=description, total=slots, completed=begun)

        yield show
