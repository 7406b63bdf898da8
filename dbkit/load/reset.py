"""Puts the data of a class that writes back to where it was: before each slot, or once before a run without slots."""

from __future__ import annotations

from typing import cast

from sqlalchemy.orm import Session

from dbkit.database.engines import make_engine
from dbkit.database.server import connect_directly
from dbkit.database.settings import Settings
from dbkit.database.url import DatabaseUrl
from dbkit.errors import DbkitError, advice_on, without_secrets
from dbkit.load.page_class import PageClass


def reset_pages(database: DatabaseUrl, page_class: PageClass) -> None:
    """Run the class's `reset` and commit. Raises DbkitError where that fails."""
    assert page_class.reset is not None
    try:
        if isinstance(page_class.reset, str):
            with connect_directly(database, writes=True) as connection:
                connection.execute(page_class.reset.encode())
        else:
            engine = make_engine(database, Settings())
            try:
                with Session(engine) as session:
                    page_class.reset(session)
                    session.commit()
            finally:
                engine.dispose()
    except Exception as error:  # of a function of somebody's own, too
        origin = cast(object, getattr(error, "orig", None)) or error
        kind = "" if hasattr(origin, "sqlstate") else f"{type(origin).__name__}: "
        reason = without_secrets(str(origin).partition("\n")[0])
        raise DbkitError(f"the reset of {page_class.name} failed: {kind}{reason}{advice_on(origin)}") from None
