"""The Strategies tab in Locust's web UI: the result as it comes in, charts of it, and downloads.

A tab of Locust's own kind can only hold tables. So Locust's page gets a script (`view/tab.js`) that shows its content
beside Locust's application, follows its tabs, and asks this module for new results. Everything that the script loads
is served here. For the result see `dbkit.load.results`, for its looks `dbkit.output.view`.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flask import Blueprint, Response, make_response, request, send_file
from locust.runners import MasterRunner
from locust.web import WebUI
from msgspec import to_builtins

from dbkit.analysis.formats import duration
from dbkit.analysis.parts import Part, leading, parts
from dbkit.analysis.result import Result
from dbkit.load.conductor import Conductor
from dbkit.load.context import LoadContext
from dbkit.load.results import Results
from dbkit.load.shape import Rounds
from dbkit.measure.tally import SHOWN_PARTS
from dbkit.output import view
from dbkit.output.csv_files import FILES
from dbkit.output.html import report
from dbkit.output.looks import Look, looks
from dbkit.output.markdown import summary

TAB = {"title": "Strategies", "key": "strategies"}

MOUNT = """
<link rel="stylesheet" href="./dbkit/style.css" />
<link rel="stylesheet" href="./dbkit/tab.css" />
<script defer src="./dbkit/tab.js"></script>
"""
"""What is added at the end of Locust's page."""

DOWNLOADS: dict[str, Callable[[Result], str]] = {
    "report.html": report,
    "summary.md": summary,
    **FILES,
}
MIME_TYPES = {"html": "text/html", "md": "text/markdown", "csv": "text/csv", "json": "application/json"}
WRITTEN_TIMEOUT_S = 30
"""How long a download waits until the result of a run that has just ended is complete."""


class StrategiesTab:
    """Adds the tab to `web_ui`."""

    def __init__(self, web_ui: WebUI, context: LoadContext, conductor: Conductor, results: Results) -> None:
        self._context = context
        self._conductor = conductor
        self._results = results
        self._shown = "null"
        """The result as the tab gets it, in JSON; its version is `_shown_version`."""
        self._shown_version = "none"
        app = web_ui.app
        assert app is not None
        web_ui.template_args["extended_tabs"] = [*web_ui.template_args.get("extended_tabs", []), TAB]
        routes = Blueprint("dbkit", __name__, url_prefix=f"{context.options.web_base_path or ''}/dbkit")
        for path, answer in {
            "/state": self._state,
            "/download/<name>": self._download,
            "/plotly.js": _plotly,
            "/<name>": _asset,
        }.items():
            routes.add_url_rule(path, answer.__name__, web_ui.auth_required_if_enabled(answer))
        app.register_blueprint(routes)
        app.after_request(_mount)

    def on_slot_ended(self, **_: Any) -> None:
        """Prepare what the tab shows, while no page is in flight."""
        self._results.make_so_far()
        self._show()

    def _state(self) -> Response:
        """How far the run is, and the result unless the browser has its `version` already."""
        self._results.so_far()
        self._show()
        known = request.args.get("version") == self._shown_version
        runner: Any = self._context.environment.runner
        about = {"version": self._shown_version, "state": runner.state, "status": self._status()}
        # the result is JSON already, and may be large
        body = f'{json.dumps(about)[:-1]}, "result": {"null" if known else self._shown}}}'
        return Response(body, mimetype="application/json", headers={"Cache-Control": "no-store"})

    def _download(self, name: str) -> Response:
        if name not in DOWNLOADS:
            return _missing(f"there is no such file; there are {', '.join(DOWNLOADS)}")
        if self._results.finished:
            self._context.written.wait(WRITTEN_TIMEOUT_S)

        def make() -> tuple[Result | None, str]:
            result = self._results.complete_so_far()
            return result, "" if result is None else DOWNLOADS[name](result)

        result, content = self._conductor.pauses.call(make)
        if result is None:
            return _missing("nothing has been measured yet; start a run")
        response = make_response(content)
        response.mimetype = MIME_TYPES[name.rpartition(".")[2]]
        measured_at = re.sub("[^0-9]", "", str(result.measured_on["measured_at"])[:19])
        response.headers["Content-Disposition"] = f"attachment; filename=dbkit_{measured_at}_{name}"
        return response

    def _show(self) -> None:
        if self._shown_version == self._results.version:
            return
        self._shown_version = self._results.version
        result = self._results.result
        self._shown = "null" if result is None else json.dumps(self._content(result))

    def _content(self, result: Result) -> dict[str, Any]:
        # some classes may have only slots that do not count, and others no slot yet
        styles = looks([*result.strategies, *result.slots], self._context.test.user_classes.values())
        recent = {} if self._results.finished else self._context.recorder.timeline.recent_parts_ms()
        with_rows = [part for part in parts(result) if part.strategies]
        return {
            # the first warning, that it is still running, is in the status
            "answer": self._macros.answer(result, result.warnings[result.state == "running" :], leading(result)),
            "workloads": [
                self._content_of(part, styles, recent, several=len(with_rows) > 1, mixed=result.mixed)
                for part in with_rows
            ],
            "parts_are_recent": bool(recent),
            "timeline": to_builtins(result.timeline),
        }

    def _content_of(
        self, part: Part, styles: dict[str, Look], recent: dict[str, Any], *, several: bool, mixed: bool
    ) -> dict[str, Any]:
        """What the tab shows of one workload."""
        charted = part.charted(part.strategies)
        return {
            "above": self._macros.above(part, styles, several),
            "below": self._macros.below(part, styles, self._results.finished, mixed),
            "looks": {row.condition: styles[row.condition] for row in (*part.strategies, *part.slots)},
            "ladder": to_builtins(part.ladder),
            "all": view.charted_of_ladders(part),
            "limits": to_builtins(part.limits),
            "strategies": to_builtins(charted),
            "parts": [
                (recent.get(row.user_class) or {name: getattr(row, name) for name in SHOWN_PARTS})
                | {"condition": row.condition}
                for row in charted
            ],
            "verdicts": to_builtins(part.verdicts_charted),
            "slots": [{name: getattr(row, name) for name in view.CHARTED_OF_SLOTS} for row in part.charted(part.slots)],
        }

    @property
    def _macros(self) -> Any:
        return view.templates().get_template("tab.html").module

    def _status(self) -> dict[str, Any]:
        """What the run is doing, in words, and the share of it that is done, 0 to 1, or None if that is not known."""
        context, progress = self._context, self._conductor.progress
        runner: Any = context.environment.runner
        if progress is not None:
            slot = f"slot {progress.slot}" + (f" of {progress.slots}" if progress.budget_s is None else "")
            how_long = "about" if progress.budget_s is None else "at most"
            words = (
                f"{progress.words} · {slot}: {progress.user_class}, {progress.phase}"
                f" · {how_long} {duration(progress.left_s)} left"
            )
            return {"words": words, "done": progress.done}
        if self._results.finished:
            if self._results.result is None:
                return {"words": "nothing has been measured yet", "done": None}
            if not context.written.is_set():
                return {"words": "the run has ended; asking the server for the plans of its statements", "done": None}
            return {"words": "the run has ended", "done": None}
        if isinstance(context.environment.shape_class, Rounds):
            return {"words": "the rounds begin or end", "done": None}
        ran_s = time.perf_counter() - context.test.began_at_s
        words = f"{runner.user_count} users · running for {duration(ran_s)} · {_busiest(runner)}"
        if context.test.planned_s:
            left_s = max(context.test.planned_s - ran_s, 0)
            return {"words": f"{words} · {duration(left_s)} left", "done": min(ran_s / context.test.planned_s, 1.0)}
        return {"words": words, "done": None}


def _asset(name: str) -> Response:
    if name not in ("charts.js", "style.css", "tab.css", "tab.js"):
        return _missing("there is no such file")
    response = make_response(view.source(name))
    response.mimetype = "text/css" if name.endswith(".css") else "text/javascript"
    response.headers["Cache-Control"] = "no-cache"
    return response


def _missing(words: str) -> Response:
    return Response(f"{words}\n", status=404, mimetype="text/plain")


def _plotly() -> Response:
    """The charting library: some 5 MB, which a browser asks for once."""
    import plotly  # here, because it is slow to import and neither workers nor headless runs need it

    return send_file(Path(plotly.__file__).with_name("package_data") / "plotly.min.js", max_age=86400)


def _mount(response: Response) -> Response:
    if request.endpoint == "locust.index" and response.status_code == 200:
        head, end, tail = response.get_data(as_text=True).rpartition("</body>")
        response.set_data(f"{head}{MOUNT}{end}{tail}")
    return response


def _busiest(runner: Any) -> str:
    """How busy the load process is. Near 100 % of a core it limits every strategy."""
    if isinstance(runner, MasterRunner):
        percent = max((client.cpu_usage for client in runner.clients.values()), default=0)
    else:
        percent = runner.current_cpu_usage
    return f"load process at {percent:.0f} % of a core"
