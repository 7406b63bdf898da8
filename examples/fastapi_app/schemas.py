"""What the application answers with."""

from datetime import date
from decimal import Decimal

from pydantic import BaseModel, ConfigDict


class FromRow(BaseModel):
    model_config = ConfigDict(from_attributes=True)


class TrackOut(FromRow):
    name: str
    seconds: int


class AlbumOut(FromRow):
    id: int
    title: str
    tracks: list[TrackOut]


class InvoiceOut(FromRow):
    id: int
    customer_id: int
    invoiced_on: date
    total: Decimal


class OrderIn(BaseModel):
    customer_id: int
    track_ids: list[int]
