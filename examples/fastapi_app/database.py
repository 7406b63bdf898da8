"""The application's engine, with settings of its own, and its sessions."""

from collections.abc import AsyncIterator

from sqlalchemy import URL
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine

from examples.fastapi_app.config import database_url


def make_engine(url: URL) -> AsyncEngine:
    return create_async_engine(url, pool_size=8, max_overflow=4, pool_pre_ping=True, pool_recycle=1800)


engine = make_engine(database_url())
make_session = async_sessionmaker(engine, expire_on_commit=False)


async def get_session() -> AsyncIterator[AsyncSession]:
    """A session for one request."""
    async with make_session() as session:
        yield session
