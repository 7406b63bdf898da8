"""The database that pages are read from: its URL, settings and stacks, engines on it, and its server."""
