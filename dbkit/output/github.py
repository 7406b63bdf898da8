"""Annotations as GitHub Actions reads them from what a job prints: `::error file=shop/pages.py,line=12::…`.

Which there are is in `dbkit.analysis.annotations`. The format is that of the "workflow commands" in GitHub's own pages.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from dbkit.analysis.annotations import Annotation, annotations_of
from dbkit.analysis.exit_codes import Undecided
from dbkit.analysis.result import Result


def print_annotations(result: Result, undecided: Undecided, environment: Mapping[str, str] = os.environ) -> None:
    """Print them on standard output, where a job of GitHub Actions runs; else nothing."""
    if environment.get("GITHUB_ACTIONS") == "true":
        for each in annotations_of(result, undecided):
            print(command(each, environment.get("GITHUB_WORKSPACE", "")))


def command(annotation: Annotation, workspace: str = "") -> str:
    """One annotation. `workspace` is the checkout, from which GitHub names files; without it, it is this folder."""
    about = {"title": annotation.title}
    if annotation.file:
        about = {"file": _from_workspace(annotation.file, workspace), "line": str(annotation.line)} | about
    properties = ",".join(f"{name}={_property(value)}" for name, value in about.items())
    return f"::{annotation.level} {properties}::{_data(annotation.message)}"


def _from_workspace(file: str, workspace: str) -> str:
    path = Path.cwd() / file
    if workspace and path.is_relative_to(root := Path(workspace).resolve()):
        return path.relative_to(root).as_posix()
    return file


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
