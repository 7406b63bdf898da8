"""Locust's percentiles as dbkit computes them: the same as Locust's own, for any times."""

from __future__ import annotations

import subprocess
import sys

from tests.locust_runs import REPOSITORY

# in a process of its own, as importing Locust patches the one that does
SCRIPT = """
from locust import stats
locusts = stats.calculate_response_time_percentile
from dbkit.load.locust_patches.percentiles import use_significant_digits
from hypothesis import given, settings, strategies as st

use_significant_digits()
assert stats.calculate_response_time_percentile is not locusts
times = st.dictionaries(st.floats(0, 1e5), st.integers(1, 1000), max_size=30)

@settings(max_examples=500, deadline=None)
@given(st.lists(st.tuples(times, st.integers(0, 3)), max_size=3), st.lists(st.floats(0, 1), max_size=6))
def agree(entries, shares):
    for response_times, more in entries * 2:
        requests = sum(response_times.values()) + more
        for share in shares:
            found = stats.calculate_response_time_percentile(response_times, requests, share)
            assert found == locusts(response_times, requests, share)
        response_times[7.0] = response_times.get(7.0, 0) + 1  # one more request

agree()
"""


def test_they_are_locusts_for_any_times() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], cwd=REPOSITORY, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
