# `make demo` and `make test` work as the first command on a fresh clone: they create .venv and install into it.
PYTHON ?= python3
# Tested versions, if wanted: make setup CONSTRAINTS=constraints.txt
CONSTRAINTS ?=
# How many stored evaluations `make bench` measures pages with, on PostgreSQL; a tenth on SQLite.
EVALUATIONS ?= 1000000
# What `make demo` and `make serve` store lies in the checkout; another home is a variable away.
export QUANTRANK_HOME ?= $(CURDIR)/.quantrank

BIN := .venv/bin
CORES := $(shell nproc 2>/dev/null || sysctl -n hw.ncpu 2>/dev/null || echo 1)

# Where `make secrets` writes what docker-compose.yml reads.
SECRETS ?= secrets

.PHONY: slow setup demo serve test rehearse check format bench accuracy secrets fuzz screenshots clean

setup: .venv/installed

.venv/installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable ".[dev]" $(if $(CONSTRAINTS),--constraint $(CONSTRAINTS))
	touch $@

demo: setup
	$(BIN)/quantrank search --task digits --parameter-budget 20000 --depths 8,14,20,11,29 --watch
	@echo "The same leaderboard as a page: make serve, then http://127.0.0.1:8000"

serve: setup
	$(BIN)/quantrank serve --workers $(CORES)

test: setup
	$(BIN)/python -m pytest -n $(CORES) --dist worksteal

# What `make test` leaves out as slow by nature: searches on a real Ray cluster, the memory that training takes, networks
# of 110 layers, kernels built afresh, requests by Schemathesis, processes that crash, hang, are paused or killed, servers
# and databases that go away and come back. Some ten minutes.
slow: setup
	$(BIN)/python -m pytest -n $(CORES) --dist worksteal -m slow --ignore tests/service/test_rehearsal.py

# All that docker-compose.yml starts, a Ray cluster too, as processes of this host.
rehearse: setup
	$(BIN)/python -m pytest tests/service/test_rehearsal.py -m "slow or not slow"

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# About half an hour; figures mean something only on a machine that does nothing else. Brevitas joins where installed:
# .venv/bin/pip install -e ".[bench]"
bench: setup
	$(BIN)/python -W ignore benchmarks/run.py
	$(BIN)/python -W ignore benchmarks/scale.py --database postgresql --evaluations $(EVALUATIONS)
	$(BIN)/python -W ignore benchmarks/scale.py --database sqlite --evaluations $(shell expr $(EVALUATIONS) / 10)

# Whether precision and path change what networks learn: about 40 minutes on two cores.
accuracy: setup
	$(BIN)/python benchmarks/accuracy.py

# What docker-compose.yml's services prove themselves with; what is there stays. Containers read the files as users of
# their own, so everybody may; the folder keeps out whoever else is on this host.
SECRET_FILES := $(addprefix $(SECRETS)/,postgres_password bootstrap_key ray_token)

secrets: $(SECRET_FILES)

$(SECRET_FILES):
	install -d -m 700 $(@D)
	head -c 32 /dev/urandom | od -An -v -t x1 | tr -d ' \n' > $@.new
	chmod 644 $@.new
	mv $@.new $@

# Ten thousand requests by Schemathesis, as /openapi.json describes them: about ten minutes.
fuzz: setup
	$(BIN)/python tests/fuzz/run.py --cases 10000

# Of all pages, from a real run: some minutes. They are in docs/screenshots.
screenshots: setup
	$(BIN)/python docs/screenshots.py

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv .quantrank build dist
