"""How long a connection over TCP may be silent before it is given up: the same limits on every driver.

libpq sets them for psycopg. asyncpg has nothing for them, so that they are set on its socket once it is connected; what
limits connecting is the connect timeout.
"""

from __future__ import annotations

import _socket  # unpatched: where gevent has patched `socket`, that of the loop thread would get a hub of its own
import math
import socket
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import asyncpg

from dbkit.database.settings import Settings
from dbkit.database.url import MOST_KEEPALIVE_S, DatabaseUrl

MOST_USER_TIMEOUT_MS = 2**31 - 1
PROBES = 3
"""Keepalives without an answer before a connection is given up, where there is no user timeout."""
_SOCKET_OPTIONS = {
    "keepalives_idle": "TCP_KEEPIDLE" if hasattr(socket, "TCP_KEEPIDLE") else "TCP_KEEPALIVE",  # as macOS calls it
    "keepalives_interval": "TCP_KEEPINTVL",
    "keepalives_count": "TCP_KEEPCNT",
    "tcp_user_timeout": "TCP_USER_TIMEOUT",
}
"""By libpq's names. A system need not have all of them."""


def tcp_parameters(database: DatabaseUrl, settings: Settings) -> dict[str, int]:
    """libpq's parameters of TCP, by name: what the URL says, else the settings. None for a Unix socket."""
    if database.is_socket:
        return {}
    idle_s = min(math.ceil(settings.tcp_keepalive_s), MOST_KEEPALIVE_S)
    wanted = {"keepalives": int(idle_s > 0)}
    if idle_s:
        wanted |= {"keepalives_idle": idle_s, "keepalives_interval": idle_s, "keepalives_count": PROBES}
    wanted["tcp_user_timeout"] = min(math.ceil(settings.tcp_user_timeout_s * 1000), MOST_USER_TIMEOUT_MS)
    return wanted | dict(database.tcp)


def asyncpg_connect(parameters: Mapping[str, int]) -> Callable[..., Coroutine[Any, Any, Any]]:
    """asyncpg's `connect`, after which libpq's parameters of TCP hold for the connection, too."""

    async def connect(*args: Any, **kwargs: Any) -> Any:
        connection = await asyncpg.connect(*args, **kwargs)
        try:
            # asyncpg gives its socket away by no public name
            _set_options(connection._transport.get_extra_info("socket").fileno(), parameters)
        except BaseException:
            connection.terminate()
            raise
        return connection

    return connect


def _set_options(descriptor: int, parameters: Mapping[str, int]) -> None:
    same_socket = _socket.socket(fileno=descriptor)
    try:
        keeps_alive = parameters.get("keepalives", 1)
        same_socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, keeps_alive)
        for name, option in _SOCKET_OPTIONS.items():
            is_set = name == "tcp_user_timeout" or keeps_alive
            if is_set and (value := parameters.get(name)) and hasattr(socket, option):
                same_socket.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
    finally:
        same_socket.detach()
