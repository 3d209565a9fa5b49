# make run: the agent, in the foreground. make test: all tests. Both make what they need.
# Another Python: make clean, then make run PYTHON=python3.12.

PYTHON = python3
VENV = .venv
CONFIG = etc/xohook.ini

BIN = $(VENV)/bin
# The client is a wheel of its own, which the agent's wheel depends on.
CLIENT = ./packaging/client
SOURCES := pyproject.toml README.rst LICENSE $(wildcard $(CLIENT)/*) \
	$(shell find src twisted -name '*.py' -o -name py.typed)
DRAWING = docs/window.svg

.PHONY: run test test-packages lint types coverage bench soak vm docs news wheel clean

run: $(VENV)/with-agent
	@echo
	@$(BIN)/xohook setup -c $(CONFIG)
	@echo
# On a terminal the agent gets a process group of its own (set -m), and Control-C ends it and not
# make, which would call that an error. twistd then ends by the signal itself, with status 130.
	@if test -t 0; then set -m; fi; trap : INT; \
		$(BIN)/twistd -n --pidfile= xohook -c $(CONFIG) || test $$? -eq 130

test: $(VENV)/with-test
	$(BIN)/python -m tests

# Debian's packages that some tests need, and are skipped without. Root installs them.
test-packages:
	@packages=$$($(PYTHON) tests/needs.py) || exit; \
	command="apt-get install --no-install-recommends $$packages"; \
	if [ "$$(id -u)" = 0 ]; then echo "$$command"; $$command; \
	else echo 'Run as root:'; echo "$$command"; fi

lint: $(VENV)/with-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(VENV)/with-dev
	$(BIN)/mypy

# Branch coverage of the pure modules that pyproject.toml lists, by the tests beside them.
coverage: $(VENV)/with-test
	$(BIN)/coverage erase
	$(BIN)/coverage run -m twisted.trial --temp-directory=_trial_temp_coverage \
		$(subst /,.,$(patsubst %.py,%,$(filter-out tests/integration/%, \
			$(wildcard tests/test_*.py tests/*/test_*.py))))
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

bench: $(VENV)/with-test
	$(BIN)/python -m bench

soak: $(VENV)/with-test
	$(BIN)/python -m soak

# As root: the agent under systemd in virtual machines. ARGS='-k killed' runs what has that name.
vm: $(VENV)/with-test
	$(BIN)/python -m tests.vm $(ARGS)

docs: $(DRAWING)

$(DRAWING): src/xohook/window/machine.py src/xohook/window/inputs.py docs/draw_window.py | $(VENV)/with-agent
	$(BIN)/python docs/draw_window.py

news: $(VENV)/with-dev
	$(BIN)/towncrier build --draft

wheel: $(VENV)/with-agent
	$(BIN)/pip wheel --quiet --no-deps --wheel-dir dist . $(CLIENT)

clean:
	rm -rf .venv build dist _trial_temp* .coverage* .mypy_cache .ruff_cache .hypothesis .cache
	find . -name __pycache__ -prune -exec rm -rf {} +
	rm -f twisted/plugins/dropin.cache

# A stamp is made when its step has succeeded, so that one which broke off is made again.
# What has the development's tools has the tests' too, and what has those has the agent.
$(VENV)/with-agent: $(VENV)/made $(SOURCES)
	$(BIN)/pip install --quiet $(CLIENT) .
	@touch $@

$(VENV)/with-test: $(VENV)/made $(SOURCES)
	$(BIN)/pip install --quiet $(CLIENT) '.[test]'
	@touch $@ $(VENV)/with-agent

$(VENV)/with-dev: $(VENV)/made $(SOURCES)
	$(BIN)/pip install --quiet $(CLIENT) '.[dev]'
	@touch $@ $(VENV)/with-test $(VENV)/with-agent

$(VENV)/made:
	@command -v $(PYTHON) >/dev/null || \
		{ echo 'There is no $(PYTHON) here: apt install python3, or name one: PYTHON=...' >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo '$(PYTHON) is older than 3.10, which xohook needs: name another, PYTHON=...' >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv; ensurepip.version()' 2>/dev/null || \
		{ echo '$(PYTHON) cannot make virtual environments: apt install $(notdir $(PYTHON))-venv' >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	@touch $@
