"""What the application's pages may cost, held in its tests: see docs/pytest.md.

    python -m examples.shop.data
    pytest examples/fastapi_app

A relation that is loaded lazily from now on, or one statement more, fails here, with the line that sends it.
"""

import pytest
from sqlalchemy.orm import joinedload

from dbkit.paging import own_session
from examples.fastapi_app.database import engine
from examples.fastapi_app.repositories import AlbumRepository, InvoiceRepository
from examples.fastapi_app.use_cases import PlaceOrder
from examples.shop.models import Album


@pytest.fixture
def dbkit_engine():
    return engine


class JoinedAlbums(AlbumRepository):
    tracks = joinedload(Album.tracks)


async def albums(session, number):
    return await AlbumRepository(session).page(number)


async def joined(session, number):
    return await JoinedAlbums(session).page(number)


async def invoices(session, customer_id):
    return await InvoiceRepository(session).of_customer(customer_id)


async def place_order(make_session, customer_id):
    return await PlaceOrder(make_session)(customer_id, [customer_id, 50 * customer_id])


def test_albums(dbkit_page):
    page = dbkit_page(albums, 3).costs(statements=2)
    assert len(page.rendered) == 20


def test_albums_by_a_join_are_the_same(dbkit_page):
    dbkit_page(joined, 3).costs(statements=1).same_as(albums)


def test_invoices_do_not_load_their_lines(dbkit_page):
    dbkit_page(invoices, 7).costs(statements=1, connections=0)


def test_an_order(dbkit_page):
    """What it writes is rolled back."""
    dbkit_page(own_session(place_order, expire_on_commit=False), 7).costs(statements=4)
