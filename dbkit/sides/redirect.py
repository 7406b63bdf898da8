"""In a process of a side: have its code come from that side's checkout, and find what did not.

A package that is installed as editable, or by a `.pth` file, is imported from the user's own working tree, whichever
revision is measured: both sides would run the same code. So every process of a side begins with `redirect`, as
Python's `sitecustomize`, before anything is imported. It puts the checkout in the place of the working tree, in
`sys.path`, now and later, and in the finders of setuptools, and leaves the order as it is.

What gevent would have to patch is not imported with this module.
"""

from __future__ import annotations

import importlib.util
import json
import os
import pkgutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from importlib.machinery import FileFinder, PathFinder
from types import ModuleType
from typing import Any
from urllib.parse import unquote, urlsplit

VARIABLE = "DBKIT_SIDE"
"""The environment variable in which the processes of a side find their `Route`, as JSON."""
_DBKIT = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
_INSTALLED = ("site-packages", "dist-packages")


@dataclass(frozen=True)
class Route:
    """From where a side's code must come, and from where it must not. All are absolute paths without links."""

    checkout: str
    originals: list[str]
    """Other places of the same code: the user's working tree, and the other side's checkout."""
    kept: list[str]
    """Folders in them that belong to no revision, such as a virtual environment."""
    paths: list[str]
    """Folders of the working tree that the user's interpreter imports from."""
    record: str = ""
    """The file in which the checkout's modules are noted (`dbkit.sides.files`); empty where nobody changes them."""

    @property
    def as_json(self) -> str:
        """The value of `VARIABLE`."""
        return json.dumps(asdict(self))

    def original_of(self, path: str) -> str | None:
        """In which other place of the same code a file or folder lies; None where it is right as it is."""
        path = os.path.realpath(path)
        if is_within(path, self.checkout) or any(is_within(path, each) for each in (*self.kept, _DBKIT)):
            return None
        found = max((each for each in self.originals if is_within(path, each)), key=len, default=None)
        return None if found is None or set(_INSTALLED) & set(path[len(found) :].split(os.sep)) else found

    def led(self, path: str) -> str:
        """The same place in the checkout."""
        if (original := self.original_of(path)) is None:
            return path
        return os.path.normpath(os.path.join(self.checkout, os.path.relpath(os.path.realpath(path), original)))


def is_within(path: str, folder: str) -> bool:
    """Whether `path` is `folder` or lies in it."""
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def present_route() -> Route | None:
    """The route of this process; None where it belongs to no side."""
    text = os.environ.get(VARIABLE)
    return Route(**json.loads(text)) if text else None


def redirect(hook: str) -> None:
    """Lead all imports of this process to its checkout. `hook` is the file that calls this, as `sitecustomize`."""
    route = present_route()
    if route is not None:
        sys.path[:] = [route.led(each) if os.path.isabs(each) else each for each in sys.path]
        sys.path += [each for each in map(route.led, route.paths) if each not in sys.path]
        # Locust adds the working directory when it imports a locustfile, which may add other folders
        sys.path_hooks.insert(0, partial(_find_in_checkout, route))
        for finder in editable_finders():
            _lead_finder(finder, route)
    _run_next_hook(os.path.dirname(os.path.abspath(hook)))


def editable_finders() -> list[ModuleType]:
    """The modules by which setuptools has editable packages found, where no folder in `sys.path` can do it."""
    named = {getattr(each, "__module__", "") for each in sys.meta_path}
    return [sys.modules[each] for each in sorted(named) if each.startswith("__editable__") and each in sys.modules]


def _find_in_checkout(route: Route, path: str) -> Any:
    """What finds modules in a folder of the path, if it is to be another one: see `sys.path_hooks`."""
    if (led := route.led(path)) == path:
        raise ImportError  # the next hook is asked
    return pkgutil.get_importer(led) if os.path.isdir(led) else FileFinder(led)


def _lead_finder(finder: ModuleType, route: Route) -> None:
    mapping: dict[str, str] = getattr(finder, "MAPPING", {})
    namespaces: dict[str, list[str]] = getattr(finder, "NAMESPACES", {})
    mapping.update({name: route.led(path) for name, path in mapping.items()})
    namespaces.update({name: [route.led(each) for each in paths] for name, paths in namespaces.items()})


def _run_next_hook(folder: str) -> None:
    """Run the `sitecustomize` that would have been imported, had this one not come first."""
    spec = PathFinder.find_spec("sitecustomize", [each for each in sys.path if os.path.abspath(each) != folder])
    if spec is not None and spec.loader is not None:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


def foreign_modules(modules: Mapping[str, ModuleType]) -> list[str]:
    """Modules that were not imported from this side's checkout, though they are in it: each with its file.

    To be asked with `sys.modules`, when the locustfile has been imported. Empty in a process that belongs to no side.
    Of a package and its modules only the package is named.
    """
    route = present_route()
    if route is None:
        return []
    copies = dict(_copies(route))
    found: dict[str, str] = {}
    for name, module in sorted(modules.items()):
        top = name.partition(".")[0]
        for place in places_of(module):
            if top in found:
                break
            if route.original_of(place) is not None:
                found[top] = f"{name} from {place}"
            elif top in copies and set(_INSTALLED) & set(place.split(os.sep)):
                source = copies[top]
                found[top] = f"{name} from {place}, a copy of {source} (pip install --editable {source} makes none)"
    return list(found.values())


def places_of(module: Any) -> Iterator[str]:
    """The file of a module, and the folders of a package that has none."""
    file = getattr(module, "__file__", None)
    paths: Iterable[Any] = [file] if file else getattr(module, "__path__", None) or ()
    for each in paths:
        if isinstance(each, str) and os.path.isabs(each):
            yield each


def _copies(route: Route) -> Iterator[tuple[str, str]]:
    """Packages that were installed as a copy of the measured code, each with the folder it was copied from."""
    from importlib.metadata import distributions  # here: it imports what gevent patches

    for distribution in distributions():
        origin = json.loads(distribution.read_text("direct_url.json") or "{}")
        url = urlsplit(origin.get("url", ""))
        source = unquote(url.path)
        if url.scheme != "file" or origin.get("dir_info", {}).get("editable"):
            continue
        if is_within(os.path.realpath(source), route.checkout) or route.original_of(source) is not None:
            for file in distribution.files or ():
                if file.suffix == ".py" and file.parts[0] not in ("..", "dbkit"):
                    yield file.parts[0].removesuffix(".py"), source
