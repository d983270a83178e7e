# make help lists the targets. Variables: PYTHON (interpreter of .venv), TORCH=cpu|cuda|none,
# STORE=URL (demo and up), PRESET and HOST (loadtest), UPGRADE=1 (lock), ARGS (passed on to pytest,
# bench and loadtest).

PYTHON ?= python3
TORCH ?=
STORE ?=
PRESET ?= smoke
HOST ?=
UPGRADE ?=
ARGS ?=
BIN := .venv/bin
UV ?= uv
COMPILE = $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --excludes requirements/excluded.in

.DEFAULT_GOAL := help
.PHONY: help install demo test check bench bench-quick bench-training bench-feast up loadtest lock sbom clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "%-15s %s\n", $$1, $$2}' Makefile

install: ## make .venv with every command in .venv/bin (TORCH=cpu|cuda|none)
	@$(PYTHON) -m requirements.install $(if $(TORCH),--torch $(TORCH))

demo: install ## the whole main job on real input: pretrain, bundle, export, serve, ask (STORE=URL)
	$(BIN)/python -m keep.recipes.demo $(if $(STORE),--store $(STORE))

test: install ## the whole test suite (ARGS="-k store" for a part of it)
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal $(ARGS)

check: install ## static checks only: format, lint, types, import rules
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: install ## measure this machine and write docs/performance.md (ARGS="throughput" for a part)
	$(BIN)/python -m bench.run $(ARGS)

bench-quick: install ## whether the hot path became slower than recorded, in under a minute
	$(BIN)/python -m bench.quick $(ARGS)

bench-training: install ## training throughput beside another DIN, in .venv-peer; printed only (ARGS)
	$(BIN)/python -m bench.training $(ARGS)

bench-feast: install ## the service beside Feast, in .venv-feast (ARGS=--save keeps the figures)
	$(BIN)/python -m bench.feast $(ARGS)

up: install ## the service in the foreground on STORE (STORE=redis starts a Redis too); Ctrl-C stops it
	@deploy/up.sh $(STORE)

loadtest: install ## load test, PRESET=smoke|latency|stress, of a service it starts or of a running one (HOST=URL)
	$(BIN)/python -m loadtest.run $(PRESET) $(if $(HOST),--host $(HOST)) $(ARGS)

lock: ## pin what requirements/*.in asks for, with hashes; pins stay unless UPGRADE=1 (needs uv: pip install uv)
	$(COMPILE) $(if $(UPGRADE),--upgrade) requirements/dev.in -o requirements/dev.txt
	for name in service build zig exporter keep loadtest peer profile sbom; do \
	  $(COMPILE) -c requirements/dev.txt requirements/$$name.in -o requirements/$$name.txt || exit 1; \
	done
	$(COMPILE) $(if $(UPGRADE),--upgrade) requirements/feast.in -o requirements/feast.txt  # cannot share our pins

sbom: ## what gkc[all] is pinned to, as CycloneDX: gkc.cdx.json
	$(PYTHON) -m venv .venv-sbom
	.venv-sbom/bin/pip install --quiet --no-deps --require-hashes -r requirements/sbom.txt
	.venv-sbom/bin/cyclonedx-py requirements requirements/exporter.txt --pyproject pyproject.toml \
	  --output-reproducible -o gkc.cdx.json

clean: ## remove .venv, caches and built files; stores and data stay
	rm -rf .venv build dist gkc/librows.* .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
