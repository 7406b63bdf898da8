"""How long a user waits before it tries again to connect, so that a server that is down is not asked without a pause.

When a page counts as one that could not connect is decided in `dbkit.database.meter`.
"""

from __future__ import annotations

import random

FIRST_S = 0.05
"""The wait after the second failure in a row, at most: the first one is tried again at once."""
LONGEST_S = 1.0
LEAST_SHARE = 0.5
"""Each wait is drawn from this share of it to all of it, so that users do not come back together."""


class BackOff:
    """That of one user."""

    def __init__(self) -> None:
        self.waited_s = 0.0
        """How long it has waited, beyond any think time, since the last page that was asked for."""
        self._failed = 0

    def after(self, could_not_connect: bool) -> float:
        """Seconds to wait after a page: twice as long as the last time, up to `LONGEST_S`; 0 where it connected."""
        self._failed = self._failed + 1 if could_not_connect else 0
        if self._failed < 2:
            return 0.0
        return min(FIRST_S * 2.0 ** min(self._failed - 2, 10), LONGEST_S) * random.uniform(LEAST_SHARE, 1)
