"""A user with tasks of its own, by Locust's weights: it lists albums ten times as often as it orders.

locust -f examples/shop/shoppers.py --headless -u 10 -t 30s --csv results/shoppers
"""

import random

from locust import between, task
from sqlalchemy.orm import selectinload

from dbkit.load import PageUser
from examples.shop.albums import albums_page
from examples.shop.data import CUSTOMERS, INVOICES
from examples.shop.orders import unit_of_work

list_albums = albums_page(selectinload)


class Shopper(PageUser):
    """What a shopper does, on any stack."""

    abstract = True
    wait_time = between(0.01, 0.05)  # as with any Locust user; without it, --think-time says how long to wait
    end = "commit"
    reset = f"DELETE FROM shop.invoice WHERE id > {INVOICES}"  # SQL, or a function as in orders.py

    @task(10)
    def look_around(self):
        self.read_page(list_albums, random.randrange(300), name="albums")

    @task(1)
    def buy(self):
        # a page as it was rendered; None where it failed
        receipt = self.read_page(unit_of_work, random.randint(1, CUSTOMERS), name="order")
        if receipt is not None and float(receipt["total"]) > 5:
            self.look_around()


class PsycopgShopper(Shopper):
    stack = "psycopg"


class AsyncpgShopper(Shopper):
    stack = "asyncpg"
