"""The application's repositories and use case, measured unchanged, on the application's own engine.

    locust -f examples/fastapi_app/load.py                                              # the web UI
    locust -f examples/fastapi_app/load.py,examples/rounds.py --headless -u 10 --csv results/app

What is measured is what a request does between the web framework and the server: session, queries, response models.
"""

from sqlalchemy.orm import joinedload

from dbkit.load import Workload, own_session, page_users
from examples.fastapi_app.database import engine, make_engine
from examples.fastapi_app.repositories import AlbumRepository, InvoiceRepository
from examples.fastapi_app.use_cases import PlaceOrder
from examples.shop.data import CUSTOMERS, INVOICES
from examples.shop.models import Album


class JoinedAlbums(AlbumRepository):
    """An idea to be tried: nothing in the application is changed for it."""

    tracks = joinedload(Album.tracks)


async def as_it_is(session, number):
    return await AlbumRepository(session).page(number)


async def joined(session, number):
    return await JoinedAlbums(session).page(number)


albums = Workload("albums", keys=range(300))
page_users(albums, stacks=["asyncpg"], async_engine=engine, as_it_is=as_it_is, joined=joined)

# The same with the other async driver: the application's function makes the engine, from the URL that dbkit gives it.
page_users(albums, stacks=["psycopg-async"], async_engine=make_engine, as_it_is=as_it_is, joined=joined)


async def invoices_page(session, customer_id):
    return await InvoiceRepository(session).of_customer(customer_id)


def of_customer(invoices, customer_id):
    """Orders are placed below, so that a page may have more than when it was read first."""
    return all(invoice.customer_id == customer_id for invoice in invoices)


invoices = Workload("invoices", keys="SELECT id FROM shop.customer ORDER BY id", check=of_customer)
page_users(invoices, stacks=["asyncpg"], async_engine=engine, invoices=invoices_page)


async def place_order(make_session, customer_id):
    """`own_session` has it called with a sessionmaker instead of a session; the use case commits by itself."""
    return await PlaceOrder(make_session)(customer_id, [customer_id, 50 * customer_id])


def is_new(invoice, customer_id):
    return invoice.id > INVOICES and invoice.customer_id == customer_id


page_users(
    Workload("orders", keys=range(2, CUSTOMERS + 1), check=is_new),
    stacks=["asyncpg"],
    async_engine=engine,
    writes=True,
    reset=f"DELETE FROM shop.invoice WHERE id > {INVOICES}",
    order=own_session(place_order, expire_on_commit=False),
)
