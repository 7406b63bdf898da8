"""Before and after: what two revisions of somebody's code have in common, and in what their pages differ.

A revision is a setting of a condition, so that its times are compared as those of any setting: see
`dbkit.analysis.before_after`. What is exact on any machine, counts and SQL, is here, and needs no load. Reading the
pages is left to `dbkit.load.page_facts`, the checkouts to `dbkit.sides`.
"""

from __future__ import annotations

from msgspec import Struct

from dbkit.analysis.records import Count
from dbkit.measure.cost import COUNTS

PAGE_COUNTS = (*COUNTS, "bytes_from_server")
"""The counts of a page without load: bytes are counted by a relay, which would take part in a load."""
REVISION = "revision"
"""The setting in which the conditions of a before and after differ; its values are the names of the sides."""


class Side(Struct, kw_only=True):
    """One of the two revisions."""

    name: str
    """As it was given, such as `main`, `HEAD`, `working tree` or a folder; unique in the result."""
    commit: str = ""
    """The beginning of its hash; empty where it is no commit."""
    subject: str = ""
    """The first line of the commit's message."""
    lock: str = ""
    """The file of the packages that it ran with, where it was given."""
    versions: dict[str, str] = {}
    """Versions of Python and of packages, by name."""

    @property
    def words(self) -> str:
        """`main (1a2b3c4, Sort albums by title)`."""
        lock = "" if self.name.startswith(self.lock) else self.lock  # which is the name where nothing else differs
        about = ", ".join(filter(None, (self.commit, self.subject, lock)))
        return f"{self.name} ({about})" if about else self.name


class SentStatement(Struct, kw_only=True):
    """A statement of a page."""

    sql: str
    times: Count
    """How many times more it is sent on the side that sends it more often."""
    source: str | None = None
    """The line that sends it first, such as `shop/pages.py:12 in page`."""
    plan: str | None = None


class PlanChange(Struct, kw_only=True):
    """A statement whose plan is another one, costs and times aside."""

    sql: str
    source: str | None
    before: str
    after: str


class PageChange(Struct, kw_only=True):
    """A class's page on both sides, warm, without load. Its lists are empty where nothing has changed."""

    workload: str
    user_class: str
    key: str
    """The key of the page, as text: the first one whose page takes the most more than before, of those that differ."""
    keys: Count
    """How many keys were read."""
    keys_changed: Count
    """At how many of them the counts, the statements or the pages differ."""
    before: dict[str, Count]
    """Its counts, by name: those of `PAGE_COUNTS` that are known."""
    after: dict[str, Count]
    added: list[SentStatement]
    """Statements that are sent more often after."""
    removed: list[SentStatement]
    """Statements that are sent less often after."""
    plans: list[PlanChange] = []
    page_diff: str = ""
    """The rendered pages as a unified diff; empty where they are alike."""
    other_keys: str = ""
    """How many keys the class has, before → after, where they are not the same: under load it reads other pages."""
    error_before: str = ""
    """Why the page could not be read; its counts are then empty."""
    error_after: str = ""


class Revisions(Struct, kw_only=True):
    """Both sides, and what differs between them besides times."""

    before: Side
    after: Side
    only_before: list[str]
    """User classes that are on one side only, and so are not compared."""
    only_after: list[str]
    pages: list[PageChange]
    """One a class that is on both sides."""
