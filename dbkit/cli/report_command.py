"""`python -m dbkit report`: make the report of a comparison again, from its JSON file."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from dbkit.output.html import report
from dbkit.output.json_file import read_comparison
from dbkit.output.markdown import summary
from dbkit.output.writing import check_distinct, write_text


def add_command(commands: Any) -> None:
    """Add it to the subparsers of a command line."""
    command = commands.add_parser(
        "report",
        help="make the report of a comparison again, from its JSON file",
        description="Make the HTML report of a comparison from the JSON file that `locust --csv` left, and print where "
        "it is.",
    )
    command.set_defaults(command=_run)
    command.add_argument("comparison", metavar="<prefix>_comparison.json", help="the file to read")
    command.add_argument(
        "--output",
        metavar="<file>",
        help="where to write the report; default <prefix>_report.html, beside what is read",
    )
    command.add_argument(
        "--summary", metavar="<file>", help="write a short summary in Markdown too; - for standard output"
    )


def _run(options: argparse.Namespace) -> None:
    result = read_comparison(options.comparison)
    output = options.output or f"{options.comparison.removesuffix('.json').removesuffix('_comparison')}_report.html"
    to_standard_output = options.summary == "-"
    paths = {"the file to read": options.comparison, "--output": output}
    if options.summary and not to_standard_output:
        paths["--summary"] = options.summary
    check_distinct(paths)
    write_text(output, report(result), option="--output")
    print(output, file=sys.stderr if to_standard_output else sys.stdout)
    if to_standard_output:
        print(summary(result), end="")
    elif options.summary:
        write_text(options.summary, summary(result), option="--summary")
        print(options.summary)
