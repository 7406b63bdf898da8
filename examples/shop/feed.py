"""A feed, read page after page: 20 albums by title, each page beginning where the last one ended.

locust -f examples/shop/feed.py,examples/rounds.py --headless -u 10 --csv results/feed
"""

from sqlalchemy import select, tuple_
from sqlalchemy.orm import joinedload, selectinload

from dbkit.load import Workload, page_users
from examples.shop.models import Album

PAGE_SIZE = 20


def next_key(rendered, *key):
    """The key of the page after this one, from what was read; None after the last page, where a user begins again."""
    if len(rendered) < PAGE_SIZE:
        return None
    last = rendered[-1]
    return last["title"], last["id"]


# A key that is a tuple is several arguments. The one key here is that of the first page.
feed = Workload("feed", keys=[("", 0)], next_key=next_key)


def feed_page(load):
    def page(session, title, album_id):
        after = tuple_(Album.title, Album.id) > (title, album_id)
        query = select(Album).options(load(Album.artist)).where(after).order_by(Album.title, Album.id).limit(PAGE_SIZE)
        return [{"id": album.id, "title": album.title, "artist": album.artist.name} for album in session.scalars(query)]

    return page


page_users(feed, selectin=feed_page(selectinload), joined=feed_page(joinedload))  # on all stacks
