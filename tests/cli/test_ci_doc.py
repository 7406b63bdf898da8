"""The workflows of docs/ci.md: valid for who reads them, and their commands run as they stand, in a clone of a shop."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from markdown_it import MarkdownIt
from ruamel.yaml import YAML

from tests.locust_runs import DEADLINE_S, REPOSITORY
from tests.repositories import ALONE, LAZY, Shop, make_shop

SCHEMAS = {"GitHub": "vendor.github-workflows", "GitLab": "vendor.gitlab-ci"}
SEED = """
import os
import psycopg
from tests.repositories import make_tables

with psycopg.connect(os.environ["DBKIT_DATABASE_URL"]) as connection:  # as each job has a server of its own
    connection.execute("DROP TABLE IF EXISTS book, shelf")
make_tables(os.environ["DBKIT_DATABASE_URL"])
"""
SHORTER = {
    "-t 20s": "-t 1s",
    "--rounds auto --budget 5m": "--rounds 3 --slot-time 0.2 --warm-up 0.1 -u 2",
}
"""What the test does in less time."""


def workflows() -> dict[str, str]:
    """The YAML below each heading of the page, by the service that reads it."""
    tokens = MarkdownIt("commonmark").parse((REPOSITORY / "docs/ci.md").read_text())
    blocks = [token.content for token in tokens if token.type == "fence" and token.info == "yaml"]
    return dict(zip(SCHEMAS, blocks, strict=True))


def commands(workflow: Any) -> list[str]:
    """What its jobs type, in order; installing is left out, as it is done."""
    typed: list[str] = []
    for job in workflow.get("jobs", workflow).values():
        typed += job["script"] if "script" in job else [step["run"] for step in job["steps"] if "run" in step]
    return [command for command in typed if not command.startswith("pip ")]


@pytest.mark.parametrize("service", SCHEMAS)
def test_a_workflow_is_valid_for_the_service_that_reads_it(service: str, tmp_path: Path) -> None:
    file = tmp_path / "workflow.yml"
    file.write_text(workflows()[service])
    check = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", SCHEMAS[service], str(file)]
    done = subprocess.run(check, capture_output=True, text=True, timeout=DEADLINE_S)
    assert done.returncode == 0, done.stdout
    assert "fetch-depth: 0" in workflows()[service] or "GIT_DEPTH: 0" in workflows()[service]


@pytest.fixture
def checkout(tmp_path: Path) -> Shop:
    """A clone in which a change that loads lazily is checked out, as a service has it."""
    origin = make_shop(tmp_path / "origin")
    (origin.folder / "shop" / "seed.py").write_text(SEED)
    origin.commit("Tables and rows")
    origin.branch("lazy", *LAZY)
    subprocess.run(["git", "clone", "--quiet", "--branch", "lazy", origin.root, tmp_path / "clone"], check=True)
    return Shop(tmp_path / "clone", tmp_path / "clone")


@pytest.mark.parametrize(
    ("service", "codes"), [("GitHub", [0, 3, 0, 3]), ("GitLab", [0, 3])], ids=["on GitHub", "on GitLab"]
)
def test_its_commands_find_what_the_change_does(
    service: str, codes: list[int], checkout: Shop, database_url: str, tmp_path: Path
) -> None:
    kept = {name: value for name, value in os.environ.items() if not re.match("DBKIT_|LOCUST_|PG|GIT_", name)}
    of_service = {
        "GITHUB_ACTIONS": "true",
        "GITHUB_WORKSPACE": str(checkout.root),
        "GITHUB_BASE_REF": "main",
        "GITHUB_STEP_SUMMARY": str(tmp_path / "step_summary"),
        "CI_MERGE_REQUEST_DIFF_BASE_SHA": checkout.git("merge-base", "origin/main", "HEAD").strip(),
    }
    own = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(REPOSITORY),
        "DBKIT_DATABASE_URL": database_url,
    }
    outputs = []
    for command, code in zip(commands(YAML(typ="safe").load(workflows()[service])), codes, strict=True):
        for longer, shorter in SHORTER.items():
            command = command.replace(longer, shorter)
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command],
            cwd=checkout.folder,
            env=kept | ALONE | of_service | own,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
        )
        assert done.returncode == code, done.stdout + done.stderr
        outputs.append(done.stdout)
    assert "✗ PsycopgShelves: statements 11 (before 2), not <= before" in outputs[-1]
    assert "::error file=shop/pages.py,line=26,title=PsycopgShelves%3A 2 → 11 statements::" in outputs[-1]
    results = checkout.folder / "results"
    for file in results.glob("*.xml"):
        assert ElementTree.parse(file).getroot()[0].get("failures") != "0"
    summary = tmp_path / "step_summary" if service == "GitHub" else results / "diff.md"
    assert "| PsycopgShelves | ✗ | 2 → **11** ✗ |" in summary.read_text()
    assert {each.name for each in results.iterdir()} >= {"diff.html", "diff.xml", "diff_comparison.json"}
