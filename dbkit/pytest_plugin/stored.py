"""The costs that `costs()` compares with: a file beside the tests, by test and page.

Nobody ever reads half a file, and processes that write at the same time, as pytest-xdist's do, lose nothing of one
another's.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec

from dbkit.errors import DbkitError

FILE_NAME = "dbkit_costs.json"

Counts = dict[str, int]


class StoredCosts:
    """The stored costs of one test. With `update` they are put, else found."""

    def __init__(self, test_file: Path, node_id: str, *, update: bool) -> None:
        self.path = test_file.with_name(FILE_NAME)
        self.update = update
        self.node_id = node_id
        self._test = f"{test_file.name}::{node_id.partition('::')[2]}"
        self._put: dict[str, Counts] = {}
        self._asked: list[str] = []

    def name_of(self, page: str) -> str:
        """What a page is stored as: by its name, with a number where the test has measured one of this name before."""
        self._asked.append(page)
        times = self._asked.count(page)
        return page if times == 1 else f"{page} #{times}"

    def find(self, name: str) -> Counts | None:
        """The costs of a page; None where none are stored. Raises DbkitError where the file is not to be read."""
        return self._read().get(self._test, {}).get(name)

    def put(self, name: str, counts: Mapping[str, int]) -> None:
        """Keep costs, to be saved."""
        self._put[name] = dict(counts)

    def save(self) -> None:
        """Write what was put in the place of all that the file has of the test. Raises DbkitError.

        Of a page that the file has, those counts are written that it has of it.
        """
        if not self._put:
            return
        beside = self.path.with_name(f".{FILE_NAME}.{os.getpid()}")
        try:
            with _alone_in(self.path.parent):
                stored = self._read()
                before = stored.get(self._test, {})
                stored[self._test] = {name: _like(before.get(name), counts) for name, counts in self._put.items()}
                text = msgspec.json.format(msgspec.json.encode(dict(sorted(stored.items()))), indent=2)
                try:
                    beside.write_bytes(text + b"\n")
                    beside.replace(self.path)
                finally:
                    beside.unlink(missing_ok=True)
        except OSError as error:
            raise DbkitError(f"cannot write {self.path}: {error.strerror}") from None

    def _read(self) -> dict[str, dict[str, Counts]]:
        try:
            return msgspec.json.decode(self.path.read_bytes(), type=dict[str, dict[str, Counts]])
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise DbkitError(f"cannot read {self.path}: {error.strerror}") from None
        except (msgspec.DecodeError, UnicodeError) as error:
            raise DbkitError(
                f"{self.path} does not hold costs of pages: {error}; put it right, or delete it and run pytest"
                " --dbkit-update"
            ) from None


def _like(before: Counts | None, counts: Counts) -> Counts:
    return {name: count for name, count in counts.items() if name in (before or ())} or counts


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """No other process of dbkit's writes to the folder meanwhile. The lock leaves no file behind."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
