"""A page that writes: a customer orders a few tracks. Is the unit of work of the ORM dearer than one INSERT?

locust -f examples/shop/orders.py,examples/rounds.py --headless -u 10 --csv results/orders
"""

from datetime import date
from decimal import Decimal

from sqlalchemy import delete, insert, select

from dbkit.load import Workload, page_users
from examples.shop.data import INVOICES
from examples.shop.models import Customer, Invoice, InvoiceLine, Track

TRACKS = 3


def is_right(receipt, customer_id):
    """Each order is a new one, so there is no earlier page to compare with: it is checked by a function."""
    return (
        receipt["customer_id"] == customer_id
        and receipt["invoice_id"] > INVOICES
        and len(receipt["lines"]) == TRACKS
        and sum(Decimal(price) for _, price in receipt["lines"]) == Decimal(receipt["total"])
    )


def forget_orders(session):
    """Puts the data back before each turn, so that no class finds fuller tables than another. It is committed."""
    session.execute(delete(Invoice).where(Invoice.id > INVOICES))  # their lines go with them


orders = Workload("orders", keys="SELECT id FROM shop.customer ORDER BY id", check=is_right)


def tracks_to_order(session, customer_id):
    """What this customer buys, always the same."""
    return session.scalars(select(Track).where(Track.id.in_([customer_id, customer_id * 50, customer_id * 100]))).all()


def unit_of_work(session, customer_id):
    """Objects are added; the session finds out what to send, and in which order."""
    tracks = tracks_to_order(session, customer_id)
    invoice = Invoice(
        customer=session.get_one(Customer, customer_id),
        invoiced_on=date(2026, 1, 1),
        total=sum(track.price for track in tracks),
        lines=[InvoiceLine(track=track, quantity=1, price=track.price) for track in tracks],
    )
    session.add(invoice)
    session.flush()
    lines = [(line.track.name, str(line.price)) for line in invoice.lines]
    return {"invoice_id": invoice.id, "customer_id": invoice.customer_id, "total": str(invoice.total), "lines": lines}


def inserts(session, customer_id):
    """Two INSERTs, written by hand."""
    tracks = tracks_to_order(session, customer_id)
    order = {"customer_id": customer_id, "invoiced_on": date(2026, 1, 1), "total": sum(track.price for track in tracks)}
    invoice_id = session.scalar(insert(Invoice).values(order).returning(Invoice.id))
    session.execute(
        insert(InvoiceLine).values(
            [{"invoice_id": invoice_id, "track_id": track.id, "quantity": 1, "price": track.price} for track in tracks]
        )
    )
    lines = [(track.name, str(track.price)) for track in tracks]
    return {"invoice_id": invoice_id, "customer_id": customer_id, "total": str(order["total"]), "lines": lines}


# end="commit" commits each page, and says that it writes: pages are not compared with earlier ones then.
page_users(orders, end="commit", reset=forget_orders, unit_of_work=unit_of_work, inserts=inserts)
