"""The options on what comes of a test: what its figures are to keep, and the files that are written.

They are a part of the table in `dbkit.cli.options`.
"""

from __future__ import annotations

from dbkit.cli.option import Option
from dbkit.cli.values import checks, choice, text

OF_OUTCOMES = (
    # what the figures are to be
    Option(
        "check",
        checks(),
        "",
        "check on a figure, as statements <= 2 or CLASS: p95_ms < 50",
        "or of a share, as pages_per_s >= 0.95 * OTHER_CLASS; several with ; between them or by several --check; one"
        " that fails ends with exit code 3, one that cannot be decided with 4",
        separator="; ",
        reported=False,
    ),
    Option(
        "baseline",
        text("filename"),
        "",
        "file of an earlier run to compare with, as results/main_comparison.json",
        "counts on any machine, times where both were measured alike; checks can be a share of it, as"
        " p95_ms <= 1.1 * baseline",
        in_form=False,
        reported=False,
    ),
    Option(
        "undecided",
        choice("pass", "fail"),
        None,
        "what a check that cannot be decided counts as",
        "pass ends with exit code 0, fail with 3",
        default_words="exit code 4",
        in_form=False,
        reported=False,
    ),
    # files
    Option(
        "report",
        text("filename"),
        "",
        "write an HTML report to this file",
        "one file that opens anywhere",
        in_form=False,
        reported=False,
    ),
    Option(
        "summary",
        text("filename"),
        "",
        "write a summary in Markdown to this file",
        "for a pull request or a CI job's page",
        in_form=False,
        reported=False,
    ),
    Option(
        "junit",
        text("filename"),
        "",
        "write what came of the checks as JUnit XML to this file",
        "as CI services show tests: a case for each check and class, and for a regression",
        in_form=False,
        reported=False,
    ),
)
"""In the order in which they are shown."""
