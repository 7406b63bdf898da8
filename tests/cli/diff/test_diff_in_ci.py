"""`dbkit diff` in CI: checks against the side before, and where people look at what came of it."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from dbkit.output.json_file import read_comparison
from tests.cli.diff.runs import diff
from tests.repositories import LAZY, make_shop


def test_what_came_of_a_change_is_shown_where_people_look(
    shop_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = make_shop(tmp_path / "a shop", "backend")
    (shop.folder / "pyproject.toml").write_text(
        '[tool.dbkit]\ncheck = ["rows <= before", "rows <= baseline", "p95_ms < 1"]\n'
    )
    shop.commit("Checks of the project")
    shop.branch("lazy", *LAZY)
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_WORKSPACE", str(shop.root))
    results = tmp_path / "results"
    files = ("--junit", str(results / "ci.xml"), "--summary", str(results / "ci.md"), "--csv", str(results / "ci"))
    check = "PsycopgShelves: statements <= before; PsycopgTitles: bytes_from_server <= before"
    done = diff(shop, shop_url, "main..lazy", "--counts-only", "--check", check, *files, "--", "shop_load.py")
    assert done.returncode == 3, done.stderr
    lines = done.stdout.splitlines()
    found = [re.sub(r"\d+ \(before \d+\) <=", "… <=", line) for line in lines if line.startswith(("✓", "✗", "?"))]
    assert found == [
        "✗ PsycopgShelves: statements 11 (before 2), not <= before",
        "✓ PsycopgTitles: bytes_from_server … <= before",
        "✓ PsycopgShelves: rows … <= before",
        "✓ PsycopgTitles: rows … <= before",
    ]
    annotations = [line for line in lines if line.startswith("::")]
    assert annotations[0].startswith(
        "::error file=backend/shop/pages.py,line=26,title=PsycopgShelves%3A 2 → 11 statements::"
    )
    [suite] = ElementTree.parse(results / "ci.xml").getroot()
    assert {
        case.get("name"): [kind.tag for kind in case] for case in suite if "Shelves" in str(case.get("classname"))
    } == {"no regression": ["failure"], "statements <= before": ["failure"], "rows <= before": []}
    summary = (results / "ci.md").read_text()
    assert "| PsycopgShelves | ✗ | 2 → **11** ✗ |" in summary and "| PsycopgTitles | ✓ | 1 |" in summary
    assert "Look at shop/pages.py:26 in shelves" in summary
    assert [each.state for each in read_comparison(str(results / "ci_comparison.json")).checks] == [
        *("fail", "pass", "pass", "pass")
    ]
    timed = diff(shop, shop_url, "main..lazy", "--counts-only", "--check", "p95_ms < 5", "--", "shop_load.py")
    assert timed.returncode == 2
    assert timed.stderr.splitlines()[-1].endswith(
        "--check: 'p95_ms < 5' takes load, and there is none with --counts-only"
    )
