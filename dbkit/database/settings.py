"""The settings of engines and pages, the same for every driver."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

PageEnd = Literal["rollback", "commit", "autocommit"]
SessionClose = Literal["with", "finally"]
PoolClass = Literal["queue", "lifo", "null"]
Switch = Literal["off", "on"]
Jit = Literal["server", "off", "on"]
Pooler = Literal["none", "session", "transaction"]
SESSION_CLOSES: tuple[SessionClose, ...] = get_args(SessionClose)
PAGE_ENDS: tuple[PageEnd, ...] = get_args(PageEnd)
POOL_CLASSES: tuple[PoolClass, ...] = get_args(PoolClass)
SWITCHES: tuple[Switch, ...] = get_args(Switch)
JITS: tuple[Jit, ...] = get_args(Jit)
POOLERS: tuple[Pooler, ...] = get_args(Pooler)


@dataclass(frozen=True)
class Settings:
    """How pages use the database."""

    pool_size: int = 5
    """Connections that the pool keeps."""
    max_overflow: int = 10
    """Connections that it may open in addition, which are closed when they are handed back."""
    pool_timeout_s: float = 30.0
    """How long a page waits for a connection before it fails."""
    connect_timeout_s: int = 10
    """How long opening a connection may take, where the URL does not say."""
    statement_timeout_s: float = 0.0
    """How long the server lets a statement run; 0 means no limit."""
    tcp_keepalive_s: float = 10.0
    """How long a connection may be silent before the server is asked for a sign of life; 0 asks for none."""
    tcp_user_timeout_s: float = 30.0
    """How long what was sent may go without an acknowledgement before the connection is given up; 0 is as the system
    has it, which may be a quarter of an hour."""
    end: PageEnd = "rollback"
    """How a page ends: its transaction rolled back (what closing a session does), committed, or none opened at all."""

    pool_class: PoolClass = "queue"
    """Which connection a page gets: the one that was handed back longest ago, the one handed back last, or with `null`
    always a new one, which is closed at its end. Then there is no pool, and no limit."""
    pre_ping: Switch = "off"
    """Whether a connection is tried before a page gets it, which costs a round trip."""
    jit: Jit = "server"
    """Whether the server compiles long queries; `server` leaves it as the server has it set."""

    read_only: bool = False
    """Whether its sessions may only read, as the server sees to it. All that dbkit reads by itself is read so."""

    round_trip_s: float = 0.0
    """How much longer each round trip to the server takes, by a relay: see `dbkit.database.relay`. Who makes an engine
    gives it the relay's URL."""

    close: SessionClose = "with"
    """How an async session is closed: by `async with`, as people write it, which closes it in a task of its own and
    waits for that; or awaited in a `finally`, which needs no task. Sync sessions are always closed by `with`."""

    @property
    def pool_capacity(self) -> int | None:
        """The most connections that one engine opens; None where it has no limit."""
        return None if self.pool_class == "null" else self.pool_size + self.max_overflow

    @property
    def server_options(self) -> dict[str, str]:
        """The server's settings for each of its connections, by name."""
        timeout_ms = round(self.statement_timeout_s * 1000)
        wanted = {
            "statement_timeout": str(timeout_ms) if timeout_ms else "",
            "jit": self.jit.replace("server", ""),
            "default_transaction_read_only": "on" if self.read_only else "",
        }
        return {name: value for name, value in wanted.items() if value}
