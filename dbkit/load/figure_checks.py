"""The checks on figures that a test has: from its options, from pyproject.toml and from its user classes.

All of them apply together. What a check is, is in `dbkit.analysis.checks`; whether options go together, in
`dbkit.load.checks`.
"""

from __future__ import annotations

import argparse
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from locust import User

from dbkit.analysis.checks import BASELINE, BEFORE, OF_REVISIONS, Check, read_checks
from dbkit.analysis.limits import FIGURES
from dbkit.analysis.revisions import PAGE_COUNTS
from dbkit.errors import DbkitError
from dbkit.load.page_class import is_page_class, workload_of
from dbkit.workload import shown

PYPROJECT = Path("pyproject.toml")
"""In the working directory, as Locust reads it."""


def figure_checks(
    options: argparse.Namespace,
    chosen: Mapping[str, type[User]],
    available: Mapping[str, Any] | None = None,
    *,
    without_load: bool = False,
) -> list[Check]:
    """The checks on a test of the `chosen` classes; `available` are all of the locustfile, where Locust knows them.

    A share can be of a class, of the side before and of a baseline, where the test has them; `without_load` is a before
    and after of counts alone. What pyproject.toml and the classes ask for beyond this test is left out, as it is for
    all tests of a project, and `--check` is for this one. Raises DbkitError for a check that is none, or that names
    what is not there.
    """
    references = [*([BEFORE] if options.sides or without_load else []), *([BASELINE] if options.baseline else [])]
    figures = PAGE_COUNTS if without_load else (*FIGURES, *(OF_REVISIONS if options.sides else ()))
    classes = {name: each for name, each in chosen.items() if is_page_class(each)}
    checks = read_checks(options.check)
    for check in checks:
        _check_names(check, classes, references, "--check")
        if check.limit.figure not in figures:
            reason = "takes load, and there is none with --counts-only" if without_load else "is for `dbkit diff` alone"
            raise DbkitError(f"--check: {str(check)!r} {reason}")
    everywhere = classes | {name: each for name, each in (available or {}).items() if is_page_class(each)}
    for origin, check in [*_of_pyproject(), *_of_classes(classes)]:
        _check_names(check, everywhere, [BEFORE, BASELINE], origin)
        names = {check.user_class, check.limit.reference}
        if names <= {"", *references, *classes} and check.limit.figure in figures:
            checks.append(check)
    return list(dict.fromkeys(checks))


def _of_pyproject() -> Iterator[tuple[str, Check]]:
    """Those of `check` in `[tool.dbkit]`, each with where it stands."""
    origin = "pyproject.toml, [tool.dbkit] check"
    try:
        content = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DbkitError(f"pyproject.toml cannot be read: {error}") from None
    tool = content.get("tool", {})
    own = tool.get("dbkit", {}) if isinstance(tool, dict) else None
    given = own.get("check", []) if isinstance(own, dict) else None
    yield from ((origin, check) for text in _texts(given, origin) for check in _read(text, origin))


def _of_classes(classes: Mapping[str, Any]) -> Iterator[tuple[str, Check]]:
    """Those of the attribute `checks` of each class, each of that class alone."""
    for name, user_class in sorted(classes.items()):
        origin = f"{name}.checks"
        for text in _texts(user_class.checks, origin):
            for check in _read(text, origin):
                if check.user_class:
                    raise DbkitError(f"{origin}: {text!r} names a class: leave it out, the check is of {name}")
                yield origin, check.of(name)


def _texts(given: Any, origin: str) -> list[str]:
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
        raise DbkitError(f'{origin} is {shown(given)}; expected checks, such as ["statements <= 2"]')
    return [*texts]


def _read(text: str, origin: str) -> list[Check]:
    try:
        return read_checks(text)
    except DbkitError as mistake:
        raise DbkitError(f"{origin}: {mistake}") from None


def _check_names(check: Check, classes: Mapping[str, Any], references: Iterable[str], origin: str) -> None:
    """Raise DbkitError where a check names a class or a reference that is not there."""
    names = ", ".join(sorted(classes))
    if check.user_class and check.user_class not in classes:
        raise DbkitError(f"{origin}: {str(check)!r} is of {check.user_class}, which is not among the classes: {names}")
    reference = check.limit.reference
    if not reference or reference in references:
        return
    if reference in (BEFORE, BASELINE):
        advice = "`dbkit diff` measures it" if reference == BEFORE else "give its file with --baseline"
        raise DbkitError(f"{origin}: {str(check)!r}: there is no {reference} in this run; {advice}")
    if reference not in classes:
        others = "".join(f"{each}, " for each in references)
        known = f"{others}or one of the classes" if others else "one of the classes"
        raise DbkitError(f"{origin}: {str(check)!r}: a share can be of {known}: {names}")
    if check.user_class and workload_of(classes[check.user_class]) is not workload_of(classes[reference]):
        raise DbkitError(f"{origin}: {str(check)!r}: the two classes read different workloads")
