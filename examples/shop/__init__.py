"""A music shop: its tables, its rows, and locustfiles that read its pages. See the README.md above."""
