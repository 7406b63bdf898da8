"""Before and after: what verdicts say of a revision, what differs between its pages, and both in words."""

from __future__ import annotations

import msgspec
import pytest

from dbkit.analysis.before_after import Finding, finding, finding_of, is_decided
from dbkit.analysis.change_words import change_lines, change_sentence, counts_of_change, headline_of_revisions
from dbkit.analysis.page_facts import FactStatement, Keys, PageFacts, SideFacts, compare_facts, differs, shape_of
from dbkit.analysis.records import Verdict
from dbkit.analysis.result import Plan, Statement
from dbkit.analysis.revisions import REVISION, PageChange, Revisions, Side
from tests.slots import WORKLOAD, class_row, plain_result, verdict_row

SIDES = (Side(name="main", commit="1a2b3c4", subject="Albums"), Side(name="HEAD"))


def verdict(quantity: str, low: float | None, high: float | None, rounds_needed: int | None = None) -> Verdict:
    more = {"differs_in": REVISION, "quantity": quantity, "rounds_needed": rounds_needed}
    return verdict_row("Page, revision=HEAD", "Page, revision=main", low, high, **more)


@pytest.mark.parametrize(
    ("quantity", "low", "high", "expected"),
    [
        ("pages_per_s", 0.8, 0.9, "slower"),
        ("pages_per_s", 1.1, 1.2, "faster"),
        ("p95_ms", 0.8, 0.9, "faster"),
        ("client_cpu_ms", 1.1, 1.2, "slower"),
        ("client_cpu_ms", 0.98, 1.02, "no difference larger than 3 %"),
        ("client_cpu_ms", 0.98, 1.04, "undecided"),
        ("pages_per_s", None, None, "undecided"),
    ],
)
def test_an_interval_says_what_a_revision_is(
    quantity: str, low: float | None, high: float | None, expected: Finding
) -> None:
    assert finding(verdict(quantity, low, high)) == expected


ALIKE = [verdict(quantity, 0.99, 1.01) for quantity in ("pages_per_s", "p95_ms", "client_cpu_ms")]


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        ([], "undecided"),
        (ALIKE, "no difference larger than 3 %"),
        ([*ALIKE, verdict("server_cpu_ms", 0.9, 1.2)], "no difference larger than 3 %"),  # it does not decide
        ([*ALIKE, verdict("server_cpu_ms", 1.1, 1.2)], "slower"),
        ([ALIKE[0], ALIKE[1], verdict("client_cpu_ms", 0.9, 1.2)], "undecided"),
        ([verdict("pages_per_s", 1.1, 1.2), verdict("client_cpu_ms", 1.1, 1.2)], "slower"),  # the worse one counts
        ([verdict("pages_per_s", 1.1, 1.2), verdict("client_cpu_ms", 0.9, 1.2)], "faster"),
        ([ALIKE[1], verdict("client_cpu_ms", 0.99, 1.02)], "no difference larger than 3 %"),  # an open loop
        ([verdict("p95_ms", 0.9, 1.2), verdict("client_cpu_ms", 0.99, 1.02)], "undecided"),
    ],
)
def test_a_class_is_decided_by_its_pages_and_its_cpu_time(verdicts: list[Verdict], expected: Finding) -> None:
    assert finding_of(verdicts) == expected
    assert is_decided(verdicts) == (expected != "undecided")


# What is exact


PLAN = """Limit  (cost=0.28..1.1 rows=20 width=18) (actual time=0.006..0.012 rows=20 loops=1)
  Buffers: shared hit=4
  ->  Index Scan using album_pkey on album  (cost=0.28..8.3 rows=200 width=18) (actual rows=20 loops=1)
        Index Cond: (id > 4)
Planning Time: 0.1 ms
Execution Time: 0.02 ms"""
OTHER_PLAN = PLAN.replace("Index Scan using album_pkey", "Seq Scan").replace("Index Cond", "Filter")


def page(
    sql: str = "SELECT $1::INTEGER", times: int = 1, rendered: str = "[1]", name: str = "Page", **more: object
) -> PageFacts:
    counts = {"statements": times, "round_trips": times + 2}
    facts: dict[str, object] = {"workload": WORKLOAD, "strategy": "joined", "user_class": name, "key": "3"}
    facts |= {"counts": counts, "statements": [FactStatement(sql=sql, times=times, source="shop/pages.py:9 in page")]}
    return PageFacts(**facts | {"rendered": rendered} | more)  # type: ignore[arg-type]


def side(*pages: PageFacts, plan: str = PLAN) -> SideFacts:
    explained = Statement(
        sql="SELECT %(param_1)s::INTEGER",
        source=None,
        times=1,
        execution_ms=0.02,
        parameters=None,
        plan=plan,
        note=None,
    )
    plans = [Plan(workload=WORKLOAD, strategy="joined", which="typical", key="3", note=None, statements=[explained])]
    return SideFacts(versions={}, classes=sorted({each.user_class for each in pages}), pages=[*pages], plans=plans)


def changed(before: SideFacts, after: SideFacts) -> PageChange:
    return compare_facts(before, after, SIDES).pages[0]


def test_a_count_that_is_known_of_one_side_alone_is_no_change() -> None:
    counted = page(counts={"statements": 1, "round_trips": 3, "bytes_from_server": 900})
    assert not differs(changed(side(counted), side(page())))
    assert not differs(changed(side(page()), side(counted)))
    more = page(counts={"statements": 1, "round_trips": 3, "bytes_from_server": 1000})
    assert counts_of_change(changed(side(counted), side(more))) == "bytes from server 900 → 1000"


def test_pages_that_are_alike_have_no_change() -> None:
    found = changed(side(page()), side(page()))
    assert (found.keys, found.keys_changed, found.added, found.removed, found.plans) == (1, 0, [], [], [])


def test_a_statement_that_is_sent_more_often_is_named_with_its_line_and_plan() -> None:
    found = changed(side(page()), side(page(times=21)))
    assert [(each.times, each.source, each.plan) for each in found.added] == [(20, "shop/pages.py:9 in page", PLAN)]
    assert found.removed == []
    assert (found.before["statements"], found.after["statements"]) == (1, 21)


def test_the_key_at_which_something_differs_is_shown() -> None:
    before = side(page(key="1"), page(key="2"))
    found = changed(before, side(page(key="1"), page(key="2", rendered="[2]")))
    assert (found.key, found.keys, found.keys_changed) == ("2", 2, 1)
    assert found.page_diff.splitlines()[-2:] == ["-[1]", "+[2]"]


def test_of_keys_that_differ_the_one_that_takes_the_most_more_is_shown() -> None:
    before = side(*(page(key=key) for key in "1234"))
    after = [page(key="1", rendered="[2]"), page(key="2", times=2), page(key="3", times=21), page(key="4")]
    found = changed(before, side(*after))
    assert (found.key, found.before["statements"], found.after["statements"]) == ("3", 1, 21)
    failing = page(key="4", error="ValueError: no", counts={}, statements=[], rendered="")
    assert changed(before, side(*after[:3], failing)).error_after == "ValueError: no"


def test_a_task_that_fails_is_not_hidden_by_those_that_do_not() -> None:
    failed = page(key="", error="ValueError: no", counts={}, statements=[], rendered="")
    assert changed(side(page()), side(page(), failed)).error_after == "ValueError: no"


def test_keys_that_are_other_ones_are_said() -> None:
    before, after = (
        msgspec.structs.replace(side(page()), keys={"Page": Keys(count=count, digest=str(count))}) for count in (5, 40)
    )
    assert change_sentence(changed(before, before)) == "the same statements, counts and pages, at 1 key"
    assert change_sentence(changed(before, after)) == (
        "the same statements, counts and pages, at 1 key; under load it reads other keys than before (5 → 40)"
    )
    assert differs(changed(before, after))


def test_a_class_that_fails_before_any_key_is_known_has_failed() -> None:
    found = changed(side(page()), side(page(key="", error="ValueError: no", counts={}, statements=[], rendered="")))
    assert (found.error_after, found.workload, found.added, found.removed) == ("ValueError: no", WORKLOAD, [], [])
    other_keys = changed(side(page(key="1")), side(page(key="2")))
    assert other_keys.error_after == "it has other keys than before: 2 and not 1"


def test_a_long_page_diff_says_how_much_more_there_is() -> None:
    pages = ["\n".join(f"{name}{line}" for line in range(200)) for name in "ab"]
    lines = changed(side(page(rendered=pages[0])), side(page(rendered=pages[1]))).page_diff.splitlines()
    assert len(lines) == 61
    assert lines[-1] == "… and 343 lines more"


def test_a_plan_is_another_one_by_its_nodes_and_conditions_alone() -> None:
    assert shape_of(PLAN) == shape_of(PLAN.replace("0.28..8.3", "0.3..9").replace("loops=1", "loops=2"))
    assert changed(side(page()), side(page())).plans == []
    (plan,) = changed(side(page()), side(page(), plan=OTHER_PLAN)).plans
    assert (plan.sql, plan.before, plan.after) == ("SELECT $1::INTEGER", PLAN, OTHER_PLAN)


def test_what_a_line_sends_in_the_place_of_another_statement_has_its_plan_compared() -> None:
    statements = [FactStatement(sql="SELECT abs($1)", times=1, source="shop/pages.py:9 in page")]
    after = side(page(statements=statements), plan=OTHER_PLAN)
    after.plans[0].statements[0].sql = "SELECT abs(%(id)s)"
    (plan,) = changed(side(page()), after).plans
    assert (plan.sql, plan.before, plan.after) == ("SELECT abs($1)", PLAN, OTHER_PLAN)


def test_classes_on_one_side_alone_are_named() -> None:
    found = compare_facts(side(page(), page(name="Old")), side(page(), page(name="New")), SIDES)
    assert (found.only_before, found.only_after) == (["Old"], ["New"])
    assert [change.user_class for change in found.pages] == ["Page"]


# In words


def test_changes_are_a_line_a_class_with_the_lines_that_send_what_is_new() -> None:
    before = side(page(), page(name="Same"), page(name="Failing"), page(name="Old"), page(name="Other"))
    after = side(
        page(times=21, counts={"statements": 21, "round_trips": 25}),
        *(page(name="Same"), page(name="Failing", error="ValueError: no", counts={}, statements=[], rendered="")),
        page(name="Other", sql="SELECT 2"),
    )
    assert change_lines(compare_facts(before, after, SIDES)) == [
        *("before: main (1a2b3c4, Albums)", "after:  HEAD", ""),
        "Failing: its page cannot be read after: ValueError: no",
        "Other: the same counts, of other SQL, at 1 of 1 key, such as 3",
        "    + shop/pages.py:9 in page: SELECT 2",
        "    - shop/pages.py:9 in page: SELECT $1::INTEGER",
        "Page: statements 1 → 21, round trips 3 → 25, at 1 of 1 key, such as 3",
        "    + 20 × shop/pages.py:9 in page: SELECT $1::INTEGER",
        "Same: the same statements, counts and pages, at 1 key",
        "on main alone, and so not compared with HEAD: Old",
    ]


def headline(*verdicts: Verdict, revisions: Revisions) -> list[str]:
    row = class_row("Page", condition="Page, revision=HEAD", label="Page, revision=HEAD", settings={REVISION: "HEAD"})
    return headline_of_revisions(plain_result(strategies=[row], verdicts=[*verdicts], revisions=revisions))


def test_the_headline_says_what_each_class_came_to_and_then_what_is_exact() -> None:
    same = compare_facts(side(page()), side(page()), SIDES)
    slower = [verdict("pages_per_s", 0.88, 0.94), verdict("client_cpu_ms", 1.06, 1.14), verdict("p95_ms", 0.9, 1.2)]
    exact = "Statements, counts and pages are the same on both sides."
    assert headline(*slower, revisions=same) == [
        "Page is slower on HEAD: pages/s 0.91× [0.88, 0.94], client CPU 1.10× [1.06, 1.14].",
        exact,
    ]
    assert headline(*ALIKE, revisions=same) == ["No difference larger than 3 % between main and HEAD: Page.", exact]
    wide = [verdict("pages_per_s", 0.9, 1.1, rounds_needed=70), verdict("client_cpu_ms", 0.99, 1.01)]
    assert headline(*wide, revisions=same)[0] == (
        "Page is undecided: pages/s 0.99× [0.90, 1.10]; about 70 rounds would tell."
    )
