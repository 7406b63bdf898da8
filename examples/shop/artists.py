"""A page of three levels: 10 artists with their albums with their tracks. How do two joins multiply the rows?

    locust -f examples/shop/artists.py,examples/rounds.py --headless -u 10 --csv results/artists

Here the classes are written one by one, as suits few of them. One page function is native async code, which fits the
async stacks alone: it gets an `AsyncSession`.
"""

from sqlalchemy import func, select
from sqlalchemy.orm import joinedload, selectinload

from dbkit.load import AsyncPageUser, SyncPageUser, ThreadPageUser, Workload
from examples.shop.models import Album, Artist

PAGE_SIZE = 10


def count_pages(session):
    """Keys may come from a function of a session, which is called once before a run."""
    return range(session.scalar(select(func.count(Artist.id))) // PAGE_SIZE)


artists = Workload("artists", keys=count_pages)


def artists_query(number, *options):
    return select(Artist).options(*options).order_by(Artist.id).limit(PAGE_SIZE).offset(PAGE_SIZE * number)


def render(found):
    return [
        {
            "name": artist.name,
            "albums": [
                {"title": album.title, "tracks": [track.name for track in album.tracks]} for album in artist.albums
            ],
        }
        for artist in found
    ]


def selectin(session, number):
    """Three statements: one for each level."""
    query = artists_query(number, selectinload(Artist.albums).selectinload(Album.tracks))
    return render(session.scalars(query))


def joined(session, number):
    """One statement; each artist and each album come again with every track."""
    query = artists_query(number, joinedload(Artist.albums).joinedload(Album.tracks))
    return render(session.scalars(query).unique())


async def selectin_awaited(session, number):
    """`selectin` as an async application writes it."""
    query = artists_query(number, selectinload(Artist.albums).selectinload(Album.tracks))
    return render((await session.scalars(query)).all())


class PsycopgSelectin(SyncPageUser):
    workload = artists
    strategy = "selectin"  # classes of one strategy are shown alike; without it, it is the name of the class
    page_function = selectin


class PsycopgJoined(SyncPageUser):
    workload = artists
    strategy = "joined"
    page_function = joined


class PsycopgThreadsSelectin(ThreadPageUser):
    workload = artists
    strategy = "selectin"
    page_function = selectin


class AsyncpgSelectin(AsyncPageUser):
    stack = "asyncpg"
    workload = artists
    strategy = "selectin"
    page_function = selectin


class AsyncpgJoined(AsyncPageUser):
    stack = "asyncpg"
    workload = artists
    strategy = "joined"
    page_function = joined


class AsyncpgAwaited(AsyncPageUser):
    stack = "asyncpg"
    workload = artists
    strategy = "selectin, awaited"
    page_function = selectin_awaited


class PsycopgAsyncAwaited(AsyncPageUser):
    stack = "psycopg-async"
    workload = artists
    strategy = "selectin, awaited"
    page_function = selectin_awaited
