"""The application: `uvicorn examples.fastapi_app.main:app`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException
from sqlalchemy.ext.asyncio import AsyncSession

from examples.fastapi_app.database import engine, get_session, make_session
from examples.fastapi_app.repositories import AlbumRepository, InvoiceRepository
from examples.fastapi_app.schemas import AlbumOut, InvoiceOut, OrderIn
from examples.fastapi_app.use_cases import PlaceOrder, UnknownItem

RequestSession = Annotated[AsyncSession, Depends(get_session)]


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    yield
    await engine.dispose()


app = FastAPI(title="Music shop", lifespan=lifespan)


@app.get("/albums")
async def list_albums(session: RequestSession, page: int = 0) -> list[AlbumOut]:
    return await AlbumRepository(session).page(page)


@app.get("/albums/{album_id}")
async def get_album(session: RequestSession, album_id: int) -> AlbumOut:
    if (album := await AlbumRepository(session).get(album_id)) is None:
        raise HTTPException(404, "no such album")
    return album


@app.get("/customers/{customer_id}/invoices")
async def list_invoices(session: RequestSession, customer_id: int) -> list[InvoiceOut]:
    return await InvoiceRepository(session).of_customer(customer_id)


@app.post("/orders", status_code=201)
async def place_order(order: OrderIn) -> InvoiceOut:
    try:
        return await PlaceOrder(make_session)(order.customer_id, order.track_ids)
    except UnknownItem:
        raise HTTPException(422, "no such customer or track") from None
