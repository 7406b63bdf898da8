"""What the application does in a transaction of its own: a use case makes its session itself."""

from datetime import date

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from examples.fastapi_app.schemas import InvoiceOut
from examples.shop.models import Customer, Invoice, InvoiceLine, Track


class UnknownItem(Exception):
    """There is no such customer or track."""


class PlaceOrder:
    def __init__(self, make_session: async_sessionmaker[AsyncSession]) -> None:
        self.make_session = make_session

    async def __call__(self, customer_id: int, track_ids: list[int]) -> InvoiceOut:
        async with self.make_session() as session, session.begin():
            tracks = (await session.scalars(select(Track).where(Track.id.in_(track_ids)))).all()
            if len(tracks) < len(track_ids) or await session.get(Customer, customer_id) is None:
                raise UnknownItem
            invoice = Invoice(
                customer_id=customer_id,
                invoiced_on=date(2026, 1, 1),
                total=sum(track.price for track in tracks),
                lines=[InvoiceLine(track_id=track.id, quantity=1, price=track.price) for track in tracks],
            )
            session.add(invoice)
        # after the commit, as the sessions are made with expire_on_commit=False
        return InvoiceOut.model_validate(invoice)
