# Thin: the work is in scripts/, which people and CI share. Every target makes or mends .venv first, if it must.
# Extra arguments: make test ARGS="-k episodes"
.DEFAULT_GOAL := help
.PHONY: help setup demo test slow bench check docs format clean

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' Makefile

setup:  ## make .venv, or bring it up to date
	@scripts/setup

demo:  ## see quickstudy at work: quickstudy demo; make demo DOMAIN=text, tabular, audio, video, graph or pointcloud
	@scripts/setup $(or $(DOMAIN),image)
	.venv/bin/quickstudy demo --domain $(or $(DOMAIN),image) $(ARGS)

test:  ## run the fast tests
	scripts/test $(ARGS)

slow:  ## run the slow tests, which take minutes each
	scripts/test -m slow $(ARGS)

bench: setup  ## measure speed, accuracy and parity with other libraries on this machine (about six hours)
	benchmarks/peers/setup.sh
	.venv/bin/python benchmarks/episodes.py
	-.venv/bin/python benchmarks/speed.py  # a missed target must not keep the rest from being measured
	-.venv/bin/python benchmarks/memory.py
	-.venv/bin/python benchmarks/parity/run.py
	.venv/bin/python benchmarks/omniglot_protonet.py
	-.venv/bin/python benchmarks/scaling.py
	-.venv/bin/python benchmarks/serve.py
	.venv/bin/python benchmarks/accuracy.py
	.venv/bin/python benchmarks/unknown.py

check:  ## lint, formatting and types
	scripts/check

docs:  ## write the pages that are made from the code, and build the site of docs
	scripts/docs

format: setup  ## format the code and mend what ruff can mend
	.venv/bin/ruff format
	.venv/bin/ruff check --fix

clean:  ## remove .venv, caches and builds; what you trained stays
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist site
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
