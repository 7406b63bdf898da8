"""Faults at random moments of long runs, against a recorder of their own: see `tests.soak.__main__`."""
