# make demo   a virtual environment, the package, and a first network trained on bundled images
# make test   the test suite;  make lint   style and types;  make bench   side by side with peers
# make test-slow   whole networks in both precisions, and studies killed and gone on with
# make study  a study from nothing to a compiled table: STUDY=shortcut, into studies/shortcut
# make test-browser, make test-latex   what reports look like in Chromium and on paper; they install
#             Debian's chromium and TeX Live where these are missing
# make test-slurm   a study on a SLURM of its own, which it installs where it is missing

DEMO := lenet5_fashion_mnist_12k
# Passed on to the demo, such as DEMO_SET="--set schedule.epochs=1".
DEMO_SET :=
STUDY := shortcut
# Test processes; each compiles for itself.
TEST_PROCESSES := 2

PYTHON := .venv/bin/python
STAMP := .venv/.installed
# The first Python that is new enough; pyenv follows .python-version by itself.
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 12))

.PHONY: demo test test-slow lint bench study latex test-browser test-latex test-slurm

demo: $(STAMP)
	$(PYTHON) -m cnnjax train $(DEMO) $(DEMO_SET)

# What was stopped goes on where it was; what is finished is not run again.
study: $(STAMP) latex
	$(PYTHON) -m cnnjax ablate $(STUDY) --out studies/$(STUDY)
	$(PYTHON) -m cnnjax compare studies/$(STUDY)
	cd studies/$(STUDY)/report && pdflatex -interaction=batchmode -halt-on-error table_page.tex

test: $(STAMP)
	$(PYTHON) -m pytest -n $(TEST_PROCESSES) --dist worksteal

test-slow: $(STAMP)
	$(PYTHON) -m pytest -n $(TEST_PROCESSES) --dist worksteal -m slow

lint: $(STAMP)
	$(PYTHON) -m ruff check
	$(PYTHON) -m ruff format --check
	$(PYTHON) -m mypy

# The peers have an environment of their own: torch and torchvision fit together on Python 3.11.
PEERS := .peers/bin/python
bench: $(STAMP) $(PEERS)
	for name in start lowerings portions overhead remat study_processes neocognitron_shifts; do \
	  $(PYTHON) tests/benchmarks/$$name.py || exit 1; done
	$(PYTHON) tests/benchmarks/side_by_side.py --peer $(PEERS) --plain

$(PEERS):
	python3.11 -m venv .peers
	$(PEERS) -m pip install --quiet torch==2.14.1 torchvision==0.29.1 timm

# Packages of Debian or Ubuntu, as root or through sudo.
APT = $(if $(filter 0,$(shell id -u)),,sudo )apt-get
INSTALL = $(APT) update --quiet && $(APT) install --yes --quiet --no-install-recommends

test-browser: $(STAMP)
	{ command -v chromium || command -v chromium-browser || command -v google-chrome; } >/dev/null \
	  || { $(INSTALL) chromium; }
	$(PYTHON) -c 'import playwright' 2>/dev/null || $(PYTHON) -m pip install --quiet playwright
	$(PYTHON) -m pytest tests/browser

latex:
	@{ command -v pdflatex && command -v pdftotext && kpsewhich booktabs.sty lmodern.sty; } \
	  >/dev/null 2>&1 \
	  || { $(INSTALL) texlive-latex-base texlive-latex-recommended lmodern poppler-utils; }

test-latex: $(STAMP) latex
	$(PYTHON) -m pytest tests/latex

test-slurm: $(STAMP)
	{ command -v sbatch && PATH="$$PATH:/usr/sbin" command -v slurmctld slurmd munged; } >/dev/null \
	  || { $(INSTALL) slurm-wlm munge; }
	$(PYTHON) -m pytest tests/slurm

$(STAMP): pyproject.toml
	@found=; for python in python3.12 python3.13 python3.14 python3 python; do \
	  if $$python -c '$(NEW_ENOUGH)' 2>/dev/null; then found=$$python; break; fi; done; \
	if [ -z "$$found" ]; then \
	  echo "cnnjax needs Python 3.12 or newer, and none is on the PATH. With pyenv:" >&2; \
	  echo "    pyenv install $$(cat .python-version)" >&2; exit 1; fi; \
	$$found -m venv .venv
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@
