"""Makes the shop's tables and fills them: the same rows every time, from a few words and a seeded generator.

    python -m examples.shop.data [postgresql://user:password@host:port/database]

Without a URL it takes that of DBKIT_DATABASE_URL, else dbkit's embedded server. Rows that are there already stay.
"""

import sys
from collections.abc import Iterator
from datetime import date, timedelta
from decimal import Decimal
from random import Random
from typing import Any

from sqlalchemy import Engine, func, insert, inspect, select, text
from sqlalchemy.orm import Session
from sqlalchemy.schema import CreateSchema

from dbkit import DatabaseUrl, Settings, find_database, make_engine
from examples.shop.models import Album, Artist, Base, Customer, Invoice, InvoiceLine, Track

ARTISTS, ALBUMS, CUSTOMERS, INVOICES = 1_200, 6_000, 500, 2_000
COLOURS = ("Amber", "Black", "Crimson", "Golden", "Green", "Grey", "Indigo", "Pale", "Silver", "White")
THINGS = ("Bridge", "Garden", "Harbour", "Lantern", "Meadow", "Mirror", "Orchard", "River", "Station", "Winter")
TIMES = ("after Midnight", "at Dawn", "in April", "in the Rain", "on Sunday", "without End")
FIRST_NAMES = ("Ada", "Bo", "Chen", "Dora", "Emre", "Fatou", "Goran", "Hana", "Ines", "Juri")
LAST_NAMES = ("Berg", "Costa", "Dubois", "Endo", "Farah", "Garcia", "Haas", "Ito", "Jansen", "Kaya")
COUNTRIES = ("Brazil", "Canada", "France", "Ghana", "India", "Japan", "Norway", "Portugal", "Turkey", "Vietnam")


def fill(engine: Engine) -> bool:
    """Make tables and rows; return False where they are there already."""
    if inspect(engine).has_table("artist", schema="shop"):
        return False
    choose = Random(1)
    with Session(engine) as session, session.begin():  # all of it, or nothing
        session.execute(CreateSchema("shop", if_not_exists=True))
        Base.metadata.create_all(session.connection())
        session.execute(insert(Artist), [{"id": number, "name": _artist(number)} for number in _numbers(ARTISTS)])
        session.execute(insert(Album), list(_albums(choose)))
        tracks = list(_tracks(choose))
        session.execute(insert(Track), tracks)
        session.execute(insert(Customer), [_customer(number) for number in _numbers(CUSTOMERS)])
        lines = [list(_lines(number, tracks, choose)) for number in _numbers(INVOICES)]
        session.execute(insert(Invoice), [_invoice(number, each) for number, each in enumerate(lines, 1)])
        session.execute(insert(InvoiceLine), [line for each in lines for line in each])
        # orders that are placed later get later numbers
        session.execute(select(func.setval("shop.invoice_id_seq", INVOICES)))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for table in Base.metadata.tables:
            connection.execute(text(f"VACUUM ANALYZE {table}"))  # or the server plans without knowing them
    return True


def _numbers(count: int) -> range:
    return range(1, count + 1)


def _artist(number: int) -> str:
    return f"The {COLOURS[number % 10]} {THINGS[number // 10 % 10]}s {number // 100 + 1}"


def _albums(choose: Random) -> Iterator[dict[str, Any]]:
    for number in _numbers(ALBUMS):
        title = f"{choose.choice(COLOURS)} {choose.choice(THINGS)} {choose.choice(TIMES)}"
        yield {"id": number, "artist_id": choose.randint(1, ARTISTS), "title": title}


def _tracks(choose: Random) -> Iterator[dict[str, Any]]:
    track_id = 0
    for album_id in _numbers(ALBUMS):
        for _ in range(choose.randint(6, 14)):
            track_id += 1
            name = f"{choose.choice(THINGS)} {choose.choice(TIMES)}"
            price = Decimal(choose.choice(("0.99", "1.29", "1.99")))
            yield {
                "id": track_id,
                "album_id": album_id,
                "name": name,
                "seconds": choose.randint(90, 420),
                "price": price,
            }


def _customer(number: int) -> dict[str, Any]:
    name = f"{FIRST_NAMES[number % 10]} {LAST_NAMES[number // 10 % 10]}"
    return {"id": number, "name": name, "country": COUNTRIES[number * 7 // 10 % 10]}


def _lines(invoice_id: int, tracks: list[dict[str, Any]], choose: Random) -> Iterator[dict[str, Any]]:
    for track in choose.sample(tracks, choose.randint(1, 9)):
        yield {"invoice_id": invoice_id, "track_id": track["id"], "quantity": 1, "price": track["price"]}


def _invoice(number: int, lines: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": number,
        "customer_id": (number - 1) % CUSTOMERS + 1,
        "invoiced_on": date(2025, 1, 1) + timedelta(days=number // 6),
        "total": sum(line["price"] for line in lines),
    }


def main() -> None:
    database = DatabaseUrl.parse(sys.argv[1]) if len(sys.argv) > 1 else find_database()
    filled = fill(make_engine(database, Settings()))
    print(f"{database}: the shop is {'filled' if filled else 'there already'}")


if __name__ == "__main__":
    main()
