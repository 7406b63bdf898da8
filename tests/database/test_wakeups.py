"""What waiting costs a client: measured at any server, without a table, and nothing is left there."""

from __future__ import annotations

import psycopg

from dbkit.database.url import DatabaseUrl
from dbkit.database.wakeups import SLEEPS_MS, cpu_by_wait_ms


def test_each_wait_has_its_cpu_time(each_url: str) -> None:
    found = cpu_by_wait_ms(DatabaseUrl.parse(each_url))
    assert [*found] == ["0", *(f"{wait_ms:g}" for wait_ms in SLEEPS_MS)]
    assert all(cpu_ms > 0 for cpu_ms in found.values())
    with psycopg.connect(each_url) as connection:
        [(others,)] = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep%' AND pid <> pg_backend_pid()"
            " AND datname = current_database()"
        ).fetchall()
    assert others == 0
