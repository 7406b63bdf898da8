"""How many hostile values a property-based test of what comes from outside tries: `DBKIT_EXAMPLES`, 200 by default.

Those tests have the mark `hostile`, so that more can be tried of them alone: `DBKIT_EXAMPLES=5000 pytest -m hostile`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

EXAMPLES = int(os.environ.get("DBKIT_EXAMPLES", "200"))

NASTY = (
    *("", " ", "--", "\0", "\n", "\r\n", "-", "-1", "+1", "1e999", "nan", "-inf", "1_000", "٣", "0x10", "9" * 5000),
    *("1,2,1", "1..2", "2..1", "1..999999999999", "a=b", "a=1,1 b=2", "p95_ms < ", "rows < 1; ", "'", '"', "\\", "%s"),
    *(
        "{}",
        "[]",
        "null",
        "\ud800",
        "\u202e",
        "\x1b[2J",
        "😀",
        "é" * 300,
        "../../etc/passwd",
        "<script>",
        "${x}",
        "$(x)",
    ),
    *("postgresql://u:p@h:1/d", "mysql://u:p@h/d", "postgresql://u:p@h:x/d", "1h", "5m3", "1s1s", "99999999999h"),
)
texts = st.sampled_from(NASTY) | st.text(max_size=30)
"""Text that somebody may give where something else is expected."""


def hostile(test: Callable[..., Any]) -> Any:
    """Mark a test with `given`, and have it try `EXAMPLES` values. How long one takes says how busy the machine is."""
    slow = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
    return pytest.mark.hostile(settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=slow)(test))
