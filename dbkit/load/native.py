"""What gevent has replaced in this process, as Python has it: threads, locks, sleeping, queues and files of the system.

Native threads that run beside the hub must share these alone: a lock of a patched module parks a greenlet, which such a
thread does not have.
"""

from __future__ import annotations

from gevent import monkey

start_new_thread = monkey.get_original("_thread", "start_new_thread")
allocate_lock = monkey.get_original("_thread", "allocate_lock")
get_ident = monkey.get_original("_thread", "get_ident")
RLock = monkey.get_original("_thread", "RLock")
close = monkey.get_original("os", "close")
sleep = monkey.get_original("time", "sleep")
SimpleQueue = monkey.get_original("queue", "SimpleQueue")
