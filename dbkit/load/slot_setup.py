"""What a slot's users read with: the options of the test, with what the slot's condition varies, and the classes.

Every process makes it for itself, as the conductor names the condition alone: see `dbkit.load.messages`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dbkit.analysis.condition import Variant
from dbkit.database.url import DatabaseUrl
from dbkit.load.options import TestOptions
from dbkit.load.page_class import PageClass


@dataclass(frozen=True)
class SlotSetup:
    """What the users of the present slot read with; without a schedule, those of the test."""

    condition: str | None
    """The key of the condition that is run; None without a schedule."""
    variant: Variant
    options: TestOptions
    page_classes: Mapping[str, PageClass]
    """The chosen user classes that read pages, by name."""
    database: DatabaseUrl | None
    """None in a process that reads no pages, and may know of no database."""

    @property
    def words(self) -> str:
        """What varies, for messages: `pool-size=5, end=commit`; empty where nothing does."""
        return ", ".join(f"{name}={value}" for name, value in self.variant)
