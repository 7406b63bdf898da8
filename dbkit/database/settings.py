"""The settings of engines and pages, the same for every driver."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

PageEnd = Literal["rollback", "commit", "autocommit"]
SessionClose = Literal["with", "finally"]
SESSION_CLOSES: tuple[SessionClose, ...] = get_args(SessionClose)
PAGE_ENDS: tuple[PageEnd, ...] = get_args(PageEnd)


@dataclass(frozen=True)
class Settings:
    """How pages use the database."""

    pool_size: int = 5
    """Connections that the pool keeps."""
    max_overflow: int = 10
    """Connections that it may open in addition, which are closed when they are handed back."""
    pool_timeout_s: float = 30.0
    """How long a page waits for a connection before it fails."""
    statement_timeout_s: float = 0.0
    """How long the server lets a statement run; 0 means no limit."""
    end: PageEnd = "rollback"
    """How a page ends: its transaction rolled back (what closing a session does), committed, or none opened at all."""

    close: SessionClose = "with"
    """How an async session is closed: by `async with`, as people write it, which closes it in a task of its own and
    waits for that; or awaited in a `finally`, which needs no task. Sync sessions are always closed by `with`."""

    @property
    def pool_capacity(self) -> int:
        """The most connections that one engine opens."""
        return self.pool_size + self.max_overflow
