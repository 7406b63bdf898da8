# The project's commands. Each sets up what it needs; a second call starts within seconds.
# DBKIT_DATABASE_URL names the PostgreSQL to use; without it an embedded one is started, with its data in .dbkit/.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OLDEST := 2.0.36
OLDEST_SQLALCHEMY := $(VENV)/sqlalchemy-$(OLDEST)
APT_INSTALL := DEBIAN_FRONTEND=noninteractive apt-get install --quiet --yes --no-install-recommends
INSTALL_CHROMIUM := { $(APT_INSTALL) chromium fonts-dejavu-core \
	|| { apt-get update --quiet && $(APT_INSTALL) chromium fonts-dejavu-core; }; } >&2

INSTALL_PGBOUNCER := { $(APT_INSTALL) pgbouncer || { apt-get update --quiet && $(APT_INSTALL) pgbouncer; }; } >&2

.PHONY: run ui test test-oldest soak lint screenshots browser pooler clean

run: $(VENV)/ready  ## compare all user classes, each alone, and leave results/
	$(BIN)/python seed.py
	$(BIN)/locust -f locustfiles/rounds.py --headless --users 10 --pool-size 10 --slot-time 0.6 --warm-up 0.15 \
		--csv results/run --report results/report.html

ui: $(VENV)/ready  ## seed, then the web UI on http://127.0.0.1:8089
	$(BIN)/python seed.py
	$(BIN)/locust

test: $(VENV)/ready browser pooler $(OLDEST_SQLALCHEMY)/ready  ## all tests, against a PostgreSQL of their own
	$(BIN)/python -m pytest -n 4 --dist loadfile --no-loadscope-reorder
	$(MAKE) test-oldest

# Pages, meter and one round of every class once more, as many applications are on SQLAlchemy 2.0. Left out are pages of
# every size, which try the same SQLAlchemy with other numbers, and what tests the proxy on the wire without SQLAlchemy.
test-oldest: $(OLDEST_SQLALCHEMY)/ready
	PYTHONPATH='$(CURDIR)/$(OLDEST_SQLALCHEMY)' $(BIN)/python -m pytest --sqlalchemy $(OLDEST) \
		-n 4 --dist loadfile --no-loadscope-reorder \
		-k "not any_size and not whole_dataset and not end_of_the_list" \
		tests/load/test_all_classes.py tests/load/test_try.py::test_a_failure_is_explained_on_each_stack \
		tests/test_example_counts.py tests/todo/test_paging.py tests/database/test_meter*.py \
		tests/measure/test_wire.py::test_warm_sqlalchemy_block_is_three_round_trips_and_one_in_autocommit

soak: $(VENV)/ready  ## faults at random moments, signals, and many examples: SOAK="--time 1h --seed 7" says how
	$(BIN)/python -m tests.soak $(SOAK)

lint: $(VENV)/ready  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

screenshots: $(VENV)/ready browser  ## docs/images/, from a run of rounds
	$(BIN)/python seed.py
	$(BIN)/python -m docs.screenshots

browser:
	@command -v chromium >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && $(INSTALL_CHROMIUM); } \
		|| { echo "make $(MAKECMDGOALS) needs Chromium on the path; on Debian: sudo apt-get install chromium" >&2; exit 2; }

# Debian has it in a folder of root's path.
pooler:
	@PATH="$$PATH:/usr/sbin" command -v pgbouncer >/dev/null \
		|| { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && $(INSTALL_PGBOUNCER); } \
		|| { echo "make $(MAKECMDGOALS) needs PgBouncer on the path; on Debian: sudo apt-get install pgbouncer" >&2; exit 2; }

$(VENV)/ready: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "dbkit needs Python 3.11 or newer; try: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements.txt
	touch $@

# Beside the pinned one, and not in its place: PYTHONPATH puts it first.
$(OLDEST_SQLALCHEMY)/ready: | $(VENV)/ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --upgrade \
		--target $(OLDEST_SQLALCHEMY) SQLAlchemy==$(OLDEST)
	touch $@

clean:  ## remove what the other commands made
	rm -rf $(VENV) results .dbkit .mypy_cache .pytest_cache .ruff_cache .hypothesis
