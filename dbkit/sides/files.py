"""Whether the code of a side stays as it is for as long as it is measured: each process of a side imports it again.

Only modules are watched, and only where somebody may change them: a commit has a checkout of its own.
`dbkit.sides.redirect` decides from where a process imports.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

from dbkit.errors import DbkitError, printable
from dbkit.sides.redirect import Route, is_within, places_of


def note_imports(route: Route | None, modules: Mapping[str, ModuleType]) -> None:
    """Keep in the route's record what files of its checkout look like which this process has imported.

    To be called with `sys.modules`. A file that was noted before is left as it was then.
    """
    if route is None or not route.record:
        return
    files = {os.path.realpath(place) for module in list(modules.values()) for place in places_of(module)}
    measured = [each for each in files if is_within(each, route.checkout) and os.path.isfile(each)]
    measured = [each for each in measured if not any(is_within(each, kept) for kept in route.kept)]
    noted = {os.path.relpath(each, route.checkout): _digest(each) for each in sorted(measured)}
    Path(route.record).write_text(json.dumps(noted | _read(route)), encoding="utf-8")


def changed_file(route: Route | None) -> str:
    """A file that is no longer as it was noted, by its path in the checkout; empty where there is none."""
    if route is None or not route.record:
        return ""
    for path, digest in _read(route).items():
        if _digest(os.path.join(route.checkout, path)) != digest:
            return printable(path)
    return ""


def error_of_change(path: str) -> DbkitError:
    """The error that ends a run where a file has changed."""
    return DbkitError(
        f"{path} has changed since the run began, so the run ends here: to edit files during a run, compare two"
        " commits, such as main..HEAD"
    )


def _read(route: Route) -> dict[str, str]:
    record = Path(route.record)
    return dict(json.loads(record.read_bytes())) if record.exists() else {}


def _digest(path: str) -> str:
    """The same for the same content; empty where there is none to be read."""
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError:
        return ""
