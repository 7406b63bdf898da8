"""A before and after where a change is discussed: the summary, JUnit XML, and annotations at lines of the code."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from rich.console import Console

from dbkit.analysis.annotations import Annotation, annotations_of
from dbkit.analysis.change_words import headline_of_revisions
from dbkit.analysis.checks import CheckOutcome, State, read_checks
from dbkit.analysis.exit_codes import Undecided
from dbkit.analysis.judging import judge
from dbkit.analysis.regressions import advice, changes
from dbkit.analysis.result import FailureRow, Plan, Result, Statement
from dbkit.analysis.revisions import REVISION, PageChange, PlanChange, Revisions, SentStatement, Side
from dbkit.output.console import PIPED_WIDTH, print_result
from dbkit.output.github import command, print_annotations
from dbkit.output.junit import PAGES, junit
from dbkit.output.markdown import MOST_LINES, summary
from tests.slots import WORKLOAD, class_row, plain_result, verdict_row

COUNTS = {"statements": 2, "round_trips": 4, "rows": 40, "connections": 0}
LAZY = {"statements": 22, "round_trips": 24, "rows": 40, "connections": 0}
LOAD = SentStatement(sql="SELECT track.id\nFROM track", times=20, source="shop/pages.py:12 in page")


def change(user_class: str, after: dict[str, int] = COUNTS, **more: Any) -> PageChange:
    about: dict[str, Any] = {"key": "3", "keys": 20, "keys_changed": 0, "added": [], "removed": []}
    return PageChange(workload=WORKLOAD, user_class=user_class, before=COUNTS, after=after, **about | more)


def before_and_after(*pages: PageChange, **ratios: tuple[float, float]) -> Result:
    """Both sides of a run; `ratios` are intervals of after to before in pages a second, by class."""
    verdicts = [
        verdict_row(
            f"{name}, revision=HEAD", f"{name}, revision=main", low, high, differs_in=REVISION, rounds_needed=40
        )
        for name, (low, high) in ratios.items()
    ]
    rows = [
        class_row(
            name,
            condition=f"{name}, revision={side}",
            label=f"{name}, revision={side}",
            settings={REVISION: side},
            pages=9,
            p95_ms=3.0,
        )
        for name in ratios
        for side in ("main", "HEAD")
    ]
    sides = Side(name="main", commit="1a2b3c4", subject="Sort albums"), Side(name="HEAD")
    revisions = Revisions(before=sides[0], after=sides[1], only_before=["Gone"], only_after=[], pages=[*pages])
    return plain_result(strategies=rows, verdicts=verdicts, revisions=revisions)


LAZIER = before_and_after(change("Lazy", LAZY, added=[LOAD]), change("Eager"), Lazy=(0.4, 0.5), Eager=(0.99, 1.01))


def cells(text: str) -> dict[str, list[str]]:
    """The first table of a summary: the cells of each row, by what stands first in it."""
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    rows: list[list[str]] = []
    for token in tokens:
        if token.type == "tr_open":
            rows.append([])
        elif token.type == "inline" and token.level == 4 and rows:
            rows[-1].append("".join(child.content for child in token.children or []))
    return {row[0]: row[1:] for row in rows}


# The summary


def test_the_summary_has_before_and_after_of_each_class_with_marks() -> None:
    assert cells(summary(LAZIER)) == {
        "user class": ["", "statements", "round trips", "rows", "× pages/s"],
        "Lazy": ["✗", "2 → 22 ✗", "4 → 24 ✗", "40", "0.45 [0.40, 0.50] ✗"],
        "Eager": ["✓", "2", "4", "40", "not shown [0.99, 1.01]"],
    }


def test_the_summary_says_what_to_do_and_where_new_statements_are_sent() -> None:
    text = summary(LAZIER)
    assert "**main (1a2b3c4, Sort albums) → HEAD**" in text
    assert "Look at shop/pages.py:12 in page, from where more statements are sent." in text
    assert (
        "- 20 more a page, from shop/pages.py:12 in page:\n\n  ```sql\n  SELECT track.id\n  FROM track\n  ```" in text
    )
    assert "Not compared, as only before has it: Gone." in text


def test_a_changed_page_is_shown_by_its_diff_as_it_stands_and_no_longer_than_that() -> None:
    diff = "".join(f"+``` <b>{number}</b>\n" for number in range(MOST_LINES + 5))
    text = summary(before_and_after(change("Lazy", page_diff=diff, keys_changed=7), Lazy=(0.99, 1.01)))
    [block] = [token for token in MarkdownIt("commonmark").parse(text) if token.type == "fence"]
    assert block.info == "diff"
    assert block.content.splitlines() == [*diff.splitlines()[:MOST_LINES], "… 5 more lines"]
    assert "The page of key 3 has changed, as 7 of 20 have that were read:" in text
    assert "See whether the page of Lazy was meant to change." in text


def test_a_summary_of_many_classes_stays_short() -> None:
    pages = [change(f"Class{number}", LAZY, added=[LOAD] * 9) for number in range(20)]
    text = summary(before_and_after(*pages))
    assert text.count("#### Class") == 5 and "What 15 more classes changed is in the report." in text
    assert text.count("SELECT track.id") == 25 and text.count("… 4 more statements") == 5
    assert len(cells(text)) == 21


@pytest.mark.parametrize(
    ("result", "said"),
    [
        (before_and_after(change("Eager"), Eager=(0.99, 1.01)), "Nothing to do."),
        (before_and_after(change("Eager"), Eager=(0.8, 1.3)), "Run it again with --rounds 40 to decide on Eager"),
        (before_and_after(change("Eager", LAZY)), "Look at what Eager does: it sends more."),
        (before_and_after(change("Eager"), Eager=(0.8, 0.9)), "it is slower and sends the same statements."),
        (before_and_after(change("Eager", {}, error_after="ValueError: x")), "Run `dbkit try` on Eager"),
        (before_and_after(), "No class is on both sides"),
        (
            before_and_after(
                change("Eager", plans=[PlanChange(sql="SELECT", source="shop/db.py:3", before="a", after="b")]),
                Eager=(0.8, 0.9),
            ),
            "Look at shop/db.py:3: the server runs its statement by another plan.",
        ),
    ],
)
def test_one_line_says_what_to_do(result: Result, said: str) -> None:
    assert said in advice(result)


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ("fail", "Look at the checks that fail."),
        ("undecided", "Run it again with more rounds to decide on the checks that are undecided."),
        ("pass", "Nothing to do."),
    ],
)
def test_checks_that_are_not_kept_are_something_to_do(state: State, said: str) -> None:
    result = before_and_after(change("Eager"), Eager=(0.99, 1.01))
    about = {"check": "rows <= before", "workload": WORKLOAD, "user_class": "Eager", "label": "Eager"}
    result.checks = [CheckOutcome(**about, state=state, sentence="Eager: rows")]
    assert advice(result) == said


def on_a_terminal(result: Result) -> list[str]:
    file = io.StringIO()
    print_result(result, Console(file=file, width=PIPED_WIDTH))
    return [line for line in file.getvalue().splitlines() if line.strip()]


def test_a_terminal_says_of_counts_alone_each_thing_once_and_ends_with_what_to_do() -> None:
    result = before_and_after(change("Lazy", LAZY, added=[LOAD], keys_changed=20), change("Eager"))
    result.headline = headline_of_revisions(result)
    assert on_a_terminal(result) == [
        "before: main (1a2b3c4, Sort albums)",
        "after:  HEAD",
        "Lazy: statements 2 → 22, round trips 4 → 24, at 20 of 20 keys, such as 3",
        "    + 20 × shop/pages.py:12 in page: SELECT track.id FROM track",
        "Eager: the same statements, counts and pages, at 20 keys",
        "on main alone, and so not compared with HEAD: Gone",
        "Look at shop/pages.py:12 in page, from where more statements are sent.",
    ]


def test_a_terminal_says_what_to_do_after_the_headline() -> None:
    LAZIER.headline = headline_of_revisions(LAZIER)
    assert on_a_terminal(LAZIER)[-len(LAZIER.headline) - 1 :] == [*LAZIER.headline, advice(LAZIER)]


def test_a_page_that_fails_on_both_sides_has_its_reason_once() -> None:
    broken = change("Eager", {}, error_before="ValueError: x", error_after="ValueError: x")
    assert [each.words for each in changes(before_and_after(broken))] == [
        "its page can be read on neither side: ValueError: x"
    ]


def test_a_line_on_each_class_has_counts_first() -> None:
    assert [each.words for each in changes(LAZIER)] == [
        "statements 2 → 22; round trips 4 → 24; pages/s 0.45 [0.40, 0.50], slower",
        "pages/s 1.00 [0.99, 1.01], no difference larger than 3 %",
    ]
    assert [each.words for each in changes(before_and_after(change("Eager", page_diff="+a")))] == [
        "the page itself has changed"
    ]
    assert [each.words for each in changes(before_and_after(change("Eager")))] == ["counts are the same"]
    [undecided] = changes(before_and_after(change("Eager"), Eager=(0.8, 1.3)))
    assert undecided.words == "pages/s 1.02 [0.80, 1.30], undecided: about 40 rounds would tell"


# JUnit


def suite(text: str) -> ElementTree.Element:
    [found] = ElementTree.fromstring(text.encode())
    return found


def test_a_case_is_a_check_of_a_class_and_a_regression_is_one() -> None:
    result = before_and_after(change("Lazy", LAZY), Lazy=(0.99, 1.01))
    result.strategies[1].failures = 3
    result.failures = [
        FailureRow(
            workload=WORKLOAD,
            condition="Lazy, revision=HEAD",
            label="",
            user_class="Lazy",
            message="no page today",
            count=3,
            traceback=None,
        )
    ]
    result.checks = judge(result, read_checks("statements <= before; rows < 50; Lazy: p95_ms < 3"))
    found = suite(junit(result))
    cases = [(case.get("classname"), case.get("name"), [kind.tag for kind in case]) for case in found]
    assert cases == [
        ("albums.Lazy, revision=main", PAGES, []),
        ("albums.Lazy, revision=HEAD", PAGES, ["failure"]),
        ("albums.Lazy", "no regression", ["failure"]),
        ("albums.Lazy", "statements <= before", ["failure"]),
        ("albums.Lazy", "rows < 50", []),
        ("albums.Lazy", "p95_ms < 3", ["error"]),
    ]
    assert [found.get(name) for name in ("tests", "failures", "errors", "skipped")] == ["6", "3", "1", "0"]
    assert "3 of 9 pages failed: no page today" in str(found[1][0].get("message"))
    assert found[3][0].text == "Lazy: statements 22 (before 2), not <= before"


@pytest.mark.parametrize(("undecided", "kind"), [(None, "error"), ("pass", "skipped"), ("fail", "failure")])
def test_what_is_undecided_is_what_the_exit_code_makes_of_it(undecided: Undecided, kind: str) -> None:
    result = plain_result(checks=[outcome("undecided", "A: …")])
    assert [each.tag for each in suite(junit(result, undecided))[0]] == [kind]


def outcome(state: State, sentence: str, check: str = "A: rows < 5") -> CheckOutcome:
    return CheckOutcome(check=check, workload=WORKLOAD, user_class="A", label="A", state=state, sentence=sentence)


@given(st.text())
def test_any_text_is_valid_xml(text: str) -> None:
    result = plain_result(checks=[outcome("fail", text)])
    message = suite(junit(result))[0][0].get("message")
    assert message is not None and len(message) == len(text)


# GitHub


def test_errors_stand_at_the_lines_that_send_more_and_the_others_beside_no_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    result = before_and_after(change("Lazy", LAZY, added=[LOAD]), change("Eager"), Lazy=(0.4, 0.5), Eager=(0.8, 1.3))
    result.checks = judge(result, read_checks("Lazy: statements <= before"))
    print_annotations(result, None, {"GITHUB_ACTIONS": "true"})
    assert capsys.readouterr().out.splitlines() == [
        "::error file=shop/pages.py,line=12,title=Lazy%3A 2 → 22 statements::"
        "sent from here, 20 more a page: SELECT track.id FROM track",
        "::error title=dbkit%3A Lazy%3A statements <= before::Lazy: statements 22 (before 2), not <= before",
        "::warning title=dbkit%3A no regression::"
        "Eager: pages/s 1.02 [0.80, 1.30], undecided: about 40 rounds would tell",
    ]
    print_annotations(result, "pass", {"GITHUB_ACTIONS": "true"})
    assert "::warning" not in capsys.readouterr().out
    print_annotations(result, None, {})
    assert capsys.readouterr().out == ""


def test_a_failed_count_stands_at_the_line_that_sends_the_most() -> None:
    def sent(source: str | None, times: int) -> Statement:
        about: dict[str, Any] = dict.fromkeys(("execution_ms", "parameters", "plan", "note"))
        return Statement(sql="SELECT", source=source, times=times, **about)

    statements = [sent("shop/pages.py:9 in page", 1), sent("C:/shop/pages.py:12 in <listcomp>", 20)]
    plan = Plan(workload=WORKLOAD, strategy="lazy", which="typical", key="3", note=None, statements=statements)
    row = class_row("A", strategy="lazy", pages=9, statements=21.0, p95_ms=9.0)
    result = plain_result(strategies=[row], plans=[plan])
    result.checks = judge(result, read_checks("A: statements <= 2; p95_ms < 5"))
    error, warning = annotations_of(result)
    assert (error.level, error.file, error.line) == ("error", "C:/shop/pages.py", 12)
    assert (warning.level, warning.file) == ("warning", "")


def test_a_statement_in_the_place_of_another_one_is_no_warning() -> None:
    assert annotations_of(before_and_after(change("Eager", added=[LOAD], removed=[LOAD]), Eager=(0.99, 1.01))) == []


def test_what_ends_a_command_or_a_property_is_escaped() -> None:
    annotation = Annotation("error", "a,b:c\r\nd%", "100 %\n::error::x", "a,b.py", 3)
    assert command(annotation) == ("::error file=a%2Cb.py,line=3,title=a%2Cb%3Ac%0D%0Ad%25::100 %25%0A::error::x")


def test_files_are_named_from_the_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "backend").mkdir()
    monkeypatch.chdir(tmp_path / "backend")
    annotation = Annotation("error", "", "", "shop/pages.py", 3)
    assert "file=backend/shop/pages.py," in command(annotation, str(tmp_path))
    assert "file=shop/pages.py," in command(annotation, str(tmp_path / "elsewhere"))
