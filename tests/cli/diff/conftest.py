"""A shop to compare with itself: its repository, and its tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.repositories import Shop, make_shop, make_tables


@pytest.fixture(scope="module")
def shop_url(server_url: str) -> str:
    make_tables(server_url)
    return server_url


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return make_shop(tmp_path / "a shop with spaces")
