# `make run` and `make test` install everything they need into .venv on first use.
# Other ports: `make run PORT=8001 DEMO_PORT=8090`. Works with GNU make 3.81 (macOS) and newer.

# Containers often set it. Then each process compiles our modules again, for 0.4 s.
unexport PYTHONDONTWRITEBYTECODE

VENV := .venv/bin/python
IN_PARALLEL := -n 2 --dist loadgroup --no-loadscope-reorder
PACKAGE := queue
FUZZ_EXAMPLES := 200
DEPLOYED := requirements.txt $(patsubst %,requirements-%.txt,celery apprise allauth)
FULL_LENGTH = FUZZ_EXAMPLES=$(FUZZ_EXAMPLES) STATE_MACHINE_EXAMPLES=500
COSMIC_RAY := .venv/bin/cosmic-ray
SESSION := session.sqlite
COUNT_MUTANTS := import sqlite3; print(*sqlite3.connect('$(SESSION)').execute( \
  'SELECT test_outcome, COUNT(*) FROM work_results WHERE test_outcome IS NOT NULL GROUP BY 1'))
TRANSLATIONS := batches/locale/de/LC_MESSAGES/django
PIP := $(VENV) -m pip --disable-pip-version-check --quiet

.PHONY: help run setup test test-package test-all lint docs reference schema messages lock matrix fuzz stress bench mutants screenshots clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' Makefile

run: setup $(TRANSLATIONS).mo ## set up and run the web application and a worker with the demo queue, until Ctrl-C
	@$(VENV) manage.py migrate --verbosity 0
	@$(VENV) manage.py serve --demo

setup: .venv/installed ## install requirements.txt into .venv

test: lint $(TRANSLATIONS).mo ## set up and run the checks and the tests on SQLite and PostgreSQL (6 minutes on two cores)
	@$(VENV) -m pytest $(IN_PARALLEL)

test-package: .venv/installed-dev $(TRANSLATIONS).mo ## run the fast tests of one package on SQLite while you edit (PACKAGE=queue)
	@$(VENV) -m pytest $(IN_PARALLEL) --database sqlite -m "not (slow or exhaustive)" batches/tests/$(PACKAGE)

test-all: lint $(TRANSLATIONS).mo ## run everything: also full fuzzing, hostile corpora and stress
	@$(FULL_LENGTH) $(VENV) -m pytest $(IN_PARALLEL) -m ""

lint: .venv/installed-dev ## run the checks without the tests
	@$(VENV) -m ruff check
	@$(VENV) -m ruff format --check
	@$(VENV) -m mypy batches batchproject manage.py
	@$(VENV) manage.py makemigrations --check --dry-run

docs: var/docs/installed ## build the documentation as a site in var/docs/site; warnings are errors
	@var/docs/venv/bin/sphinx-build --quiet --fail-on-warning --keep-going docs var/docs/site
	@echo "Open var/docs/site/index.html"

reference: .venv/installed-dev ## update the page of the commands after a change of their options or help
	@$(VENV) docs/reference/write_commands.py

schema: .venv/installed-dev ## update docs/reference/openapi.yaml after a change of the API
	@$(VENV) manage.py spectacular --custom-settings batches.api.docs.SETTINGS --validate --fail-on-warn --file docs/reference/openapi.yaml

messages: .venv/installed-dev ## update the catalogue of translations after a change of texts; needs GNU gettext
	@$(VENV) -m batches.tests.support.messages
	@echo "Translate the empty and fuzzy texts in $(TRANSLATIONS).po"

lock: .venv/installed ## update requirements.lock, the versions and hashes of the deployed packages
	@$(PIP) install "uv>=0.9"
	@$(VENV) -m uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --upgrade \
	  --custom-compile-command "make lock" $(DEPLOYED) --output-file requirements.lock

matrix: .venv/installed ## run the fast tests on SQLite with each Python and Django (tox.ini) that is installed here
	@$(PIP) install "tox>=4.21"
	@$(VENV) -m tox

fuzz: .venv/installed-dev ## make more than 12,000 random API calls, half of them on each database
	@FUZZ_EXAMPLES=$(FUZZ_EXAMPLES) $(VENV) -m pytest --quiet -s -m "" batches/tests/api/test_fuzzing.py

bench: .venv/installed-dev var/bench/installed ## measure against other queues and readers (3 hours; continues where it stopped; ROWS="feeds", SMALL=1)
	@$(VENV) -m benchmarks $(ROWS) $(if $(SMALL),--small)

screenshots: .venv/installed-dev ## take the README's screenshots with Chromium
	@$(VENV) -m docs.screenshots.take

stress: .venv/installed-dev ## kill, freeze and starve the queue for an hour and check that nothing is lost or done twice (SEED=… repeats a run)
	@$(VENV) -m stress --mutants all $(if $(SEED),--seed $(SEED))

# In a clone, because Cosmic Ray changes the files themselves.
mutants: .venv/installed-dev ## change the core in 2,600 places and list what no test noticed (hours; continues where it stopped)
	@$(PIP) install -r requirements-mutants.txt
	@test -d var/mutants || git clone --quiet --local . var/mutants
	@ln -sfn ../../.venv var/mutants/.venv
	@cd var/mutants && git checkout --quiet -- batches && { test -f $(SESSION) || { \
	  $(COSMIC_RAY) baseline mutants.toml && \
	  $(COSMIC_RAY) init mutants.toml $(SESSION) && .venv/bin/cr-filter-operators $(SESSION) mutants.toml; }; }
	@cd var/mutants && $(COSMIC_RAY) exec mutants.toml $(SESSION)
	@cd var/mutants && .venv/bin/cr-report --surviving-only --show-diff $(SESSION)
	@cd var/mutants && .venv/bin/python -c "$(COUNT_MUTANTS)"

clean: ## remove .venv and all caches; keep the database in var/
	rm -rf .venv .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp files are as old as the last installation, so newer requirements are installed again.
.venv/installed: requirements.txt
	@$(VENV) -m pip --version >/dev/null 2>&1 || { $(MAKE_VENV); }
	@echo "Installing $< into .venv"
	@$(PIP) install -r $< && touch $@

.venv/installed-dev: requirements-dev.txt $(DEPLOYED) .venv/installed
	@echo "Installing $< into .venv"
	@$(PIP) install -r $< && touch $@

$(TRANSLATIONS).mo: $(TRANSLATIONS).po .venv/installed
	@$(PIP) install "babel>=2.17"
	@.venv/bin/pybabel --quiet compile --locale de --input-file $< --output-file $@

# In a separate environment, so that the tests need no builder.
var/docs/installed: requirements-docs.txt .venv/installed
	@echo "Installing $< into var/docs/venv"
	@test -x var/docs/venv/bin/python || $(VENV) -m venv var/docs/venv
	@var/docs/venv/bin/python -m pip --disable-pip-version-check --quiet install -r $< && touch $@

# Skips packages that cannot be installed here; their rows say so.
var/bench/installed: benchmarks/requirements.txt benchmarks/package.json
	@echo "Installing $^ into var/bench"
	@test -x var/bench/venv/bin/python || $(VENV) -m venv var/bench/venv
	@var/bench/venv/bin/python -m pip --disable-pip-version-check --quiet install -r $< || grep '^[a-z]' $< | \
	  xargs -n 1 var/bench/venv/bin/python -m pip --disable-pip-version-check --quiet install || true
	@mkdir -p var/bench/node && cp benchmarks/package.json var/bench/node/
	@npm --prefix var/bench/node install --silent --no-fund --no-audit || echo "Cannot measure graphile-worker: npm is missing."
	@touch $@

# Debian and Ubuntu ship Python without ensurepip, which venv needs. A good Python has both.
GOOD_PYTHON := import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))
define MAKE_VENV
for python in python3.13 python3.12 python3.11 python3; do \
	  "$$python" -c "$(GOOD_PYTHON)" >/dev/null 2>&1 && exec "$$python" -m venv --clear .venv; \
	done; \
	echo "Python 3.11 or newer with its venv module is needed. Install it with" \
	  "'apt install python3-venv' (Debian, Ubuntu), 'dnf install python3' (Fedora) or 'brew install python' (macOS)." >&2; \
	exit 1
endef
