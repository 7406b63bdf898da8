"""Tests of `dbkit.load` that need no Locust run, but a process that gevent has patched: see `test_patched`."""
