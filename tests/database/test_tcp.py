"""The limits on a silent connection are on the sockets of every driver; what the URL says wins."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import psutil
import pytest

from dbkit.database.settings import Settings
from dbkit.database.stacks import STACKS
from tests.stacks import open_stack

NAMES = ("SO_KEEPALIVE", "TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT")

pytestmark = pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="only Linux has all of them")


def options_to(port: int) -> list[tuple[int, ...]]:
    """Those of the sockets of this process that are connected to a port."""
    found = []
    levels = [socket.SOL_SOCKET, *[socket.IPPROTO_TCP] * 4]
    for connection in psutil.Process().net_connections("tcp"):
        if connection.raddr and connection.raddr[1] == port:
            with socket.socket(fileno=os.dup(connection.fd)) as same_socket:
                found.append(tuple(map(same_socket.getsockopt, levels, (getattr(socket, name) for name in NAMES))))
    return found


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize(
    ("settings", "in_url", "expected"),
    [
        (Settings(), "", (1, 10, 10, 3, 30_000)),
        (Settings(tcp_keepalive_s=1.2, tcp_user_timeout_s=0.5), "", (1, 2, 2, 3, 500)),
        (Settings(tcp_keepalive_s=1e9, tcp_user_timeout_s=1e9), "", (1, 32_767, 32_767, 3, 2**31 - 1)),
        (Settings(), "?keepalives_idle=7&keepalives_interval=5&keepalives_count=2", (1, 7, 5, 2, 30_000)),
        (Settings(), "?tcp_user_timeout=1500&sslmode=disable", (1, 10, 10, 3, 1500)),
    ],
)
def test_they_are_on_the_sockets_of_every_driver(
    password_url: str, tcp_port: int, stack: str, settings: Settings, in_url: str, expected: tuple[int, ...]
) -> None:
    with open_stack(stack, f"{password_url}{in_url}", settings) as engine:
        engine.connect()
        assert options_to(tcp_port) == [expected]
        assert engine.row("SELECT 1") == (1,)


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize(
    ("settings", "in_url"),
    [(Settings(tcp_keepalive_s=0, tcp_user_timeout_s=0), ""), (Settings(), "?keepalives=0&tcp_user_timeout=0")],
)
def test_none_is_as_the_system_has_it(
    password_url: str, tcp_port: int, stack: str, settings: Settings, in_url: str
) -> None:
    with open_stack(stack, f"{password_url}{in_url}", settings) as engine:
        engine.connect()
        [(keeps_alive, *_, user_timeout_ms)] = options_to(tcp_port)
        assert (keeps_alive, user_timeout_ms) == (0, 0)


@pytest.mark.parametrize("stack", STACKS)
def test_a_unix_socket_has_none(seeded_url: str, tmp_path: Path, stack: str) -> None:
    with open_stack(stack, f"{seeded_url}&tcp_user_timeout=1000&keepalives_idle=5") as engine:
        assert engine.row("SELECT 1") == (1,)
