"""The two sides of a before and after: where the code of each lies, and which Python runs it.

Begin at `dbkit.sides.checkouts`. Which processes run a side, and what is measured, is left to others.
"""
