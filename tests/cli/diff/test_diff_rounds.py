"""The times of two revisions: by processes of their own, in turns, for as long as it takes."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from typing import Any

from dbkit.analysis.sequential import LEAST_ROUNDS
from tests.cli.diff.runs import SHORT, diff, in_workers
from tests.repositories import LAZY, Shop


def test_two_revisions_are_measured_in_turns_by_processes_of_their_own(shop: Shop, shop_url: str) -> None:
    shop.branch("lazy", *LAZY)
    results = shop.root.parent / "results" / "diff"
    (shop.folder / "locust.conf").write_text(f"processes = 2\ncsv = {results.with_name('of-conf')}\n")
    done = diff(shop, shop_url, "main..lazy", "--csv", str(results), *SHORT, "--", "shop_load.py")
    assert {each.name.partition("_")[0] for each in results.parent.iterdir()} == {"diff"}
    assert done.returncode == 3, done.stderr
    comparison: dict[str, Any] = json.loads((results.parent / "diff_comparison.json").read_text())
    rows = {(row["user_class"], row["settings"]["revision"]): row for row in comparison["strategies"]}
    assert {name: row["statements"] for name, row in rows.items()} == {
        **{("PsycopgShelves", "main"): 2, ("PsycopgShelves", "lazy"): 11},
        **{("PsycopgTitles", "main"): 1, ("PsycopgTitles", "lazy"): 1},
    }
    assert {row["processes"] for row in rows.values()} == {1}
    assert all(row["pages"] and not row["failures"] for row in rows.values())
    for number in (1, 2, 3):  # each condition as often as the others
        turns = Counter(slot["condition"] for slot in comparison["slots"] if slot["round"] == number)
        assert len(turns) == 4 and len({*turns.values()}) == 1
    verdicts = {(each["label"], each["quantity"]): each for each in comparison["verdicts"]}
    assert {each["differs_in"] for each in verdicts.values()} == {"revision"}
    assert {each["reference"] for each in verdicts.values()} == {
        *("PsycopgShelves, revision=main", "PsycopgTitles, revision=main")
    }
    assert comparison["revisions"]["after"]["name"] == "lazy"
    assert [change["after"].get("statements") for change in comparison["revisions"]["pages"]] == [11, 1]
    assert any("statements 2 → 11" in sentence for sentence in comparison["headline"])


def test_rounds_go_on_until_it_is_decided(shop: Shop, shop_url: str) -> None:
    """Ten times the statements are seen at the first look, long before the budget is spent."""
    shop.branch("lazy", *LAZY)
    results = shop.root.parent / "results" / "diff"
    arguments = ("--rounds", "auto", "--budget", "60", "--slot-time", "0.2", "--warm-up", "0.1", "-u", "2")
    done = diff(shop, shop_url, "main..lazy", "--csv", str(results), *arguments, "--", "shop_load.py", "PsycopgShelves")
    assert done.returncode == 3, done.stderr
    assert "PsycopgShelves is slower on lazy: " in done.stdout
    comparison = json.loads((results.parent / "diff_comparison.json").read_text())
    assert max(slot["round"] for slot in comparison["slots"]) == LEAST_ROUNDS


def test_each_round_is_read_by_processes_and_keys_that_no_other_round_has(shop: Shop, shop_url: str) -> None:
    written = in_workers(
        shop,
        """
        from locust import events

        @events.request.add_listener
        def note(context, **_):
            with open(file, "a") as pages:
                print(context["slot"], os.getpid(), context["key"], sep="\\t", file=pages)

        @events.quitting.add_listener
        def set_exit_code(environment, **_):
            environment.process_exit_code = 0
        """,
    )
    results = shop.root.parent / "results" / "diff"
    arguments = ("main..main", "--csv", str(results), *SHORT, "-u", "1", "--", "shop_load.py", "PsycopgTitles")
    diff(shop, shop_url, *arguments)
    comparison = json.loads((results.parent / "diff_comparison.json").read_text())
    pages = [line.split("\t") for line in written.read_text().splitlines()]
    read_by: defaultdict[tuple[int, str], set[str]] = defaultdict(set)
    first_keys: defaultdict[int, set[tuple[str, ...]]] = defaultdict(set)
    for number, condition in {(slot["round"], slot["condition"]) for slot in comparison["slots"]}:
        slots = [each for each in comparison["slots"] if (each["round"], each["condition"]) == (number, condition)]
        of_slots = [[page for page in pages if page[0] == str(each["slot"])] for each in slots]
        read_by[number, condition] = {pid for of_slot in of_slots for _, pid, _ in of_slot}
        first_keys[number].add(tuple(of_slot[0][2] for of_slot in of_slots))
    assert len(read_by) == 3 * 2
    assert [len(pids) for pids in read_by.values()] == [1] * len(read_by)
    assert len(set.union(*read_by.values())) == len(read_by)
    assert [len(keys) for keys in first_keys.values()] == [1, 1, 1]  # the same on both sides
    assert len(set.union(*first_keys.values())) == 3
    assert sum(row["pages"] for row in comparison["strategies"]) == sum(slot["pages"] for slot in comparison["slots"])
    assert not [each for each in comparison["warnings"] if "lost" in each]
