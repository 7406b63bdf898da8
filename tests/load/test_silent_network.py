"""A network that is cut silently, and healed later: pages that wait fail by name, and come back, on every stack.

The load runs in a network namespace of its own, whose way back from the server is cut: the server gets what is sent,
and no acknowledgement returns. It takes root's rights on Linux.
"""

from __future__ import annotations

import os
import subprocess
import uuid
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from dbkit.database.stacks import STACKS
from tests.conftest import PASSWORD_IN_URL
from tests.load.faulty_servers import Door
from tests.locust_runs import LOCUST, locust

SERVER, CLIENT = "10.213.77.1", "10.213.77.2"
PAGES = """
from sqlalchemy import text
from dbkit.load import Workload, page_users

def quick(session, number):
    session.execute(text("SELECT 1"))

def waits(session, number):  # for an answer, while there is nothing to send
    session.execute(text("SELECT pg_sleep(300)"))

pages = Workload("pages", keys=range(10), check=None)
page_users(pages, quick=quick, waits=waits)
"""


def ip(*arguments: str) -> bool:
    return subprocess.run(["ip", *arguments], capture_output=True).returncode == 0


@pytest.fixture
def namespace() -> Iterator[str]:
    """A network namespace that reaches this one at `SERVER`."""
    name = f"dbkit{uuid.uuid4().hex[:8]}"
    if os.geteuid() or not ip("netns", "add", name):
        pytest.skip("it takes root's rights to make a network namespace")
    outside, inside = f"{name[:10]}o", f"{name[:10]}i"
    try:
        assert ip("link", "add", outside, "type", "veth", "peer", "name", inside, "netns", name)
        assert ip("addr", "add", f"{SERVER}/30", "dev", outside) and ip("link", "set", outside, "up")
        assert ip("-n", name, "addr", "add", f"{CLIENT}/30", "dev", inside)
        assert ip("-n", name, "link", "set", inside, "up") and ip("-n", name, "link", "set", "lo", "up")
        yield name
    finally:
        ip("route", "del", "blackhole", f"{CLIENT}/32")
        ip("link", "del", outside)
        ip("netns", "del", name)


def test_pages_fail_by_name_and_come_back(seeded_url: str, tcp_port: int, tmp_path: Path, namespace: str) -> None:
    (tmp_path / "pages.py").write_text(PAGES)
    door = Door(tcp_port, SERVER)
    door.open()
    url = f"postgresql://tester:{PASSWORD_IN_URL}@{SERVER}:{door.port}/dbkit?connect_timeout=2"
    arguments = ("-u", str(2 * len(STACKS)), "-r", "100", "-t", "600s", "--think-time", "0.05", "--verify-keys", "0",
                 "--plans", "none", "--tcp-keepalive", "1", "--tcp-user-timeout", "2")  # fmt: skip
    with locust(
        tmp_path / "run", *arguments, url=url, locustfiles=str(tmp_path / "pages.py"), record=True,
        command=("ip", "netns", "exec", namespace, *LOCUST),
    ) as run:  # fmt: skip
        failures: dict[str, set[str]] = defaultdict(set)

        def quick_pages_come() -> bool:
            served = [page.context["user_class"] for page in run.pages[before:] if page.failure is None]
            return len({*served}) == len(STACKS)

        def all_have_failed() -> bool:
            for page in run.pages[before:]:
                if page.failure:
                    failures[page.context["user_class"]].add(page.failure.partition(":")[0])
            return sum("TcpTimeout" in names for names in failures.values()) == 2 * len(STACKS)

        before = 0
        run.wait_until(quick_pages_come)
        assert ip("route", "add", "blackhole", f"{CLIENT}/32")
        run.wait_until(all_have_failed)
        assert {name for names in failures.values() for name in names} <= {"TcpTimeout", "ConnectTimeout"}
        assert ip("route", "del", "blackhole", f"{CLIENT}/32")
        before = len(run.pages)
        run.wait_until(quick_pages_come)
        assert run.terminate() == 1, run.output
    door.close()
