# The few commands of this project. `make help` prints them, from the text behind each `##`.
# A target that needs the virtual environment depends on $(READY), which is a no-op while nothing changed.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# The first Python of 3.11 or newer; set PYTHON to choose another.
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$python"; break; }; done)

# Processes of the quick suite. Two keep a small machine usable and the suite quick.
WORKERS ?= 2
PYTEST_ARGS ?=

.PHONY: help
help: ## show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: setup
setup: $(READY) ## virtual environment with locked, hash-checked dependencies

$(READY): requirements/dev.txt pyproject.toml
	@if [ -z "$(PYTHON)" ] || ! "$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
		echo "No Python 3.11 or newer was found ($(or $(PYTHON),python3) is $$("$(or $(PYTHON),python3)" -V 2>&1 || true))." >&2; \
		echo "  fix: install one, then run make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; exit 1; fi
	@if ! "$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null; then \
		echo "$(PYTHON) cannot make virtual environments." >&2; \
		echo "  fix: install its venv module (Debian and Ubuntu: the package python3-venv)" >&2; exit 1; fi
	@echo "Setting up $(VENV) with $$("$(PYTHON)" -V) (once; a minute or so)"
	@"$(PYTHON)" -m venv $(VENV)
	@# The lock is whole, so nothing is resolved here: some pips reach past it for a newer release and then refuse that.
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --require-hashes --no-deps -r requirements/dev.txt
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation -e .
	@$(BIN)/python -m pip check --disable-pip-version-check >/dev/null || $(BIN)/python -m pip check
	@touch $@

.PHONY: demo
demo: $(READY) ## the main job, end to end, in this terminal
	@$(BIN)/python tests/demo/run.py

.PHONY: demo-github
demo-github: $(READY) ## jobs of GitHub Actions in this terminal, with a server that stands in for GitHub
	@$(BIN)/python tests/demo/github.py

.PHONY: demo-promotion
demo-promotion: $(READY) ## a release of this repository through the promotion gate, with every wrong turn on the way
	@$(BIN)/python tests/demo/promotion.py

.PHONY: demo-cluster
demo-cluster: $(READY) ## the same as pods, on the cluster of KUBECONFIG or one of its own
	@CLUSTER="$$(realpath -m "$(CLUSTER)")" tests/demo/run-cluster

# No test touches the cluster that somebody works with by chance: only test-cluster looks at KUBECONFIG.
.PHONY: test
test: $(READY) ## the quick tests
	@env -u KUBECONFIG tests/twice $(BIN)/pytest -q -n $(WORKERS) --dist loadfile -m "not slow and not attack" $(PYTEST_ARGS)

.PHONY: test-slow
test-slow: $(READY) ## the tests that take longer than a few seconds
	@env -u KUBECONFIG tests/twice $(BIN)/pytest -q -m slow $(PYTEST_ARGS) || { code=$$?; \
		if [ $$code -eq 5 ]; then echo "no slow test is collected"; else exit $$code; fi; }

# Only a whole run that passed says something; CI looks whether the page in the repository is what it shows.
.PHONY: test-attacks
test-attacks: $(READY) ## attacks against a running daemon, and the page that tells what became of them
	@rm -f build/attacks.json
	@env -u KUBECONFIG $(BIN)/pytest -q -m attack tests/attacks $(PYTEST_ARGS)
	@$(BIN)/python tests/attacks/evidence.py $(if $(CI),--check)

# The folder with the programs that build, start and end a cluster on this machine.
CLUSTER ?= ../shared/cluster

.PHONY: test-cluster
test-cluster: $(READY) ## the Kubernetes tests, on the cluster of KUBECONFIG or on clusters of their own
	@CLUSTER="$$(realpath -m "$(CLUSTER)")" tests/cluster/run $(PYTEST_ARGS)

# Programs of others that run here, in an environment of their own. What cannot be had is left out, and said so.
build/interop/.ready: requirements/interop.txt | $(READY)
	@rm -rf build/interop/python
	@mkdir -p build/interop
	@$(BIN)/uv venv --quiet --python $(BIN)/python build/interop/python
	@if timeout 300 $(BIN)/uv pip install --quiet --python build/interop/python/bin/python --require-hashes --no-deps -r $<; \
		then touch $@; else echo "requirements/interop.txt CANNOT BE INSTALLED" >&2; rm -rf build/interop/python; fi

.PHONY: test-interop
test-interop: build/interop/.ready ## our tokens, audit log and metrics at programs of others: object store, web server, step-ca, Go, cosign, Prometheus, the clouds' own libraries
	@timeout 300 tests/interop/prepare build/interop || true
	@timeout 300 tests/interop/prepare-go build/interop || true
	@timeout 300 tests/interop/prepare-step-ca build/interop || true
	@timeout 300 tests/interop/prepare-prometheus build/interop || true
	@timeout 300 tests/interop/prepare-cosign build/interop >/dev/null || true
	@env -u KUBECONFIG tests/twice $(BIN)/pytest -q tests/interop $(PYTEST_ARGS)

# The browser's driver, beside the project's own packages and not among them. What cannot be had is said.
build/browser/.ready: requirements/browser.txt | $(READY)
	@rm -rf build/browser
	@mkdir -p build/browser
	@if timeout 300 $(BIN)/uv pip install --quiet --python $(BIN)/python --target build/browser/site --require-hashes --no-deps -r $<; \
		then touch $@; else echo "requirements/browser.txt CANNOT BE INSTALLED" >&2; rm -rf build/browser; fi

# Programs that drive a browser: left out LOUDLY where there is none; REQUIRE_BROWSER=1 makes that an error.
in_browser = @{ [ -e build/browser/.ready ] && timeout 600 tests/browser/prepare; } || { \
		printf '\n!!!!!!!! NOT TESTED: the page in a browser (see above) !!!!!!!!\n\n'; [ "$${REQUIRE_BROWSER:-}" != 1 ]; exit; }; \
	env -u KUBECONFIG PYTHONPATH=build/browser/site

.PHONY: test-browser
test-browser: build/browser/.ready ## the live page in real browsers, at a real daemon with real jobs
	@timeout 600 tests/browser/prepare || true # first: an installation that is cut short keeps the next from beginning
	@timeout 300 tests/browser/prepare firefox-esr || printf '\n!!!!!!!! NOT TESTED: the page in Firefox (see above) !!!!!!!!\n\n'
	$(in_browser) tests/twice $(BIN)/pytest -q tests/browser $(PYTEST_ARGS)

.PHONY: screenshots
screenshots: build/browser/.ready ## the pictures of the live page in docs/pictures again, of a real daemon with real jobs
	$(in_browser) $(BIN)/python tests/browser/screenshots.py

# Some 850 MB. What cannot be had is left out, and said so.
build/collector/.ready: requirements/collector.txt | $(READY)
	@rm -rf build/collector
	@mkdir -p build/collector
	@$(BIN)/uv venv --quiet --python $(BIN)/python build/collector/python
	@if timeout 240 $(BIN)/uv pip install --quiet --python build/collector/python/bin/python --require-hashes --no-deps -r $<; \
		then touch $@; else echo "requirements/collector.txt CANNOT BE INSTALLED" >&2; rm -rf build/collector/python; fi

.PHONY: test-collector
test-collector: build/collector/.ready ## our traces through a real collector to a real trace page, looked at by a browser
	@timeout 300 tests/browser/prepare || true
	@env -u KUBECONFIG tests/twice $(BIN)/pytest -q tests/collector $(PYTEST_ARGS)

.PHONY: lint
lint: $(READY) ## formatting, style, types and import directions
	@failed=; \
	for check in "ruff format --check" "ruff check" mypy lint-imports "hadolint images/*/Containerfile"; do \
		echo "== $$check"; \
		case $$check in ruff*) $(BIN)/$$check . ;; *) $(BIN)/$$check ;; esac || failed="$$failed [$$check]"; done; \
	[ -z "$$failed" ] || { echo "failed:$$failed" >&2; exit 1; }

.PHONY: format
format: $(READY) ## write the code as ruff wants it
	@$(BIN)/ruff check --fix --quiet .
	@$(BIN)/ruff format .

.PHONY: coverage
coverage: $(READY) ## the quick tests with line and branch coverage
	@$(BIN)/pytest -q -n $(WORKERS) --dist loadfile -m "not slow and not attack" --cov --cov-report=term --cov-report=html:build/coverage $(PYTEST_ARGS)

.PHONY: bench
bench: $(READY) ## each benchmark, as ratios measured in one run
	@mkdir -p build/bench
	@failed=; \
	for bench in tests/benchmarks/bench_*.py; do \
		name=$$(basename "$$bench" .py); echo "== $$name"; \
		timeout --kill-after=10 180 $(BIN)/python "$$bench" || failed="$$failed $$name"; done; \
	[ -z "$$failed" ] || { echo "failed:$$failed" >&2; exit 1; }

# Programs of others to measure beside, each in an environment of its own from its own lock.
PEERS := kubespawner airflow
PEER_LOCKS := tests/benchmarks/kubernetes/peers

# One that cannot be installed is left out, and the benchmark says so.
build/peers/%/.ready: $(PEER_LOCKS)/requirements-%.txt | $(READY)
	@rm -rf build/peers/$*
	@$(BIN)/uv venv --quiet --python $(BIN)/python build/peers/$*
	@if timeout 300 $(BIN)/uv pip install --quiet --python build/peers/$*/bin/python --require-hashes --no-deps -r $<; \
		then touch $@; else echo "$* CANNOT BE INSTALLED and is left out" >&2; rm -rf build/peers/$*; fi

# The cluster is ended whatever happens.
.PHONY: bench-kubernetes
bench-kubernetes: $(READY) $(PEERS:%=build/peers/%/.ready) ## the benchmarks on a real API server, beside two peers
	@if [ -z "$${KUBECONFIG:-}" ] && [ ! -x "$(CLUSTER)/up" ]; then \
		echo "bench-kubernetes: NOT RUN. There is neither KUBECONFIG nor $(CLUSTER)/up."; \
		echo "  fix: point KUBECONFIG to a cluster for measurements, or CLUSTER to the cluster programs"; \
		[ "$${REQUIRE_CLUSTER:-}" != 1 ] || exit 1; exit 0; fi; \
	if [ -z "$${KUBECONFIG:-}" ]; then \
		"$(CLUSTER)/build"; env=$$("$(CLUSTER)/up" --no-scheduler --controllers '*,-nodelifecycle'); eval "$$env"; \
		trap '"$(CLUSTER)/down"' EXIT; fi; \
	failed=; \
	for bench in jobs race scale; do echo "== $$bench"; \
		timeout --kill-after=10 1200 $(BIN)/python tests/benchmarks/kubernetes/$$bench.py || failed="$$failed $$bench"; done; \
	[ -z "$$failed" ] || { echo "failed:$$failed" >&2; exit 1; }

# The cluster, for jobs as pods, is ended whatever happens; without one that part is left out, and said so.
.PHONY: bench-github
bench-github: $(READY) ## the benchmarks of GitHub Actions: bursts in sandboxes and as pods, idle sets
	@failed=; \
	for bench in burst idle; do echo "== $$bench"; \
		timeout --kill-after=10 1200 $(BIN)/python tests/benchmarks/github/$$bench.py || failed="$$failed $$bench"; done; \
	if [ -z "$${KUBECONFIG:-}" ] && [ ! -x "$(CLUSTER)/up" ]; then \
		echo "bench-github: pods NOT RUN. There is neither KUBECONFIG nor $(CLUSTER)/up."; \
		echo "  fix: point KUBECONFIG to a cluster for measurements, or CLUSTER to the cluster programs"; \
		[ "$${REQUIRE_CLUSTER:-}" != 1 ] || failed="$$failed pods"; \
	else \
		if [ -z "$${KUBECONFIG:-}" ]; then \
			"$(CLUSTER)/build"; env=$$("$(CLUSTER)/up" --no-scheduler --controllers '*,-nodelifecycle'); eval "$$env"; \
			trap '"$(CLUSTER)/down"' EXIT; fi; \
		echo "== pods"; \
		timeout --kill-after=10 1200 $(BIN)/python tests/benchmarks/github/pods.py || failed="$$failed pods"; fi; \
	[ -z "$$failed" ] || { echo "failed:$$failed" >&2; exit 1; }

# Without buildah and root nothing is built, and said so; REQUIRE_IMAGES=1 makes that an error.
.PHONY: images
images: $(READY) ## container images from Debian's packages; BASE=name@sha256:... builds on another base
	@{ images/prepare && $(BIN)/python images/build $(if $(BASE),--base "$(BASE)"); } || { code=$$?; \
		[ $$code -eq 69 ] && [ "$${REQUIRE_IMAGES:-}" != 1 ] || exit $$code; echo "images: NOT BUILT"; }

.PHONY: docs
docs: $(READY) ## write the generated reference pages again
	@mkdir -p docs/reference
	@$(BIN)/orchestrator reference settings --output docs/reference/settings.md
	@$(BIN)/orchestrator reference cli --output docs/reference/cli.md
	@$(BIN)/orchestrator reference api --output docs/reference/api.md
	@$(BIN)/orchestrator reference lifecycle --output docs/pictures/lifecycle.svg
	@$(BIN)/python -m orchestrator.server.openapi > docs/reference/openapi.json

.PHONY: manifests
manifests: $(READY) ## write manifests/base, overlays and observability again
	@$(BIN)/python manifests/generate.py

# Not after $(READY), which fails while the lock lacks what pyproject.toml has just been given.
$(BIN)/uv:
	@$(MAKE) --no-print-directory setup

.PHONY: lock
lock: | $(BIN)/uv ## resolve the dependencies again, with hashes
	@lock="$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-emit-find-links --no-header"; \
	$$lock pyproject.toml --output-file requirements/runtime.txt; \
	$$lock pyproject.toml --extra dev --constraint requirements/runtime.txt --output-file requirements/dev.txt; \
	$$lock requirements/interop.in --output-file requirements/interop.txt; \
	$$lock requirements/collector.in --output-file requirements/collector.txt; \
	$$lock requirements/browser.in --constraint requirements/dev.txt --output-file requirements/browser.txt; \
	for peer in $(PEERS); do $$lock "$(PEER_LOCKS)/requirements-$$peer.in" --output-file "$(PEER_LOCKS)/requirements-$$peer.txt"; done

.PHONY: clean
clean: ## remove everything that was built, the virtual environment too
	@rm -rf $(VENV) build dist .coverage .coverage.* .hypothesis .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	@find orchestrator tests -type d -name __pycache__ -prune -exec rm -rf {} +
