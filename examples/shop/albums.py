"""A list page: 20 albums with their tracks. Which way to load the tracks is best, and on which driver?

locust -f examples/shop/albums.py                                                   # the web UI
locust -f examples/shop/albums.py,examples/rounds.py --headless -u 10 --csv results/albums
"""

from sqlalchemy import select
from sqlalchemy.orm import joinedload, lazyload, selectinload

from dbkit.load import Workload, page_users
from examples.shop.models import Album

# What is read: the pages 0 to 299. Every class must give the same page for the same number: that is proved first.
albums = Workload("albums", keys=range(300))


def albums_page(load):
    """A page function for one way of loading: it gets a session and a key, and returns plain values."""

    def page(session, number):
        query = select(Album).options(load(Album.tracks)).order_by(Album.id).limit(20).offset(20 * number)
        return [(album.title, [track.name for track in album.tracks]) for album in session.scalars(query).unique()]

    return page


# Six user classes, named after stack and strategy: PsycopgSelectin, AsyncpgJoined, ...
page_users(
    albums,
    stacks=["psycopg", "asyncpg"],
    selectin=albums_page(selectinload),
    joined=albums_page(joinedload),
    lazy=albums_page(lazyload),
)
