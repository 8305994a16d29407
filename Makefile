# The CKAN version: `make test CKAN=2.11`. Arguments for pytest: `make test ARGS="-k dump"`.
CKAN ?= 2.12
ARGS ?=
# What the demo site runs on: `make demo SERVER=asgi` for an ASGI server.
SERVER ?= wsgi
# How long the worst day is: `make torture MINUTES=60` tries three times as much.
MINUTES ?= 20
PROJECT ?=
BUCKET ?=

export STACK_CKAN := $(CKAN)
export STACK_SERVER := $(SERVER)
I18N := ckanext/bigquery_datastore/i18n
DOMAIN := $(I18N)/ckanext-bigquery_datastore
BIN := .stack/venv-$(CKAN)/bin
IN_STACK := . .stack/env-$(CKAN) &&

.DEFAULT_GOAL := help
.PHONY: help stack services restart stop status demo test core-suite live torture bench check docs release-check messages clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

stack: ## bring up everything, the demo site included; writes .stack/env for a shell
	@dev/stack up

services: ## everything but the demo site: what the tests need
	@dev/stack up services

restart: ## the demo site and its workers alone, to run changed code
	@dev/stack restart

stop: ## end what was started here, and nothing else
	@dev/stack down

status: ## what runs
	@dev/stack status

demo: stack ## load real data, download it as a visitor would, compare every row
	@$(IN_STACK) python dev/demo.py

test: services ## the tests, against the running stack
	@$(IN_STACK) pytest $(ARGS)

core-suite: services ## CKAN's own DataStore tests, on BigQuery
	@$(IN_STACK) python dev/core_suite.py $(ARGS)

live: services ## everyday actions on Google, measured: PROJECT=… BUCKET=…; without them, on the emulators
	@$(IN_STACK) python dev/live.py $(if $(PROJECT),--project $(PROJECT)) $(if $(BUCKET),--bucket $(BUCKET))

torture: services ## the worst day in twenty minutes (MINUTES=60: more of it): killed anywhere, faults, crowds, abuse, fuzz; a table (STORAGE=… compares)
	@$(IN_STACK) pytest ckanext/bigquery_datastore/tests/torture --minutes $(MINUTES) --ledger docs/developers/torture.md $(if $(STORAGE),--storage $(STORAGE)) $(ARGS)

bench: stack ## how fast, how large, how cheap, side by side with CKAN's core; a table, JSON, pictures
	@$(IN_STACK) python -m benchmarks $(ARGS)

check: ## style, types, imports, documentation; needs no service
	@dev/stack up venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports --no-logo
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict
	$(BIN)/pytest -o addopts= -p no:ckan -p no:ckan_fixtures -p no:pytest_ckan -p no:bqemulator -q ckanext/bigquery_datastore/tests/test_docs.py

docs: ## the documentation, at http://127.0.0.1:8000 until it is stopped
	@dev/stack up venv
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve --dev-addr 127.0.0.1:8000

release-check: ## build sdist and wheel, install each into an empty venv, try it
	@dev/stack up venv
	$(BIN)/python dev/release.py

messages: ## collect the strings to translate; compile the translations
	$(BIN)/pybabel -q extract -F babel.cfg --omit-header --no-location --sort-output -o $(DOMAIN).pot .
	for po in $(I18N)/*/LC_MESSAGES/*.po; do \
		$(BIN)/pybabel -q update --ignore-pot-creation-date --no-fuzzy-matching -i $(DOMAIN).pot -o $$po -l $$(basename $$(dirname $$(dirname $$po))) && \
		$(BIN)/pybabel -q compile -i $$po -o $${po%.po}.mo || exit 1; \
	done

clean: stop ## stop, and remove all that the stack keeps
	@dev/stack clean
