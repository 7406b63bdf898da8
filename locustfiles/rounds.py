"""The comparison: every user class alone, in short turns, in random order, in several rounds.

    locust -f locustfiles/rounds.py --headless -u 10 --pool-size 10 --csv results/run
    locust -f locustfiles/rounds.py --headless -u 10 --pool-size 10 --rounds 20 PsycopgJoined AsyncpgJoined

Classes that take turns do not hold each other up, and what drifts meanwhile drifts for all of them alike. The users are
those of users.py; copy both files to compare your own.
"""

from users import *  # noqa: F403

from dbkit.load import Rounds


class Compare(Rounds):
    """`--rounds` turns for each class, of `--warm-up` and `--slot-time` seconds."""
