"""The todo list as a workload: its keys are `(page, page_size)`, and every page is known in advance.

For what is in the tables see `dbkit.todo.dataset`.
"""

from __future__ import annotations

from dbkit.database.url import DatabaseUrl
from dbkit.todo.dataset import Shape, read_shape
from dbkit.todo.strategies import RenderedPage
from dbkit.workload import Key, Workload, WrongPage


class TodoPages(Workload):
    """The pages of the dataset that is in the database."""

    def __init__(self) -> None:
        super().__init__("todo list", (), check=self.check_page)
        self._shape: Shape | None = None

    def find_keys(self, database: DatabaseUrl, page_size: int) -> list[Key]:
        """See `Workload.find_keys`. Raises DbkitError where the database does not hold the dataset."""
        self._shape = read_shape(database)
        return [(page, page_size) for page in range(self._shape.pages(page_size))]

    def describe(self, keys: int, page_size: int) -> str:
        """See `Workload.describe`."""
        return f"{page_size} {'todo' if page_size == 1 else 'todos'}"

    def check_page(self, rendered: RenderedPage, page: int, page_size: int) -> None:
        """Raise WrongPage where a page is not what follows from the shape."""
        assert self._shape is not None, "keys are found before pages are read"
        if rendered != self._shape.expected_page(page, page_size):
            raise WrongPage("wrong page: not what the dataset holds; see seed.py --check")


TODO_LIST = TodoPages()
"""The workload of classes that name none."""
