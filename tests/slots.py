"""What a process measures in a slot in which nothing is the matter, for tests of what is made of it."""

from dbkit.analysis.slot import ProcessSlot

QUIET = ProcessSlot(
    seconds=1.0,
    cpu_s=0.4,
    core_wait_s=0.05,
    hub_lag_ms=0.1,
    lane_lag_ms=0.2,
    hub_stall_ms=0.0,
    machine="here",
    cores=4,
    busy_share=0.5 / 4,
    steal_share=0.02,
    pressure_share=0.1,
)
