"""One more class, and the classes of any other locustfile take turns, each alone. Name both files:

    locust -f examples/shop/albums.py,examples/rounds.py --headless -u 10 --csv results/albums

It may stand in the other file as well. Without it all classes run at once, which is for watching.
"""

from dbkit.load import Rounds


class Compare(Rounds):
    """`--rounds` turns for each class, of `--warm-up` and `--slot-time` seconds."""
