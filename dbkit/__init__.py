"""dbkit: which way of loading SQLAlchemy list pages is fastest on your PostgreSQL, and why.

The library is plain SQLAlchemy and runs in any script or web application; `dbkit.load` puts Locust's users on top.
"""
