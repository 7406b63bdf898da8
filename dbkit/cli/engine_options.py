"""The options on how pages use the database: pools, connections, and what the server does for each of them.

They are a part of the table in `dbkit.cli.options`.
"""

from __future__ import annotations

from dbkit.cli.option import Command, Option
from dbkit.cli.values import choice, duration, integer, round_trip
from dbkit.database.settings import JITS, PAGE_ENDS, POOL_CLASSES, POOLERS, SESSION_CLOSES, SWITCHES, Settings

READERS: tuple[Command, ...] = ("bench", "try", "locust")
"""The command lines that read pages."""
_SETTINGS = Settings()

OF_ENGINES = (
    Option(
        "pool_size",
        integer(1, "connections"),
        _SETTINGS.pool_size,
        "connections that each pool keeps",
        "there is one pool for each stack in each process",
        commands=READERS,
    ),
    Option(
        "max_overflow",
        integer(0, "connections"),
        _SETTINGS.max_overflow,
        "connections that a pool may open beyond its size",
        "they are closed on return",
        commands=READERS,
    ),
    Option(
        "pool_timeout",
        duration(positive=True),
        _SETTINGS.pool_timeout_s,
        "seconds that a page waits for a connection before it fails",
        commands=READERS,
    ),
    Option(
        "connect_timeout",
        integer(2, "seconds"),
        _SETTINGS.connect_timeout_s,
        "seconds that opening a connection may take before it fails",
        "what the URL says as connect_timeout wins",
        commands=READERS,
    ),
    Option(
        "statement_timeout",
        duration(),
        _SETTINGS.statement_timeout_s,
        "seconds that the server lets a statement run, 0 for no limit",
        commands=READERS,
    ),
    Option(
        "tcp_keepalive",
        duration(),
        _SETTINGS.tcp_keepalive_s,
        "seconds that a connection may be silent before the server is asked for a sign of life, 0 for never",
        "over TCP; asked again at the same distance, until three have gone unanswered or --tcp-user-timeout is over",
        commands=READERS,
    ),
    Option(
        "tcp_user_timeout",
        duration(),
        _SETTINGS.tcp_user_timeout_s,
        "seconds without an acknowledgement before a connection is given up, 0 for as long as the system waits",
        "over TCP on Linux, so that a network that was cut silently fails pages as TcpTimeout",
        commands=READERS,
    ),
    Option(
        "end",
        choice(*PAGE_ENDS),
        _SETTINGS.end,
        "how a page ends",
        "rollback is what closing a session does, commit costs the same round trip, autocommit opens no transaction",
        commands=READERS,
    ),
    Option(
        "session_close",
        choice(*SESSION_CLOSES),
        _SETTINGS.close,
        "how async sessions are closed",
        "by `async with`, as people write it, or by `await session.close()` in a `finally`, which saves a task a page",
        commands=READERS,
    ),
    Option(
        "pool_class",
        choice(*POOL_CLASSES),
        _SETTINGS.pool_class,
        "which connection of the pool a page gets",
        "queue gives the one that was handed back longest ago, lifo the last one; null keeps none and opens one a page",
        commands=READERS,
    ),
    Option(
        "pre_ping",
        choice(*SWITCHES),
        _SETTINGS.pre_ping,
        "whether a connection is tried before a page gets it",
        "which costs a round trip",
        commands=READERS,
    ),
    Option(
        "jit",
        choice(*JITS),
        _SETTINGS.jit,
        "whether the server compiles long queries",
        "server leaves it as the server has it set",
        commands=READERS,
    ),
    Option(
        "pooler",
        choice(*POOLERS),
        POOLERS[0],
        "pooler that the database URL leads to, by when it hands a connection on",
        "with transaction drivers prepare no statements, and settings are set in each transaction; see docs/poolers.md",
        commands=("seed", *READERS),
    ),
    Option(
        "round_trip",
        round_trip(),
        0.0,
        "milliseconds by which each round trip to the server takes longer, as 1ms",
        "by a relay, as if the server were farther away",
        default_words="none",
        commands=READERS,
    ),
)
"""In the order in which they are shown."""
