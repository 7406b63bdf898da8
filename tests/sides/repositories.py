"""Git repositories of somebody's application, made for a test."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

IDENTITY = {
    **{
        f"GIT_{who}_{what}": value
        for who in ("AUTHOR", "COMMITTER")
        for what, value in (("NAME", "T"), ("EMAIL", "t@t"))
    },
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
}
"""Variables by which the configuration of whoever runs the tests has no say."""


@dataclass(frozen=True)
class Shop:
    """A repository: its branch `main`, and one commit more on the branch that is checked out, `change`."""

    root: Path

    def git(self, *arguments: str) -> str:
        """What a command of git prints."""
        command = ["git", "-C", str(self.root), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    def write(self, name: str, text: str) -> Path:
        """Write a file, and make its folders."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def commit(self, subject: str) -> str:
        """Commit all there is. The beginning of its hash."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", subject)
        return self.git("rev-parse", "--short", "HEAD")

    @property
    def worktrees(self) -> list[str]:
        """What git knows of working trees besides the user's."""
        folder = self.root / ".git" / "worktrees"
        return sorted(each.name for each in folder.iterdir()) if folder.exists() else []


def make_shop(root: Path) -> Shop:
    """A package `shop`, a folder `service` and a module in `lib`; each says of which commit it is."""
    root.mkdir(parents=True)
    shop = Shop(root)
    shop.git("init", "--quiet", "--initial-branch", "main")
    project = '[project]\nname = "shop"\nversion = "1"\n[tool.setuptools]\npackages = ["shop"]\n'
    shop.write("pyproject.toml", project)
    shop.write(".gitignore", "__pycache__/\n*.egg-info/\n.venv/\n.packages/\nbuild/\n")
    for commit in ("before", "after"):
        for name in ("shop/__init__.py", "shop/pages.py", "lib/prices.py", "service/local.py"):
            shop.write(name, f"COMMIT = {commit!r}\n")
        shop.commit(f"Pages {commit}")
        if commit == "before":
            shop.git("checkout", "--quiet", "-b", "change")
    return shop
