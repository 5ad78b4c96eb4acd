# Every target is one line. On Windows, or without make: python -m minilm.setup lab   (or test)
PYTHON ?= $(shell command -v python3 || command -v python || echo python3)

.PHONY: help lab test doctor lock

help:  ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' Makefile
lab:  ## set up, then open the course in JupyterLab (ARGS="--port 9000 --no-browser")
	@$(PYTHON) -m minilm.setup lab $(ARGS)
test:  ## set up, then run everything that must pass: ruff, the notebooks, the tests
	@$(PYTHON) -m minilm.setup test $(ARGS)
doctor:  ## say what is present, what is missing, what to do
	@$(or $(wildcard .venv/bin/python),$(PYTHON)) -m minilm.doctor $(ARGS)
lock:  ## write requirements.lock anew from the ranges in pyproject.toml (needs uv; add ARGS=--upgrade for newer pins)
	@uv pip compile --quiet pyproject.toml -o requirements.lock $(ARGS)
