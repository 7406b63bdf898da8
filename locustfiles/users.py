"""Every user class: one stack with one loading strategy. Ramp them in the web UI, or name some on the command line.

    locust                                                      # the web UI, all classes
    locust --headless -u 20 -r 20 -t 20s --pool-size 10 PsycopgJoined AsyncpgJoined

Classes that run at once in one process hold each other up, and their ranking can change: such a run is for watching.
To compare classes, run them one at a time with rounds.py. Pages of your own: see docs/own-pages.md.
"""

from dbkit.load import page_users
from dbkit.paging import core, joined, lazy, selectin, subquery
from dbkit.todo.workload import TODO_LIST

page_users(TODO_LIST, lazy=lazy, selectin=selectin, joined=joined, subquery=subquery, core=core)
