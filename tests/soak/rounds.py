"""Beside `pages.py`: its classes take turns, so that faults come in slots, in warm-ups and between them."""

from dbkit.load import Rounds


class InTurns(Rounds):
    """See `tests.soak.run` for how long slots are."""
