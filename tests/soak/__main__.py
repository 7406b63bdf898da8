"""Long runs with faults at random moments: `python -m tests.soak --time 10m`.

Load on every stack, in one process and in two, all at once and in rounds, while servers are killed, stopped and frozen,
connections terminated, and the network cut, reset and slowed down, as a seed says that is printed. At the end what
processes hold is level, nothing is left on the server, and pages asked = served + failed, by dbkit, by Locust and by a
recorder of its own. Then come signals at random moments (`tests.soak_signals`), and the property-based tests with many
examples, those of the web form too.
Whatever is not as it should be says how to repeat it. Not a part of `make test`.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from dbkit.cli.values import read_seconds
from tests.locust_runs import REPOSITORY
from tests.servers import server
from tests.soak.run import problems

PARTS = ("faults", "signals", "properties", "forms")
RUNS = [(1, False), (2, False), (1, True), (2, True)]
"""How many processes read, and whether in rounds."""
ROOMS = [f"tests/{name}" for name in ("analysis", "cli", "database", "measure", "output")]
"""Those whose property-based tests ask no server."""


def soak_faults(seed: int, seconds: float) -> int:
    """A run of each kind; how many had problems."""
    failed = 0
    for processes, in_rounds in RUNS:
        folder = Path(tempfile.mkdtemp(prefix=f"soak-{seed}-{processes}-"))
        with server(folder / "server") as database:
            share_s = seconds / len(RUNS)
            found = list(problems(database, folder / "load", processes, seed, share_s, in_rounds=in_rounds))
        for problem in found:
            print(f"FAILED: {problem}")
        if found:
            failed += 1
            print(f"    what it said: {folder / 'load'}")
            print(f"    again: python -m tests.soak --only faults --seed {seed} --time {seconds:g}")
        else:
            shutil.rmtree(folder)
    return failed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--time", type=read_seconds, default=600.0, help="of the faults, such as 1h; default 10m")
    parser.add_argument("--signals", type=int, default=20, help="runs that are signalled; default 20")
    parser.add_argument("--examples", type=int, default=5000, help="of each property-based test; default 5000")
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000), help="default: another one each time")
    parser.add_argument("--only", choices=PARTS, help="one part of it; default all")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    wanted = [options.only] if options.only else PARTS
    failed = soak_faults(options.seed, options.time) if "faults" in wanted else 0
    commands = {
        "signals": ["tests.soak_signals", "--runs", str(options.signals), "--seed", str(options.seed)],
        "properties": ["pytest", "-q", "-n", "2", "-m", "hypothesis", "--examples", str(options.examples), *ROOMS],
        "forms": ["tests.load.patched", "-m", "hostile"],
    }
    environment = {**os.environ, "DBKIT_EXAMPLES": str(options.examples)}  # see tests.hostile
    for part, command in commands.items():
        if part in wanted:
            failed += subprocess.run([sys.executable, "-m", *command], cwd=REPOSITORY, env=environment).returncode != 0
    print(f"{failed} failed" if failed else "all is well")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
