"""The tests of dbkit."""

import signal

# A shell has the jobs that it puts in the background ignore SIGINT, and nohup has them ignore SIGHUP. Every process
# that they start inherits that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
