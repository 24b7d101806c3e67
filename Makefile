# `make demo` and `make test` work as the very first command after `git clone`: they create .venv and install into it.

.DEFAULT_GOAL := help
.PHONY: help demo test test-account test-kernel check test-nightly chaos bench bench-failover bench-allocation bench-frameworks bench-kernel bench-docker bench-keys bench-history docs fmt lock clean

# Results must not depend on Python's variables in the environment. PYTHON stays: it names the interpreter for .venv.
unexport $(filter-out PYTHON,$(filter PYTHON%,$(.VARIABLES)))

BIN := .venv/bin
PACKAGES := $(patsubst %/__init__.py,%,$(wildcard */offerd*/__init__.py))
SCRIPTS := $(wildcard deploy/*.sh deploy/*/*.sh tests/*.sh)
# More options for pytest: make test ARGS='-k drf -x'
ARGS ?=

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-17s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: ## start a cluster on this host, run MapReduce and MPI jobs on it, stop it again
	@deploy/bootstrap.sh venv web
	@$(BIN)/offerd demo $(ARGS)

test: ## run every test (as root, also install the Debian packages they need)
	@deploy/bootstrap.sh packages
	@deploy/bootstrap.sh venv dev
	@OFFERD_SIM_SEEDS=1000 $(if $(ARGS),$(BIN)/pytest $(ARGS),tests/parts.sh $(BIN)/python)

test-account: ## run the tests that differ for an ordinary account (tests/account.txt; .ci/account runs this as a new account)
	@deploy/bootstrap.sh venv dev
	@tests/parts.sh $(BIN)/python $$(sed 's/#.*//' tests/account.txt)

test-kernel: ## run the tests of cgroup v2, here or in a guest booted for them (part of test)
	@deploy/bootstrap.sh packages
	@deploy/bootstrap.sh venv dev
	@$(BIN)/pytest tests/kernel $(ARGS)

test-nightly: ## run the long tests: simulated clusters with 20,000 seeds (half an hour), a million hostile messages, 200 containers in a row, slaves killed at every step, systemd's units, MapReduce over 1 GB
	@deploy/bootstrap.sh venv dev
	@OFFERD_SIM_SEEDS=20000 OFFERD_CONTAINERS=200 $(BIN)/pytest -q tests/sim \
		tests/e2e/docker/test_docker_run.py::test_containers_in_a_row_leave_nothing $(ARGS)
	@OFFERD_FUZZ_MESSAGES=1000000 $(BIN)/pytest -q tests/e2e/test_fuzz.py tests/unit/test_fuzz.py $(ARGS)
	@OFFERD_ALL_STEPS=1 $(BIN)/pytest -q tests/kernel/test_cluster_deaths.py $(ARGS)
	@deploy/bootstrap.sh packages systemd dbus-user-session
	@OFFERD_SYSTEMD=1 $(BIN)/pytest -q tests/kernel/test_systemd.py tests/kernel/test_systemd_keys.py $(ARGS)
	@OFFERD_ALL_COMMANDS=1 $(BIN)/pytest -q tests/e2e/test_docs_commands.py $(ARGS)
	@OFFERD_FRAMES=1 $(BIN)/pytest -q tests/e2e/test_page_many.py -k smoothly $(ARGS)
	@OFFERD_MAPREDUCE_MB=700 $(BIN)/pytest -q tests/e2e/test_mapreduce.py $(ARGS)

check: ## check format, lint, types, tidiness, layering, deploy scripts and Vagrantfile
	@deploy/bootstrap.sh venv dev
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy $(PACKAGES) tests $(wildcard bench)
	$(BIN)/pytest -q tests/unit/test_tidy.py tests/unit/test_layout.py
	for script in $(SCRIPTS); do sh -n $$script || exit 1; done
	for script in .ci/*; do bash -n $$script || exit 1; done
	if command -v shellcheck >/dev/null; then shellcheck -x .ci/* $(SCRIPTS); fi
	if command -v vagrant >/dev/null; then vagrant validate --ignore-provider; fi

bench: ## measure rates, latencies and memory, compared with baselines (writes bench/results.md)
	@deploy/bootstrap.sh venv dev
	@$(BIN)/python bench/run.py

bench-frameworks: ## measure MapReduce and MPI, compared with plain tools
	@deploy/bootstrap.sh venv dev
	@$(BIN)/python bench/run.py --suite frameworks

bench-allocation: ## measure the master's core with 50,000 slaves, and a probe task among as many simulated ones
	@deploy/bootstrap.sh venv dev
	@$(BIN)/python bench/run.py --suite allocation

chaos: ## inject random faults into a real cluster for five minutes; every one of 10,000 tasks must end exactly once
	@deploy/bootstrap.sh packages
	@deploy/bootstrap.sh venv dev
	@PYTHONPATH=tests $(BIN)/python -m chaos $(ARGS)

bench-failover: ## measure fail-over of masters, slaves and schedulers, up to 4,000 slaves
	@deploy/bootstrap.sh venv dev
	@$(BIN)/python bench/run.py --suite failover

bench-kernel: ## measure the cost of a cgroup for each task (here or in a guest)
	@deploy/bootstrap.sh packages
	@deploy/bootstrap.sh venv dev
	@$(BIN)/python bench/run.py --suite kernel

bench-docker: ## measure the module docker, compared with `docker run` and the module noop (as root)
	@deploy/bootstrap.sh venv dev
	@$(BIN)/python bench/run.py --suite docker

bench-keys: ## measure the cost of keys, compared with a cluster without them
	@deploy/bootstrap.sh venv dev
	@$(BIN)/python bench/run.py --suite keys

bench-history: ## measure what the gateway's history costs for each task, in a file of 1 GiB
	@$(BIN)/python bench/run.py --suite history

docs: ## build the documentation and the SDK's reference as a site, in build/docs
	@deploy/bootstrap.sh venv dev
	@$(BIN)/mkdocs build --quiet
	@echo "see build/docs/index.html"

fmt: ## format the code, and fix what the linter can fix
	@deploy/bootstrap.sh venv dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: ## renew the versions and hashes that are installed on hosts (deploy/*.lock)
	@deploy/bootstrap.sh venv dev
	@$(BIN)/pip install --quiet uv
	@for name in build requirements; do \
		case $$name in build) from=deploy/build.in ;; *) from="-c deploy/build.lock --extra web pyproject.toml" ;; esac; \
		sed '/^[^#]/,$$d' deploy/$$name.lock >deploy/$$name.lock.new && \
		$(BIN)/uv pip compile --quiet --upgrade --universal --generate-hashes --python-version 3.11 --no-header \
			$$from >>deploy/$$name.lock.new && mv deploy/$$name.lock.new deploy/$$name.lock || exit 1; \
	done

clean: ## remove .venv, caches and build results
	rm -rf .venv build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .vagrant
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
