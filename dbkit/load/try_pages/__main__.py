"""`python -m dbkit.load.try_pages <program> <arguments>`: what `dbkit try` starts. See `dbkit.cli.try_command`."""

from __future__ import annotations

import sys
import warnings

from locust.argument_parser import DEFAULT_CONFIG_FILES, LocustConfigParser, get_parser

from dbkit.cli.arguments import ArgumentParser, exit_on_mistake
from dbkit.cli.try_command import add_arguments
from dbkit.database.server import check_server
from dbkit.load.context import context_of
from dbkit.load.try_pages.comparison import compare
from dbkit.load.try_pages.locustfile import choose, load
from dbkit.load.try_pages.process import end_well_on_signals, make_environment
from dbkit.load.try_pages.reading import Trial
from dbkit.load.try_pages.secrets import Secrets
from dbkit.load.try_pages.shown import PIPED_WIDTH, Screen
from dbkit.output.terminal import output_console


def _run(prog: str, arguments: list[str]) -> None:
    parser = ArgumentParser(
        prog=prog,
        default_config_files=DEFAULT_CONFIG_FILES,
        config_file_parser_class=LocustConfigParser,
        ignore_unknown_config_file_keys=True,  # Locust's
    )
    add_arguments(parser)
    # where a page was read without it, it is shown with the page
    warnings.filterwarnings("ignore", message="coroutine '.*' was never awaited")
    options = parser.parse_args(arguments)
    classes = load(options.locustfile)
    chosen, others = choose(classes, options.classes)
    # options of the locustfile's own are as variables and configuration files set them
    all_options = get_parser().parse_args([])
    vars(all_options).update(vars(options))
    environment = make_environment(all_options, classes)
    context = context_of(environment)
    server = check_server(context.database)
    engines = [getattr(each, "engine", None) for each in classes.values()]
    screen = Screen(output_console(PIPED_WIDTH), str(context.database), Secrets(context.database, engines))
    trial = Trial(environment, server, options.key, options.page_timeout, options.writes)
    tried = []
    for user_class in chosen.values():
        tried.append(trial.read(user_class, screen.begin))
        screen.show(tried[-1])
    comparisons = list(compare(tried))
    screen.summarize(tried, others, comparisons)
    if any(each.failed for each in tried) or not all(each.is_fine for each in comparisons):
        sys.exit(1)


if __name__ == "__main__":
    end_well_on_signals()
    exit_on_mistake(sys.argv[1], lambda: _run(sys.argv[1], sys.argv[2:]))
