"""The default dataset through a proxy that counts what is on the wire, for the tests of the meter."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.wire import WireProxy, upstream_of, wire_proxy


@pytest.fixture(scope="module")
def proxy(seeded_url: str) -> Iterator[WireProxy]:
    with wire_proxy(upstream_of(seeded_url)) as running:
        yield running


@pytest.fixture
def url(proxy: WireProxy, seeded_url: str) -> str:
    return proxy.url(seeded_url)
