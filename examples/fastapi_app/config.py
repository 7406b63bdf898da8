"""Where the application finds its database: in SHOP_DATABASE_URL, as its own code decides.

As this is an example, which is to run also where no PostgreSQL is, it else takes the one that dbkit finds or starts.
"""

import os

from sqlalchemy import URL, make_url

from dbkit import find_database
from dbkit.database.application import engine_url
from dbkit.database.stacks import find_stack


def database_url() -> URL:
    if url := os.environ.get("SHOP_DATABASE_URL"):
        return make_url(url).set(drivername="postgresql+asyncpg")
    return engine_url(find_database(), find_stack("asyncpg"))
