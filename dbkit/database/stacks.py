"""The stacks that pages are read on: a driver, and a concurrency model."""

from __future__ import annotations

from typing import Literal, get_args

Stack = Literal["psycopg", "psycopg-threads", "psycopg-async", "asyncpg"]
"""Driver and concurrency model: psycopg under gevent, psycopg in native threads, and two drivers under asyncio."""
STACKS: tuple[Stack, ...] = get_args(Stack)
ASYNC_STACKS: tuple[Stack, ...] = ("psycopg-async", "asyncpg")
