"""Where keys come from: a range, SQL, a function of a session. Three workloads of the same page function.

    locust -f examples/shop/customers.py,examples/rounds.py --headless -u 10 --csv results/customers

Classes of different workloads read different pages, so they are shown apart and not ranked against each other.
"""

from sqlalchemy import func, select
from sqlalchemy.orm import joinedload, selectinload

from dbkit.load import Workload, page_users
from examples.shop.models import Customer, Invoice


def customer_page(load):
    """A customer with all invoices."""

    def page(session, customer_id):
        query = select(Customer).options(load(Customer.invoices)).where(Customer.id == customer_id)
        customer = session.scalars(query).unique().one()
        invoices = [(invoice.invoiced_on.isoformat(), str(invoice.total)) for invoice in customer.invoices]
        return {"name": customer.name, "country": customer.country, "invoices": invoices}

    return page


def best_customers(session):
    """Those who have spent the most. It is called once, before the run."""
    spent = func.sum(Invoice.total)
    return session.scalars(select(Invoice.customer_id).group_by(Invoice.customer_id).order_by(spent.desc()).limit(50))


every_customer = Workload("customers", keys=range(1, 501))
norwegians = Workload("Norwegian customers", keys="SELECT id FROM shop.customer WHERE country = 'Norway' ORDER BY id")
best = Workload("best customers", keys=best_customers)

strategies = {"selectin": customer_page(selectinload), "joined": customer_page(joinedload)}

# Without a prefix, the classes of the second workload would have the names of the first one's.
page_users(every_customer, stacks=["psycopg", "asyncpg"], **strategies)
page_users(norwegians, stacks=["psycopg", "asyncpg"], prefix="Norwegian", **strategies)
page_users(best, stacks=["psycopg", "asyncpg"], prefix="Best", **strategies)
