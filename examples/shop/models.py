"""The tables of a music shop: artists with albums with tracks, and customers with invoices.

Nothing here knows of dbkit. The tables are in a schema of their own, so that they are in nobody's way.
"""

from datetime import date
from decimal import Decimal

from sqlalchemy import ForeignKey, MetaData, Numeric
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship


class Base(DeclarativeBase):
    metadata = MetaData(schema="shop")


class Artist(Base):
    __tablename__ = "artist"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]

    albums: Mapped[list["Album"]] = relationship(back_populates="artist", order_by="Album.id")


class Album(Base):
    __tablename__ = "album"

    id: Mapped[int] = mapped_column(primary_key=True)
    artist_id: Mapped[int] = mapped_column(ForeignKey(Artist.id), index=True)
    title: Mapped[str] = mapped_column(index=True)

    artist: Mapped[Artist] = relationship(back_populates="albums")
    tracks: Mapped[list["Track"]] = relationship(back_populates="album", order_by="Track.id")


class Track(Base):
    __tablename__ = "track"

    id: Mapped[int] = mapped_column(primary_key=True)
    album_id: Mapped[int] = mapped_column(ForeignKey(Album.id), index=True)
    name: Mapped[str]
    seconds: Mapped[int]
    price: Mapped[Decimal] = mapped_column(Numeric(6, 2))

    album: Mapped[Album] = relationship(back_populates="tracks")


class Customer(Base):
    __tablename__ = "customer"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    country: Mapped[str] = mapped_column(index=True)

    invoices: Mapped[list["Invoice"]] = relationship(back_populates="customer", order_by="Invoice.id")


class Invoice(Base):
    __tablename__ = "invoice"

    id: Mapped[int] = mapped_column(primary_key=True)
    customer_id: Mapped[int] = mapped_column(ForeignKey(Customer.id), index=True)
    invoiced_on: Mapped[date]
    total: Mapped[Decimal] = mapped_column(Numeric(8, 2))

    customer: Mapped[Customer] = relationship(back_populates="invoices")
    lines: Mapped[list["InvoiceLine"]] = relationship(back_populates="invoice", order_by="InvoiceLine.id")


class InvoiceLine(Base):
    __tablename__ = "invoice_line"

    id: Mapped[int] = mapped_column(primary_key=True)
    invoice_id: Mapped[int] = mapped_column(ForeignKey(Invoice.id, ondelete="CASCADE"), index=True)
    track_id: Mapped[int] = mapped_column(ForeignKey(Track.id))
    quantity: Mapped[int]
    price: Mapped[Decimal] = mapped_column(Numeric(6, 2))

    invoice: Mapped[Invoice] = relationship(back_populates="lines")
    track: Mapped[Track] = relationship()
