# The book's commands. Each sets up .venv first when it is missing or pyproject.toml or constraints.txt changed.
PYTHON ?= python3
PROFILE ?= quick
CHAPTER ?=
TORCH_INDEX_URL ?=
REPOSITORY ?=
PORT ?= 8000
CASES ?= 10000

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help reproduce book serve test fuzz soak audit lab data lint format notebooks picture bench native constraints \
        clean distclean

py := .venv/bin/python
ready := .venv/.installed
extras := book,cluster,test

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' Makefile
	@echo "PYTHON=python3.12 takes another Python (3.11.5 or newer). TORCH_INDEX_URL=... installs torch from the index"
	@echo "that PyTorch's install page shows for your machine; without it Linux on x86-64 gets a CUDA build of several GB."

reproduce: $(ready) ## run the chapters that changed; PROFILE=quick (or laptop, gpu, paper, my.toml), CHAPTER=02, FORCE=1
	@$(py) -m ssconv_lib reproduce --profile "$(PROFILE)" $(addprefix --chapter ,$(CHAPTER)) $(if $(FORCE),--force)

book: $(ready) ## build the site, after the chapters that changed: build/site; PROFILE=, REPOSITORY=https://github.com/…
	@$(py) -m ssconv_lib site --profile "$(PROFILE)" $(if $(REPOSITORY),--repository "$(REPOSITORY)")

serve: $(ready) ## show the site at http://localhost:8000, to this machine alone; PORT=8001
	@$(py) -m ssconv_lib site --serve --port "$(PORT)"

test: $(ready) ## run the tests
	@$(py) -m pytest --numprocesses 2 --dist loadscope --no-loadscope-reorder --ignore tests/test_native.py
	@$(py) -m pytest tests/test_native.py

fuzz: $(ready) ## the tests of bad input with 10,000 cases each, which takes an hour; CASES=1000
	@SSCONV_FUZZ="$(CASES)" $(py) -m pytest tests/test_fuzz.py --timeout 7200

soak: $(ready) ## faults at every moment, odd machines, 100 signals to the commands, an hour of training: two hours in all
	@SSCONV_FAULTS=all $(py) -m pytest tests/test_faults.py --timeout 7200
	@SSCONV_MACHINES=all $(py) -m pytest tests/test_machines.py
	@$(py) tests/soak.py signals --times 100
	@$(py) tests/soak.py train --seconds 3600

audit: $(ready) ## look the pinned packages up among known security holes; needs the network, and pip-audit in build/audit
	@test -x build/audit/bin/pip-audit || { $(py) -m venv build/audit && build/audit/bin/pip install --quiet pip-audit; }
	@build/audit/bin/pip-audit --requirement constraints.txt --no-deps --disable-pip --strict

lab: $(ready) ## open the chapters in JupyterLab
	@$(py) -m jupyterlab --LabApp.default_url=/lab/tree/book

data: $(ready) ## fetch and check CIFAR-10, or say which file to put where
	@$(py) -m ssconv_lib data

lint: $(ready) ## check style
	@$(py) -m ruff check .
	@$(py) -m ruff format --check .

format: $(ready) ## put right what the style check can
	@$(py) -m ruff check --fix .
	@$(py) -m ruff format .

notebooks: $(ready) ## write book/*.ipynb anew from book/*.py, without outputs
	@$(py) -m jupytext --quiet --to ipynb --update book/*.py
	@$(py) -m nbconvert --log-level=WARN --clear-output --inplace book/*.ipynb

picture: $(ready) ## make the README's pictures and what it says of the results anew, from quick and laptop
	@$(py) -m ssconv_lib reproduce --profile quick --chapter 02
	@$(py) -m ssconv_lib reproduce --profile laptop
	@$(py) -m ssconv_lib.frontpage

bench: $(ready) ## measure speed and memory beside plain convolution: laptop's plan, 15 minutes
	-@$(py) -m ssconv_lib build
	@$(py) -m ssconv_lib bench --profile laptop

native: $(ready) ## compile the layer's fast path for this machine's processor, once; needs a C++ compiler
	@$(py) -m ssconv_lib build

constraints: $(ready) ## pin what .venv holds in constraints.txt
	@{ echo "# What .venv held when the tests last passed: written by make constraints. torch, torchvision and what"; \
	  echo "# comes with their CUDA builds are left out: which build fits depends on the machine."; \
	  $(py) -m pip freeze --exclude-editable | grep -viE '^(torch|torchvision|triton|nvidia-.*|cuda-.*)='; \
	  sed -n '/^# Python/p; / ; /p' constraints.txt; \
	} > .constraints.tmp
	@mv .constraints.tmp constraints.txt
	@touch $(ready)

clean: ## remove caches, build output and the results of quick
	@rm -rf build dist *.egg-info .pytest_cache .ruff_cache .hypothesis .constraints.tmp results/quick
	@find . \( -path ./.venv -o -path ./.git -o -path ./data -o -path ./results/records \) -prune \
	  -o \( -name __pycache__ -o -name .ipynb_checkpoints \) -type d -prune -exec rm -rf {} +
	@echo "Left: data/, results/ but for quick's tables, figures and notebooks (records of every run stay), .venv (make distclean)."

distclean: clean ## clean, and remove .venv
	@rm -rf .venv

$(ready): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11, 5))' 2>/dev/null || { \
	  echo "This needs Python 3.11.5 or newer; $(PYTHON) is $$($(PYTHON) --version 2>/dev/null || echo not there)." >&2; \
	  echo "Name another one: make PYTHON=python3.12 ..." >&2; exit 1; }
	@test -x $(py) || { echo "Making .venv and installing into it: once, some minutes."; $(PYTHON) -m venv .venv; } \
	  || { rm -rf .venv; exit 1; }
	$(if $(TORCH_INDEX_URL),$(py) -m pip install --index-url "$(TORCH_INDEX_URL)" torch torchvision)
	$(py) -m pip install --disable-pip-version-check -c constraints.txt -e '.[$(extras)]'
	@touch $@
