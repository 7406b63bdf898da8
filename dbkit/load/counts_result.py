"""`python -m dbkit.load.counts_result <locustfile> <options of locust>`: the result of a before and after without load.

`dbkit diff --counts-only` starts it where it would start a Locust master: what is exact of both sides' pages is known
by then, and is judged and written as any result. How it becomes known: see `dbkit.load.page_facts`.
"""

from __future__ import annotations

import logging
import sys

from locust.argument_parser import get_parser

from dbkit.analysis.change_words import headline_of_revisions
from dbkit.analysis.exit_codes import BAD_INPUT, exit_code
from dbkit.analysis.judging import judge
from dbkit.analysis.result import empty_result
from dbkit.cli.arguments import exit_on_mistake
from dbkit.database.provenance import describe_client
from dbkit.load.baseline import read_baseline
from dbkit.load.checks import check_files
from dbkit.load.figure_checks import figure_checks
from dbkit.load.outputs import write_outputs
from dbkit.load.sides import read_revisions
from dbkit.load.try_pages.locustfile import choose, load
from dbkit.load.try_pages.process import end_well_on_signals
from dbkit.output.console import print_result
from dbkit.output.github import print_annotations

logger = logging.getLogger(__name__)


def main(locustfile: str, arguments: list[str]) -> None:
    """Judge what is known, write it, and exit: see `dbkit.analysis.exit_codes`."""
    classes = load(locustfile)
    options = get_parser().parse_args(["-f", locustfile, *arguments])
    check_files(options)
    chosen, _ = choose(classes, options.user_classes)
    checks = figure_checks(options, chosen, classes, without_load=True)
    baseline = read_baseline(options.baseline, chosen.values()) if options.baseline else None
    result = empty_result()
    result.measured_on, result.revisions = describe_client(), read_revisions()
    result.headline = headline_of_revisions(result)
    result.checks = judge(result, checks, chosen, baseline)
    unwritten = write_outputs(result, options)
    for line in unwritten:
        logger.error("%s", line)
    print_result(result)
    print_annotations(result, options.undecided)
    sys.exit(BAD_INPUT if unwritten else exit_code(result, options.undecided))


if __name__ == "__main__":
    end_well_on_signals()
    exit_on_mistake("dbkit diff", lambda: main(sys.argv[1], sys.argv[2:]))
