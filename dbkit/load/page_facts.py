"""`python -m dbkit.load.page_facts <output> <folder> <locustfile> <options of locust>`: what is exact of its pages.

`dbkit diff` starts it in the checkout of each side. It reads pages of each class as `dbkit try` does, without load, and
writes `dbkit.analysis.page_facts.SideFacts` as JSON. What a page writes is rolled back. Bytes are counted by a relay,
on engines whose URL dbkit gives them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import chdir
from hashlib import sha256
from pathlib import Path
from time import perf_counter

import msgspec
from locust.argument_parser import get_parser

from dbkit.analysis.page_facts import FactStatement, Keys, PageFacts, SideFacts
from dbkit.analysis.result import Plan
from dbkit.cli.arguments import exit_on_mistake
from dbkit.database.provenance import describe_client
from dbkit.database.relay import Relays
from dbkit.database.server import check_server
from dbkit.errors import DbkitError, without_secrets
from dbkit.load.context import LoadContext, context_of
from dbkit.load.explained import plans_of
from dbkit.load.sides import check_imports
from dbkit.load.try_pages.limit import TookTooLong
from dbkit.load.try_pages.locustfile import choose, load
from dbkit.load.try_pages.process import end_well_on_signals, make_environment
from dbkit.load.try_pages.reading import Trial, TriedClass, TriedPage
from dbkit.load.users import PageUser
from dbkit.load.verification import keys_to_verify
from dbkit.measure.cost import COUNTS
from dbkit.sides.files import changed_file, error_of_change, note_imports
from dbkit.sides.redirect import present_route
from dbkit.workload import Key, page_json, plain_key

WARM_READS = 12
"""How often the first page is read before: psycopg prepares a statement at its sixth execution, and types are known."""
WARM_S = 5.0
"""How long that may take, with slow pages."""
LEAST_WARM_READS = 8
"""So many there are however long they take: else it may be prepared on one side alone, and seem to have changed."""
PAGE_TIMEOUT_S = 30.0


def main(output: str, folder: str, locustfile: str, arguments: list[str]) -> None:
    """Read the pages, and write what is exact of them. Raises DbkitError where there is nothing to read.

    Both sides have the options that Locust finds in `folder`, the user's: its files may differ between the sides.
    """
    classes = load(locustfile)
    check_imports()
    note_imports(present_route(), sys.modules)
    with chdir(folder):
        options = get_parser().parse_args(["-f", locustfile, *arguments])
    for flag, given in (("--limit", options.limit), ("--calibrate", options.calibrate)):
        if given:
            raise DbkitError(f"{flag} does not go with dbkit diff, which compares one side with the other; use locust")
    known = [name for name in options.user_classes if name in classes]  # another one may be on the other side
    chosen = {} if options.user_classes and not known else choose(classes, known)[0]
    chosen = {each.__name__: each for each in chosen.values()}  # a locustfile may have a class by several names
    environment = make_environment(options, classes)
    context = context_of(environment)
    context.relays.count_bytes = True
    trial = Trial(environment, check_server(context.database), "", PAGE_TIMEOUT_S, False)
    pages: list[PageFacts] = []
    plans: list[Plan] = []
    all_keys: dict[str, Keys] = {}
    for user_class in chosen.values():
        pages += _facts(trial, context.relays, user_class, options.verify_keys or 1, options.seed, all_keys)
    failed = {page.user_class for page in pages if page.error}
    if readable := [each for name, each in chosen.items() if name not in failed]:
        plans = _plans(context, readable)
    note_imports(present_route(), sys.modules)  # what pages import
    if changed := changed_file(present_route()):
        raise error_of_change(changed)
    facts = SideFacts(versions=_versions(), classes=sorted(chosen), pages=pages, plans=plans, keys=all_keys)
    Path(output).write_bytes(msgspec.json.encode(facts))


def _facts(
    trial: Trial, relays: Relays, user_class: type[PageUser], keys: int, seed: int, all_keys: dict[str, Keys]
) -> Iterator[PageFacts]:
    """The pages of a class; its keys are added to `all_keys`."""
    if PageUser.read_pages not in user_class.tasks:
        tried = trial.read(user_class, lambda _: None)
        if not (tried.pages or tried.errors):
            yield _failed(user_class, DbkitError("its tasks read no page"))
        for number, page in enumerate(tried.pages):
            yield _page(user_class.__name__, tried, page, f"{page.task}: {page.name} ({number + 1})")
        if tried.errors:
            yield _failed(user_class, tried.errors[0][1])
        return
    tried = TriedClass(user_class.__name__)
    try:
        with trial.testing(user_class, tried) as page_class:
            tried.page_class = page_class
            trial.prepare(page_class)
            all_keys[tried.name] = _keys(page_class.keys)
            source, chosen = page_class.source, keys_to_verify(page_class.keys, keys, seed)
            until_at_s = perf_counter() + WARM_S
            for number, key in enumerate([chosen[0]] * WARM_READS + chosen, 1):
                is_late = number >= LEAST_WARM_READS and perf_counter() > until_at_s
                if trial.read_page(page_class, source, key).error or is_late:
                    break
            for key in chosen:
                bytes_before = relays.bytes_from_server()
                page = trial.read_page(page_class, source, key)
                came = relays.bytes_from_server() - bytes_before
                facts = _page(tried.name, tried, page, _as_text(key))
                # opening a connection is not of the page; of one that writes they differ, as sequences go on
                if came and facts.counts and not page.cost.connections and not page_class.writes:
                    facts.counts["bytes_from_server"] = came
                yield facts
                if isinstance(page.error, TookTooLong):
                    break  # the next one would take as long
    except Exception as error:  # of the class: its keys are not found, its engine does not connect
        yield _failed(user_class, error)


def _page(name: str, tried: TriedClass, page: TriedPage, key: str) -> PageFacts:
    assert tried.page_class is not None
    cost = page.cost.as_dict()
    return PageFacts(
        workload=tried.page_class.described().workload,
        strategy=tried.page_class.strategy,
        user_class=name,
        key=key,
        counts={} if page.error else {count: int(cost[count]) for count in COUNTS},
        statements=[
            FactStatement(sql=each.sql, times=each.times, source=max(each.lines, key=lambda line: each.lines[line]))
            for each in page.statements
        ],
        rendered="" if page.error else _as_lines(page.rendered),
        error=_one_line(page.error) if page.error else "",
    )


def _failed(user_class: type[PageUser], error: BaseException) -> PageFacts:
    return PageFacts(
        workload="", strategy="", user_class=user_class.__name__, key="", counts={}, statements=[], rendered="",
        error=_one_line(error),
    )  # fmt: skip


def _keys(keys: Sequence[Key]) -> Keys:
    digest = sha256()
    for key in sorted(map(repr, keys)):
        digest.update(key.encode(errors="surrogatepass"))
    return Keys(count=len(keys), digest=digest.hexdigest())


def _as_text(key: Key) -> str:
    text = str(plain_key(key))
    return text if text.isprintable() else repr(plain_key(key))


def _one_line(error: BaseException) -> str:
    return without_secrets(f"{type(error).__name__}: {' '.join(str(error).partition(chr(10))[0].split())}")


def _as_lines(rendered: object) -> str:
    """A page as JSON with a line for each value; nothing where it has no such form."""
    try:
        return json.dumps(json.loads(page_json(rendered)), indent=1, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        return ""


def _plans(context: LoadContext, classes: list[type[PageUser]]) -> list[Plan]:
    context.environment.user_classes = list(classes)
    context.begin_test(in_slots=False)
    try:
        return plans_of(context.test.page_classes.values(), context)
    finally:
        context.end_test()


def _versions() -> dict[str, str]:
    client = describe_client()
    return {"Python": client["python"], **client["packages"]}


if __name__ == "__main__":
    end_well_on_signals()
    exit_on_mistake("dbkit diff", lambda: main(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:]))
