"""The messages of a slot, between the process that runs the schedule and those that read pages.

The conductor sends each step, and the workers answer. A single process sends them to itself, in the same way.
"""

PARK = "dbkit_slot_park"
"""To the workers: a slot begins; let its users wait before the gate. The condition and its settings come with this."""
CONNECT = "dbkit_slot_connect"
"""To the workers: open the connections of the slot's users."""
OPEN = "dbkit_slot_open"
"""To the workers: open the gate; the warm-up begins."""
MEASURE = "dbkit_slot_measure"
"""To the workers: pages that are asked for from now on count."""
CLOSE = "dbkit_slot_close"
"""To the workers: close the gate, wait for the last pages and report."""

CONNECTED = "dbkit_slot_connected"
"""To the conductor: the connections are open, or cannot be opened."""
ENOUGH = "dbkit_slot_enough"
"""To the conductor: users have read pages enough, as `dbkit.load.worker` has it."""
CLOSED = "dbkit_slot_closed"
"""To the conductor: nothing is in flight any more, and the report was sent before this."""

SIDE = "dbkit_side"
"""To the master: which of two revisions a worker reads the pages of, and whether that has changed meanwhile."""

START_AGAIN = "dbkit_start_again"
"""To the workers of both revisions: end, and be started again as new processes."""

SEND_LAST_REPORT = "dbkit_last_report"
"""To the workers: the test has ended; send what is still to be reported."""
LAST_REPORT_SENT = "dbkit_last_report_sent"
"""To the master: the last report was sent before this."""
