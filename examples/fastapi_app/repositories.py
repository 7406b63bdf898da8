"""How the application reads: a class a table, with async methods on the session of a request."""

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import selectinload

from examples.fastapi_app.schemas import AlbumOut, InvoiceOut
from examples.shop.models import Album, Invoice

PAGE_SIZE = 20


class AlbumRepository:
    tracks = selectinload(Album.tracks)

    def __init__(self, session: AsyncSession) -> None:
        self.session = session

    async def page(self, number: int) -> list[AlbumOut]:
        query = select(Album).options(self.tracks).order_by(Album.id).limit(PAGE_SIZE).offset(PAGE_SIZE * number)
        albums = (await self.session.scalars(query)).unique()
        return [AlbumOut.model_validate(album) for album in albums]

    async def get(self, album_id: int) -> AlbumOut | None:
        album = await self.session.get(Album, album_id, options=[self.tracks])
        return AlbumOut.model_validate(album) if album else None


class InvoiceRepository:
    def __init__(self, session: AsyncSession) -> None:
        self.session = session

    async def of_customer(self, customer_id: int) -> list[InvoiceOut]:
        query = select(Invoice).where(Invoice.customer_id == customer_id).order_by(Invoice.id)
        return [InvoiceOut.model_validate(invoice) for invoice in await self.session.scalars(query)]
